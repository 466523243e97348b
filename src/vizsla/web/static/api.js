/**
 * The server's calls and what they answer (docs/design/0006-labelling-page.md).
 *
 * @typedef {{name: string, labelled: number, position: number}} Class
 * @typedef {{class: string, prob: number}} Guess
 * @typedef {{version: number, labels: number}} Model
 * @typedef {{value: number, low: number, high: number, checks: number}} Accuracy
 * @typedef {'scanning'|'embedding'|'waiting'|'idle'|'training'|'failed'} TrainingState
 * @typedef {{state: TrainingState, text: string, labels_to_next: number|null, done: number|null, total: number|null,
 *   error: string|null}} Training
 * @typedef {{text: string, stop: boolean}} Advice
 * @typedef {{total: number, unlabelled: number, labelled: number, skipped: number, flagged: number}} Counts
 * @typedef {{id: string, name: string, version: string, classes: Class[], counts: Counts, model: Model|null,
 *   accuracy: Accuracy|null, checks: {done: number, needed: number}, training: Training, advice: Advice|null,
 *   suspects: number, notice: string|null, guidelines: string, annotator: string, read_only: boolean, strategy: string}} Project
 * @typedef {{item_id: number, lease_id: string|null, image_url: string, file_name: string,
 *   reason: string, audit: boolean, model_version: number|null, suggestion: Guess[]|null}} Item
 * @typedef {'labelled'|'skipped'|'flagged'} Status
 * @typedef {{item_id: number, label: string|null, status: Status, key: string,
 *   lease_id?: string|null, model_version?: number|null, suggestion_shown?: boolean,
 *   lead_ms?: number}} Answer
 * @typedef {{label_id: number, saved: number}} Ack
 * @typedef {{label_id: number, item_id: number, file_name: string, label: string|null, status: Status,
 *   annotator: string, round: number|null, source: string, created_at: string, thumb_url: string}} Label
 * @typedef {{version: number, labels: number, accuracy: number|null, low: number|null, high: number|null,
 *   checks: number, created_at: string}} Point
 * @typedef {{classes: string[], counts: number[][]}} Confusion
 * @typedef {{items: Point[], next: null, confusion: Confusion|null,
 *   recall: {class: string, recall: number|null, labels: number}[],
 *   stop: {rule: string, met: boolean, text: string}[]}} Curve
 * @typedef {'errors'|'duplicates'|'disagreements'} FindingKind
 * @typedef {{item_id: number, file_name: string, thumb_url: string, image_url: string, label: string|null,
 *   suggestion: Guess|null, score: number, kind: FindingKind, text: string,
 *   other: {item_id: number, label: string|null, thumb_url: string}|null}} Finding
 * @typedef {{item_id: number, file_name: string, thumb_url: string, image_url: string,
 *   suggestion: Guess|null, label: string|null, status: string}} Tile
 * @typedef {{items: Tile[], next: string|null, groups: {name: string, count: number}[]}} GridPage
 */

/** What the server refused, in its own words; status 0 means that it was not reached. */
export class ApiError extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail)
    this.status = status
  }
}

/** @param {unknown} error */
export const problem = (error) => (error instanceof ApiError ? error : new ApiError(0, String(error)))

/** @type {(reached: boolean) => void} */
let reachListener = () => {}

/** Be told after every call whether the server was reached. @param {(reached: boolean) => void} listener */
export function onReach(listener) {
  reachListener = listener
}

/** A server that accepts a call and then says nothing counts as not reached. */
const PATIENCE_MS = 20_000

/**
 * @param {string} method @param {string} path @param {unknown} [body] @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
async function call(method, path, body, options = {}) {
  const response = await reach(`/api${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
    signal: AbortSignal.timeout(PATIENCE_MS),
    ...options,
  })
  if (!response.ok) throw new ApiError(response.status, await detail(response))
  return response.json().catch(() => ({}))
}

/** @param {string} url @param {RequestInit} options */
async function reach(url, options) {
  try {
    const response = await fetch(url, options)
    reachListener(true)
    return response
  } catch {
    reachListener(false)
    throw new ApiError(0, 'the server cannot be reached')
  }
}

/** @param {Response} response */
async function detail(response) {
  const body = await response.json().catch(() => null)
  const text = body?.detail
  return typeof text === 'string' ? text : text ? JSON.stringify(text) : `the server answered ${response.status}`
}

/** @param {Record<string, unknown>} fields the ones that are set become a query */
function query(fields) {
  const set = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== '')
  const text = new URLSearchParams(set.map(([name, value]) => [name, String(value)])).toString()
  return text && `?${text}`
}

/** @returns {Promise<Project>} */
export const getProject = () => call('GET', '/project')
/** @param {{n: number, keep?: string[], source?: 'relabel'}} wish @returns {Promise<{items: Item[]}>} */
export const claim = (wish) => call('POST', '/queue', wish)
/** @param {Answer} answer @returns {Promise<Ack>} (keepalive: it arrives even if the page is closed now) */
const postLabel = (answer) => call('POST', '/labels', answer, { keepalive: true })
/** @param {Answer[]} answers @returns {Promise<Ack[]>} */
const postBatch = (answers) => call('POST', '/labels/batch', answers)
/** @param {Answer[]} answers one parcel: together or not at all @returns {Promise<Ack[]>} */
export const postAnswers = async (answers) =>
  answers.length === 1 ? [await postLabel(answers[0])] : postBatch(answers)
/** @param {'undo'|'redo'} what @param {string} key @returns {Promise<{labels: Label[], saved: number}>} */
export const postStep = (what, key) => call('POST', `/${what}`, { key })
/** @param {number} limit @returns {Promise<{items: Label[], next: string|null}>} */
export const getOwnLabels = (limit) => call('GET', `/labels${query({ limit, mine: 1 })}`)
/** @param {string} name @returns {Promise<Class>} */
export const addClass = (name) => call('POST', '/classes', { name })
/** @param {string} name @param {{name: string}|{merge_into: string}} change @returns {Promise<Class>} */
export const changeClass = (name, change) => call('PATCH', `/classes/${encodeURIComponent(name)}`, change)
/** @returns {Promise<Curve>} */
export const getCurve = () => call('GET', '/curve')
/** @param {{kind: FindingKind, label?: string, predicted?: string, limit?: number, cursor?: string|null}} wish
 * @returns {Promise<{items: Finding[], next: string|null}>} */
export const getReview = (wish) => call('GET', `/review${query(wish)}`)
/** @param {{by: string, group?: string|null, limit?: number, cursor?: string|null}} wish
 * @returns {Promise<GridPage>} */
export const getGrid = (wish) => call('GET', `/grid${query(wish)}`)
export const rescan = () => call('POST', '/rescan')
export const train = () => call('POST', '/train')
/** Both addresses carry the same mark of the file's content, so one is had from the other. @param {string} image */
export const thumbOf = (image) => image.replace(/(?=\?|$)/, '/thumb')
/** @param {string} thumb */
export const imageOf = (thumb) => thumb.replace(/\/thumb(?=\?|$)/, '')

/** Why an <img> stayed empty: the elements themselves do not say. Null when the server does send it.
 * @param {string} url @returns {Promise<ApiError|null>} */
export async function imageFault(url) {
  try {
    const response = await reach(url, { signal: AbortSignal.timeout(PATIENCE_MS) })
    return response.ok ? null : new ApiError(response.status, await detail(response))
  } catch (error) {
    return problem(error)
  }
}
