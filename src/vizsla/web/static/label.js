/** The Label tab: one image, its classes, what was answered last. */

import { html } from './view.js'
import { addClass, problem } from './api.js'
import { Classes } from './classes.js'
import { Drawer, said } from './drawer.js'
import { Picture } from './picture.js'
import { classOf, useTabKeys } from './commands.js'
import { count, counted, percent } from './format.js'
import { printed } from './keys.js'
import { toast } from './state.js'

/** @typedef {import('./state.js').State} State */

/** @param {import('./part.js').Part} props */
export function LabelTab({ store, session, live, keys }) {
  const state = store.get()
  const { project, looking, recent } = state
  const slide = looking?.slide ?? state.current
  const guesses = visibleGuesses(state)
  const best = guesses.reduce((one, other) => (other.prob > one.prob ? other : one), guesses[0])
  const classes = project?.classes ?? []
  const readOnly = project?.read_only ?? false

  const accept = () => best && session.answer('labelled', best.class)
  /** @type {Record<string, () => void>} */
  const acts = {
    accept,
    skip: () => session.answer('skipped', null),
    flag: () => session.answer('flagged', null),
    undo: session.undo,
    back: () => session.walk(1),
    forward: () => void (looking && session.walk(-1)),
    find: () => /** @type {HTMLElement|null} */ (document.querySelector('[data-testid=find-class]'))?.focus(),
    suggestions: session.toggleGuesses,
    zoom: () => store.set({ zoomed: !state.zoomed }),
  }
  useTabKeys(keys, (action) => {
    const chosen = classOf(classes, action)
    if (chosen) session.answer('labelled', chosen.name)
    else if (action in acts) acts[action]()
    return chosen !== undefined || action in acts
  })

  return html`
    <main class="label" data-looking=${looking !== null} data-relabelling=${state.relabelling}>
      <h1 class="sr">Label</h1>
      <div class="stage">
        ${slide
          ? html`<${Picture} slide=${slide} zoomed=${state.zoomed} onPainted=${session.painted}
              onZoom=${(/** @type {boolean} */ zoomed) => store.set({ zoomed })} />`
          : html`<${Empty} state=${state} store=${store} session=${session} />`}
      </div>
      <${Reason} slide=${slide} state=${state} guess=${best ?? null} acts=${acts} session=${session} />
      <aside class="side" aria-label="Answers">
        <${Actions} acts=${acts} disabled=${readOnly || !slide} keymap=${state.keymap} />
        <${Classes} classes=${classes} guesses=${guesses} chosen=${looking?.recent.label ?? null}
          disabled=${readOnly || !slide} keymap=${state.keymap} acts=${classActs(store, session, live)} />
      </aside>
      <${Drawer} recent=${recent} looking=${looking?.recent ?? null} guidelines=${project?.guidelines ?? ''}
        onLook=${session.look} />
    </main>
  `
}

/** Never on random checks (the server sends none), on earlier answers, or when the person hid them.
 * @param {State} state @returns {import('./api.js').Guess[]} */
function visibleGuesses({ looking, guessesShown, current }) {
  return (!looking && guessesShown && current?.item.suggestion) || NO_GUESSES
}

/** @type {import('./api.js').Guess[]} */
const NO_GUESSES = []

/** @type {WeakMap<object, import('./classes.js').Acts>} */
const actsOf = new WeakMap()

/** The same functions every time, so that unchanged buttons are not drawn again.
 * @param {import('./state.js').Store} store @param {import('./session.js').Session} session
 * @param {import('./live.js').Live} live */
function classActs(store, session, live) {
  const kept = actsOf.get(session)
  if (kept) return kept
  const acts = {
    onChoose: (/** @type {string} */ name) => session.answer('labelled', name),
    onEdit: (/** @type {string} */ of) => store.set({ dialog: { name: 'class', of } }),
    onAdd: (/** @type {string} */ name) =>
      addClass(name).then(
        () => live.refresh().then(() => true),
        (error) => (toast(store, problem(error).message, { tone: 'bad' }), false),
      ),
  }
  actsOf.set(session, acts)
  return acts
}

/** @param {{slide: import('./slide.js').Slide|null, state: State, guess: import('./api.js').Guess|null,
 *   acts: Record<string, () => void>, session: import('./session.js').Session}} props */
