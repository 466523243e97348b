/** The bar on top: which project, what is safe, how good the model is and what it is doing. */

import { html } from './view.js'
import { count, counted, interval } from './format.js'
import { TABS } from './commands.js'

/** @typedef {import('./state.js').State} State */
/** @typedef {import('./api.js').Project} Project */

/** @param {import('./part.js').Part} props */
export function TopBar({ store, live }) {
  const state = store.get()
  const { project, tab } = state
  return html`
    <header class="top">
      <div class="bar">
        <p class="name"><span class="brand">vizsla</span> <span data-testid="project">${project?.name ?? ''}</span></p>
        <nav aria-label="Parts of the page">
          ${TABS.map(
            (name) => html`<button key=${name} type="button" data-testid=${`tab-${name}`}
              aria-current=${tab === name ? 'page' : undefined}
              onClick=${() => store.set({ tab: name, looking: null })}>${title(name)}</button>`,
          )}
        </nav>
        <button class="help" type="button" data-testid="help" aria-label="Help and keys" title="Help and keys"
          onClick=${() => store.set({ dialog: { name: 'help' } })}>?</button>
      </div>
      <div class="status">
        <${Saved} state=${state} store=${store} />
        ${project && html`<${ModelChip} project=${project} />`}
        ${project && html`<${Training} project=${project} fresh=${state.freshModel} retry=${live.retryTraining} />`}
      </div>
      ${project?.read_only &&
      html`<p class="notice" data-testid="read-only">Read-only: you can look at everything, but answers are not taken.</p>`}
      ${project?.notice && html`<p class="notice" data-testid="notice">${project.notice}</p>`}
      ${project?.advice?.stop && project.advice.text !== state.hiddenAdvice &&
      html`<${Advice} text=${project.advice.text} store=${store} />`}
    </header>
  `
}

/** @param {string} name */
const title = (name) => name[0].toUpperCase() + name.slice(1)

/** @param {{state: State, store: import('./state.js').Store}} props */
function Saved({ state: { saved, outbox, online, project }, store }) {
  const answered = project ? project.counts.total - project.counts.unlabelled : 0
  const total = project?.counts.total ?? 0
  return html`
    <span class="saved" aria-live="polite">
      <span data-testid="saved" data-count=${saved} title=${`${count(answered)} of ${counted(total, 'image')} answered`}>
        ${count(saved)} saved <span class="tick" aria-hidden="true">✓</span></span>
      ${outbox.late && outbox.waiting > 0 &&
      html`<span class="chip warn" data-testid="waiting" data-count=${outbox.waiting}>${count(outbox.waiting)} waiting</span>`}
      ${!online && html`<span class="chip warn" data-testid="offline">offline</span>`}
      ${outbox.refused.length > 0 &&
      html`<button type="button" class="chip bad" data-testid="refused"
        onClick=${() => store.set({ dialog: { name: 'refused' } })}>${count(outbox.refused.length)} not saved</button>`}
    </span>
  `
}

/** @param {{project: Project}} props */
function ModelChip({ project: { model, accuracy, checks } }) {
  if (!model) return html`<span class="chip" data-testid="model">no model yet</span>`
  const quality = accuracy
    ? `${interval(accuracy)}, ${counted(accuracy.checks, 'random check')}`
    : `too few random checks yet (${count(checks.done)} of ${count(checks.needed)})`
  return html`<span class="chip" data-testid="model" data-version=${model.version}
    title="Accuracy on images drawn at random and labelled without a suggestion; in brackets its 95% interval">
    <b>model ${count(model.version)}</b> · ${counted(model.labels, 'label')} · ${quality}
  </span>`
}

/** @param {{project: Project, fresh: number|null, retry: () => void}} props */
function Training({ project: { training }, fresh, retry }) {
  const failed = training.state === 'failed'
  return html`<span class="training" data-testid="training" data-state=${training.state} role="status"
    data-busy=${['scanning', 'embedding', 'training'].includes(training.state)}>
    <span class="dot" aria-hidden="true"></span>
    <span class="training-text" title=${failed ? training.error : undefined}>${trainingText(training, fresh)}</span>
    ${failed && html`<button type="button" data-testid="retry" onClick=${retry}>Retry</button>`}
  </span>`
}

/** @param {import('./api.js').Training} training @param {number|null} fresh */
export function trainingText({ state, text, labels_to_next, done, total, error }, fresh) {
  if (state === 'failed') return `training failed: ${error || text}`
  if (state === 'scanning' && total) return `scanning ${counted(total, 'image')}`
  if (state === 'embedding' && total) return `reading images ${count(done ?? 0)} of ${count(total)}`
  if (state === 'training') return 'training… keep labelling'
  if (fresh !== null) return `model ${count(fresh)} ready`
  if (state === 'idle' && labels_to_next) return `${count(labels_to_next)} more to the next model`
  return text
}

/** @param {{text: string, store: import('./state.js').Store}} props */
const Advice = ({ text, store }) => html`
  <p class="notice advice" data-testid="advice" role="status">
    <span>${text}</span>
    <button type="button" onClick=${() => store.set({ tab: 'progress' })}>Why</button>
    <button type="button" aria-label="Dismiss" data-testid="advice-dismiss"
      onClick=${() => store.set({ hiddenAdvice: text })}>✕</button>
  </p>
`
