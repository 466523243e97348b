/** Help: what the keys do, and how to change them. */

import { html, useState } from './view.js'
import { ACTIONS, chordOf, classAction, loadKeymap, printed, remap, saveKeymap, setSingleKeys } from './keys.js'
import { Dialog } from './dialogs.js'

const CLASS_KEYS = Array.from({ length: 20 }, (_, position) => [classAction(position), `Class ${position + 1}, and on`])

/** @param {import('./part.js').Part} props */
export function Help({ store }) {
  const { keymap, singleKeys, project } = store.get()
  const [awaited, setAwaited] = useState(/** @type {string|null} */ (null))

  /** @param {KeyboardEvent} event */
  function onKeyDown(event) {
    if (!awaited) return
    const chord = chordOf(event)
    if (!chord || chord === 'Tab') return
    event.preventDefault()
    event.stopPropagation()
    setAwaited(null)
    if (chord !== 'Escape') change(remap(keymap, awaited, chord))
  }

  /** @param {import('./keys.js').Keymap|null} next */
  function change(next) {
    saveKeymap(localStorage, next)
    store.set({ keymap: loadKeymap(localStorage) })
  }

  /** @param {boolean} on */
  function single(on) {
    setSingleKeys(localStorage, on)
    store.set({ singleKeys: on })
  }

  const row = (/** @type {string[]} */ [action, text]) => html`
    <li key=${action}><span>${text}</span>
      <button type="button" class="chord" data-testid=${`key-${action}`}
        onClick=${() => setAwaited(awaited === action ? null : action)}>
        <span class="sr">Change the key for “${text}”: </span>
        ${awaited === action ? 'press a key…' : (keymap[action] ?? []).map((chord) => html`<kbd key=${chord}>${printed(chord)}</kbd>`)}
        ${awaited !== action && !keymap[action]?.length && 'none'}
      </button></li>`

  return html`<${Dialog} title="Keys" onClose=${() => store.set({ dialog: null })}>
    <div onKeyDownCapture=${onKeyDown}>
      <p class="quiet">Click a key to change it. Keys rest while you type in a field.</p>
      ${project?.guidelines && html`<h3>Guidelines</h3><p class="guidelines-text">${project.guidelines}</p>`}
      <ul class="keys">
        <li><span>Give a class, and on to the next image</span>
          <span class="chord"><kbd>1</kbd>…<kbd>9</kbd><kbd>0</kbd></span></li>
        <li><span>Classes 11 to 20</span><span class="chord"><kbd>⇧1</kbd>…<kbd>⇧0</kbd></span></li>
        ${ACTIONS.map(([action, , text]) => row([action, text]))}
      </ul>
      <details><summary>Keys of the classes</summary><ul class="keys">${CLASS_KEYS.map(([action, text]) => row([action, text]))}</ul></details>
      <p class="line">
        <label><input type="checkbox" checked=${singleKeys} data-testid="single-keys"
          onChange=${(/** @type {any} */ event) => single(event.currentTarget.checked)} /> Single keys act</label>
        <button type="button" onClick=${() => change(null)}>Back to the usual keys</button>
      </p>
      <p class="quiet">With single keys off, letters, digits and signs do nothing: for voice control and other aids.
        Vizsla ${project?.version ?? ''}.</p>
    </div>
  <//>`
}