function Reason({ slide, state, guess, acts, session }) {
  const { looking, keymap } = state
  if (looking) {
    return html`<div class="reason">
      <p data-testid="reason">You said “${said(looking.recent)}”. Choose another class to change it.</p>
      <button type="button" onClick=${() => session.look(null)}>Back to labelling</button>
    </div>`
  }
  if (state.relabelling) {
    const left = state.project?.suspects ?? 0
    return html`<div class="reason">
      <p><span data-testid="reason">${slide?.item.reason ?? ''}</span>
        ${slide && left > 1 && html`<span class="quiet"> · ${count(left)} left</span>`}</p>
      <button type="button" data-testid="relabel-end" onClick=${() => session.relabel(false)}>Back to new images</button>
    </div>`
  }
  return html`<div class="reason">
    <p data-testid="reason">${slide?.item.reason ?? ''}</p>
    ${guess &&
    html`<button type="button" class="accept" data-testid="accept" disabled=${state.project?.read_only} onClick=${acts.accept}>
      <kbd aria-hidden="true">${printed(keymap.accept?.[0] ?? '')}</kbd> ${guess.class} ${' '}
      <span class="quiet">${percent(guess.prob)}</span>
    </button>`}
    <button type="button" class="hints" data-testid="suggestions" aria-pressed=${state.guessesShown}
      title="Show or hide suggestions" onClick=${acts.suggestions}>
      <kbd aria-hidden="true">${printed(keymap.suggestions?.[0] ?? '')}</kbd> Hints</button>
  </div>`
}

/** @param {{acts: Record<string, () => void>, disabled: boolean, keymap: import('./keys.js').Keymap}} props */
const Actions = ({ acts, disabled, keymap }) => html`
  <div class="actions">
    <${Act} name="Skip" act=${acts.skip} chord=${keymap.skip?.at(-1)} disabled=${disabled} />
    <${Act} name="Flag" act=${acts.flag} chord=${keymap.flag?.[0]} disabled=${disabled} />
    <${Act} name="Undo" act=${acts.undo} chord=${keymap.undo?.[0]} />
  </div>
`

/** @param {{name: string, act: () => void, chord?: string, disabled?: boolean}} props */
const Act = ({ name, act, chord, disabled }) => html`
  <button type="button" data-testid=${name.toLowerCase()} disabled=${disabled} onClick=${act}>
    <kbd aria-hidden="true">${printed(chord ?? '')}</kbd> ${name}
  </button>
`

/** Why there is no image, and what to do now.
 * @param {{state: State, store: import('./state.js').Store, session: import('./session.js').Session}} props */
function Empty({ state, store, session }) {
  const { project, dry, online } = state
  if (!project || !(dry || project.read_only)) return html`<p class="absent pending" role="status">${online ? 'Opening…' : 'Connecting…'}</p>`
  if (project.read_only) {
    return html`<div class="absent"><h2>Only to look at</h2><p>This server takes no answers; the other tabs show how it stands.</p></div>`
  }
  if (state.relabelling) return html`<${AskedAll} left=${project.suspects - state.outbox.waiting} store=${store} session=${session} />`
  if (project.training.state === 'scanning') {
    return html`<p class="absent pending" role="status">Looking for images…</p>`
  }
  if (project.counts.total === 0) {
    return html`<div class="absent"><h2>No images here yet</h2><p>Add photos to the folder, then look again.</p></div>`
  }
  if (project.counts.unlabelled > state.outbox.waiting) {
    const left = counted(project.counts.unlabelled, 'image')
    return html`<div class="absent" role="status"><h2>Nothing free just now</h2>
      <p>${left} left, on other people’s screens. The next free one appears here by itself.</p></div>`
  }
  return html`<div class="absent" data-testid="exhausted" role="status">
    <h2>Done. Every image has an answer.</h2>
    <p>${counted(project.counts.labelled, 'label')}, ${project.counts.skipped} skipped, ${project.counts.flagged} flagged.</p>
    <p class="links">
      <button type="button" onClick=${() => store.set({ tab: 'review' })}>Review doubtful labels</button>
      <button type="button" onClick=${() => store.set({ tab: 'export' })}>Export</button>
    </p>
  </div>`
}

/** No image is left to ask again. @param {{left: number, store: import('./state.js').Store,
 *   session: import('./session.js').Session}} props */
const AskedAll = ({ left, store, session }) => html`
  <div class="absent" data-testid="asked-all" role="status">
    ${left > 0
      ? html`<h2>Nothing free just now</h2><p>${counted(left, 'image')} left to ask again, on other people’s screens.</p>`
      : html`<h2>Nothing left to ask again</h2><p>No label that was given once is in doubt. The next model may find others.</p>`}
    <p class="links">
      <button type="button" data-testid="back-to-review" onClick=${() => (session.relabel(false), store.set({ tab: 'review' }))}>Back to Review</button>
      <button type="button" onClick=${() => session.relabel(false)}>Label new images</button>
    </p>
  </div>
`
