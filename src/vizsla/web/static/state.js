/**
 * What the page knows, in one place; every part of the page is drawn from it.
 *
 * @typedef {import('./api.js').Label} Label
 * @typedef {import('./slide.js').Slide} Slide
 * @typedef {'label'|'grid'|'review'|'progress'|'export'} TabName
 * @typedef {Omit<Label, 'label_id'> & {label_id: Label['label_id']|null, key: string|null}} Recent
 *   an own answer in the drawer; label_id null until the server has it
 * @typedef {{id: number, text: string, tone: 'plain'|'bad', action: {text: string, run: () => void}|null}} Toast
 * @typedef {{kind: import('./api.js').FindingKind, label: string, predicted: string}} ReviewFilter
 * @typedef {{
 *   phase: 'starting'|'ready'|'sign-in',
 *   tab: TabName,
 *   project: import('./api.js').Project|null,
 *   online: boolean,
 *   saved: number,
 *   outbox: import('./outbox.js').OutboxState,
 *   current: Slide|null,
 *   dry: boolean,
 *   relabelling: boolean,
 *   looking: {recent: Recent, slide: Slide}|null,
 *   recent: Recent[],
 *   guessesShown: boolean,
 *   zoomed: boolean,
 *   toasts: Toast[],
 *   dialog: {name: 'help'|'refused'}|{name: 'class', of: string}|null,
 *   freshModel: number|null,
 *   hiddenAdvice: string|null,
 *   keymap: import('./keys.js').Keymap,
 *   singleKeys: boolean,
 *   epoch: number,
 *   review: ReviewFilter
 * }} State
 *   relabelling: labelled images are asked again, in place of new ones; looking: an earlier answer that is looked at again; freshModel: a version that came a moment ago;
 *   epoch: rises when other tabs' lists are out of date
 */

/** @param {Partial<State>} given @returns {State} */
export const initialState = (given) => ({
  phase: 'starting',
  tab: 'label',
  project: null,
  online: true,
  saved: 0,
  outbox: { waiting: 0, late: false, refused: [] },
  current: null,
  dry: false,
  relabelling: false,
  looking: null,
  recent: [],
  guessesShown: true,
  zoomed: false,
  toasts: [],
  dialog: null,
  freshModel: null,
  hiddenAdvice: null,
  keymap: {},
  singleKeys: true,
  epoch: 0,
  review: { kind: 'errors', label: '', predicted: '' },
  ...given,
})

/**
 * @typedef {{get: () => State, set: (patch: Partial<State>) => void, watch: (listener: () => void) => void}} Store
 */

/** @param {State} state @returns {Store} */
export function createStore(state) {
  /** @type {(() => void)[]} */
  const listeners = []
  return {
    get: () => state,
    set(patch) {
      state = { ...state, ...patch }
      for (const listener of listeners) listener()
    },
    watch: (listener) => void listeners.push(listener),
  }
}

let toasts = 0
const TOAST_MS = 6000

/** A word to the person, gone by itself.
 * @param {Store} store @param {string} text
 * @param {{tone?: 'plain'|'bad', action?: {text: string, run: () => void}}} [options] */
export function toast(store, text, { tone = 'plain', action } = {}) {
  const id = ++toasts
  const others = store.get().toasts.filter((other) => other.text !== text)
  store.set({ toasts: [...others.slice(-2), { id, text, tone, action: action ?? null }] })
  setTimeout(() => dismissToast(store, id), TOAST_MS)
}

/** @param {Store} store @param {number} id */
export const dismissToast = (store, id) =>
  store.set({ toasts: store.get().toasts.filter((other) => other.id !== id) })
