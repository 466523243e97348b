/** The page: one store, one session, one stream of events, and the tab that is on. */

import { html, render } from './view.js'
import { onReach } from './api.js'
import { listen } from './commands.js'
import { EditClass, Refused } from './dialogs.js'
import { ExportTab } from './exports.js'
import { GridTab } from './grid.js'
import { Help } from './help.js'
import { LabelTab } from './label.js'
import { createLive } from './live.js'
import { loadKeymap, singleKeys } from './keys.js'
import { ProgressTab } from './progress.js'
import { ReviewTab } from './review.js'
import { createSession } from './session.js'
import { createStore, dismissToast, initialState } from './state.js'
import { TopBar } from './topbar.js'

const STARTING_AGAIN_MS = 1000
const LOOKING_AGAIN_MS = 2500

const root = /** @type {HTMLElement} */ (document.getElementById('page'))
const store = createStore(initialState({ keymap: loadKeymap(localStorage), singleKeys: singleKeys(localStorage) }))
/** @type {import('./commands.js').Keys} */
const keys = { tab: null }
/** @type {import('./session.js').Session|null} */
let session = null
const signIn = () => store.set({ phase: 'sign-in' })
const live = createLive(store, {
  onSwap: () => session?.queue.swap(),
  onOpen: () => session?.outbox.flush(),
  signIn,
})

const TAB_VIEWS = { label: LabelTab, grid: GridTab, review: ReviewTab, progress: ProgressTab, export: ExportTab }

function Page() {
  const { phase, tab } = store.get()
  if (phase === 'sign-in') return html`<${SignIn} />`
  if (!session) return html`<main class="absent pending" role="status">Opening…</main>`
  const part = { store, session, live, keys }
  return html`
    <${TopBar} ...${part} />
    <${TAB_VIEWS[tab]} ...${part} />
    <${Toasts} />
    <${OpenDialog} part=${part} />
  `
}

/** @param {{part: import('./part.js').Part}} props */
function OpenDialog({ part }) {
  const { dialog } = store.get()
  if (dialog?.name === 'help') return html`<${Help} ...${part} />`
  if (dialog?.name === 'refused') return html`<${Refused} ...${part} />`
  return dialog?.name === 'class' ? html`<${EditClass} of=${dialog.of} ...${part} />` : null
}

function Toasts() {
  return html`<ol class="toasts" aria-live="polite">
    ${store.get().toasts.map(
      ({ id, text, tone, action }) => html`<li key=${id} data-testid="toast" data-tone=${tone}>
        <span>${text}</span>
        ${action && html`<button type="button" onClick=${() => (action.run(), dismissToast(store, id))}>${action.text}</button>`}
        <button type="button" aria-label="Dismiss" onClick=${() => dismissToast(store, id)}>✕</button>
      </li>`,
    )}
  </ol>`
}

function SignIn() {
  /** @param {SubmitEvent} event */
  function submit(event) {
    event.preventDefault()
    const token = new FormData(/** @type {HTMLFormElement} */ (event.target)).get('token')
    if (token) location.assign(`/?token=${encodeURIComponent(String(token).trim())}`)
  }
  return html`<main class="sign-in">
    <h1>vizsla</h1>
    <p>This project asks who you are. Paste the token you were given.</p>
    <form onSubmit=${submit}>
      <input name="token" type="password" aria-label="Token" autocomplete="current-password" data-testid="token" required />
      <button type="submit">Open</button>
    </form>
    <p class="quiet">No token? Whoever runs the server makes one with <code>vizsla users add NAME</code>.</p>
  </main>`
}

/** Nothing is drawn twice for one turn of the event loop. */
let drawing = false
function draw() {
  if (drawing) return
  drawing = true
  queueMicrotask(() => {
    drawing = false
    render(html`<${Page} />`, root)
    document.title = store.get().project ? `${store.get().project?.name} · Vizsla` : 'Vizsla'
  })
}

async function start() {
  const project = await live.refresh()
  if (!project) {
    if (store.get().phase !== 'sign-in') setTimeout(start, STARTING_AGAIN_MS)
    return
  }
  const { labelled, skipped, flagged } = project.counts
  store.set({ phase: 'ready', saved: labelled + skipped + flagged })
  session = createSession(store, { storage: localStorage, projectId: project.id, signIn })
  session.start()
  live.open()
  draw()
}

store.watch(draw)
onReach((reached) => {
  if (reached !== store.get().online) store.set({ online: reached })
})
listen(store, () => session, keys)
addEventListener('online', () => session?.outbox.flush())
// Images may come free, or be found, without any event of ours.
setInterval(() => store.get().dry && session?.queue.fill(), LOOKING_AGAIN_MS)
draw()
start()
