/** The Progress tab: how good the model is, where it errs, and whether to go on. */

import { html, useEffect, useState } from './view.js'
import { getCurve, problem } from './api.js'
import { CurveChart, CurveTable } from './curve.js'
import { ConfusionTable } from './confusion.js'
import { counted, interval, percent } from './format.js'
import { toast } from './state.js'

/** @typedef {import('./api.js').Curve} Curve */

/** What the rules for stopping are called. @type {Record<string, string>} */
const RULES = {
  pool: 'Nothing left',
  budget: 'Planned labels',
  target: 'Target accuracy',
  forecast: 'What more labels would bring',
  stable: 'Settled predictions',
}

/** @param {import('./part.js').Part} props */
export function ProgressTab({ store }) {
  const { project } = store.get()
  const [curve, setCurve] = useState(/** @type {Curve|null} */ (null))
  useEffect(() => {
    getCurve().then(setCurve, (error) => toast(store, problem(error).message, { tone: 'bad' }))
  }, [project?.model?.version])

  const onCell = (/** @type {string} */ label, /** @type {string} */ predicted) =>
    store.set({ tab: 'review', review: { kind: 'errors', label, predicted } })
  return html`
    <main class="page">
      <h1 class="sr">Progress</h1>
      ${project && html`<${Summary} project=${project} />`}
      <div class="cards">
        <section class="card wide-card"><h2>Accuracy over labels</h2>${curve && html`<${Accuracy} curve=${curve} />`}</section>
        <section class="card"><h2>When to stop</h2>${curve && html`<${Stop} rules=${curve.stop} />`}</section>
        <section class="card"><h2>Found of each class</h2>${curve && html`<${Recall} recall=${curve.recall} />`}</section>
        <section class="card wide-card"><h2>What is taken for what</h2>
          ${curve?.confusion
            ? html`<${ConfusionTable} confusion=${curve.confusion} onCell=${onCell} />`
            : html`<p class="quiet">Comes with the first model.</p>`}
          ${curve?.confusion && html`<p class="quiet">Each label is judged by a model that was not given it. You were asked
            about the hard images, so this looks worse than the accuracy above.</p>`}
        </section>
      </div>
    </main>
  `
}

/** @param {{project: import('./api.js').Project}} props */
function Summary({ project: { counts, accuracy, model, checks } }) {
  const answered = counts.total - counts.unlabelled
  return html`<p class="summary">
    <b>${counted(counts.labelled, 'label')}</b>, ${counted(counts.skipped, 'image')} skipped, ${counts.flagged} flagged:
    ${' '}${percent(counts.total ? answered / counts.total : 0)} of ${counted(counts.total, 'image')}.
    ${' '}${accuracy
      ? html`The model is right about <b>${interval(accuracy)}</b> of the time, measured on ${counted(accuracy.checks, 'random check')}.`
      : model
        ? `Its accuracy is told after ${checks.needed} random checks (${checks.done} so far).`
        : 'There is no model yet.'}
  </p>`
}

/** @param {{curve: Curve}} props */
function Accuracy({ curve: { items } }) {
  const drawn = items.filter((point) => point.accuracy !== null)
  const left = items.length - drawn.length
  return html`
    ${drawn.length > 0 && html`<${CurveChart} points=${drawn} />`}
    ${drawn.length === 0 && html`<p class="quiet">The curve begins once a model was measured on 10 random checks.</p>`}
    ${drawn.length > 0 && left > 0 &&
    html`<p class="quiet">${counted(left, 'model')} with too few random checks ${left === 1 ? 'is' : 'are'} not drawn.</p>`}
    ${items.length > 0 && html`<details><summary>As a table</summary><${CurveTable} points=${items} /></details>`}
  `
}

/** @param {{rules: Curve['stop']}} props */
const Stop = ({ rules }) =>
  rules.length === 0
    ? html`<p class="quiet">Too early to tell.</p>`
    : html`<ul class="rules">
        ${rules.map(
          ({ rule, met, text }) => html`<li key=${rule} data-met=${met}>
            <span class="mark" aria-hidden="true">${met ? '✓' : '·'}</span>
            <span><b>${RULES[rule] ?? rule}</b><span class="sr">${met ? ' met' : ' not met'}</span><br />
            <span class="quiet">${text}</span></span></li>`,
        )}
      </ul>`

/** @param {{recall: Curve['recall']}} props */
const Recall = ({ recall }) =>
  recall.length === 0
    ? html`<p class="quiet">Comes with the first model.</p>`
    : html`<ul class="recalls">
        ${recall.map(
          (one) => html`<li key=${one.class}>
            <span class="recall-name" title=${one.class}>${one.class}</span>
            <span class="recall-bar" aria-hidden="true"><span style=${{ transform: `scaleX(${one.recall ?? 0})` }}></span></span>
            <span class="recall-value">${one.recall === null ? '–' : percent(one.recall)}
              <span class="quiet"> of ${one.labels}</span></span></li>`,
        )}
      </ul>`
