/** The Review tab: labels that deserve a second look, one decision each. */

import { html, useEffect, useState } from './view.js'
import { getReview, problem } from './api.js'
import { classOf, useTabKeys } from './commands.js'
import { Finding, proposal } from './finding.js'
import { counted } from './format.js'
import { toast } from './state.js'

/** @typedef {import('./api.js').Finding} FindingData */
/** @typedef {import('./state.js').ReviewFilter} ReviewFilter */

/** @type {[kind: import('./api.js').FindingKind, text: string, none: string][]} */
const KINDS = [
  ['errors', 'Suspected errors', 'No label looks wrong. More labels make this sharper.'],
  ['duplicates', 'Near-duplicates', 'No two images look nearly the same.'],
  ['disagreements', 'Disagreements', 'Nobody disagrees with anybody.'],
]

/** @param {import('./part.js').Part} props */
export function ReviewTab({ store, session, keys }) {
  const { review, project, epoch, keymap } = store.get()
  const { kind, label, predicted } = review
  const [findings, setFindings] = useState(/** @type {FindingData[]|null} */ (null))
  const [next, setNext] = useState(/** @type {string|null} */ (null))
  const [at, setAt] = useState(0)
  const active = findings?.[Math.min(at, findings.length - 1)]
  const readOnly = project?.read_only ?? false

  /** @param {string|null} cursor */
  async function fetchFrom(cursor) {
    try {
      const page = await getReview({ kind, label, predicted, limit: 40, cursor })
      setFindings((before) => [...((cursor && before) || []), ...page.items])
      setNext(page.next)
    } catch (error) {
      toast(store, problem(error).message, { tone: 'bad' })
    }
  }

  useEffect(() => {
    setAt(0)
    setFindings(null)
    fetchFrom(null)
  }, [kind, label, predicted, epoch])

  /** @param {FindingData} finding @param {import('./api.js').Status} status @param {string|null} name */
  function decide(finding, status, name) {
    if (readOnly) return toast(store, 'This server is read-only: answers are not taken.')
    dismiss(finding)
    const fields = { suggestion_shown: finding.suggestion !== null, model_version: project?.model?.version ?? null }
    session.give([{ ...finding, status, label: name, fields }])
  }

  /** @param {FindingData} finding */
  const dismiss = (finding) => setFindings((before) => before && before.filter((other) => other !== finding))

  const acts = {
    /** The same label once more, so that it is known to have been looked at; no label stays no label. */
    keep: (/** @type {FindingData} */ finding) =>
      finding.label === null ? dismiss(finding) : decide(finding, 'labelled', finding.label),
    change: (/** @type {FindingData} */ finding, /** @type {string} */ name) => decide(finding, 'labelled', name),
    flag: (/** @type {FindingData} */ finding) => decide(finding, 'flagged', null),
    skip: (/** @type {FindingData} */ finding) => step((findings ?? []).indexOf(finding) + 1),
  }

  /** @param {number} to */
  function step(to) {
    if (findings?.length) setAt(Math.max(0, Math.min(findings.length - 1, to)))
  }

  useTabKeys(keys, (action) => {
    if (!active) return false
    const chosen = classOf(project?.classes ?? [], action)
    const proposed = proposal(active)
    if (chosen) acts.change(active, chosen.name)
    else if (action === 'accept' && proposed) acts.change(active, proposed)
    else if (action === 'keep') acts.keep(active)
    else if (action === 'flag') acts.flag(active)
    else if (action === 'skip' || action === 'forward') step(at + 1)
    else if (action === 'back') step(at - 1)
    else return false
    return true
  })

  const show = (/** @type {Partial<ReviewFilter>} */ change) => store.set({ review: { ...review, ...change } })
  return html`
    <main class="page">
      <h1 class="sr">Review</h1>
      <div class="tools">
        <div class="ways" role="group" aria-label="What to review">
          ${KINDS.map(
            ([name, text]) => html`<button key=${name} type="button" aria-pressed=${kind === name}
              data-testid=${`kind-${name}`} onClick=${() => show({ kind: name, label: '', predicted: '' })}>${text}</button>`,
          )}
        </div>
        ${(label || predicted) &&
        html`<button type="button" class="filter" data-testid="filter" onClick=${() => show({ label: '', predicted: '' })}>
          labelled ${label}, predicted ${predicted} <span aria-label="remove the filter">✕</span></button>`}
      </div>
      ${kind === 'errors' && !readOnly && project !== null && project.suspects > 0 &&
      html`<p class="again">
        <button type="button" class="main" data-testid="relabel" onClick=${() => session.relabel(true)}>
          Ask again: ${counted(project.suspects, 'image')}</button>
        <span class="quiet">A second opinion: each image once more, without its label. The same answer confirms it;
          another one replaces it and is listed under Disagreements.</span>
      </p>`}
      ${findings?.length === 0 &&
      html`<p class="nothing quiet" role="status">${KINDS.find(([name]) => name === kind)?.[2]}</p>`}
      <ol class="findings">
        ${findings?.map(
          (finding, index) => html`<${Finding} key=${finding.item_id} finding=${finding} active=${finding === active}
            classes=${project?.classes ?? []} keymap=${keymap} acts=${acts} disabled=${readOnly} onFocus=${() => setAt(index)} />`,
        )}
      </ol>
      ${next && html`<p class="nothing"><button type="button" onClick=${() => fetchFrom(next)}>More</button></p>`}
    </main>
  `
}
