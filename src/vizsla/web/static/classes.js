/** The classes: a button with a key for each, what is suggested as a thin bar, a box to find one and a way to add. */

import { html, still, useRef, useState } from './view.js'
import { classAction, printed } from './keys.js'
import { count, percent } from './format.js'

/**
 * @typedef {import('./api.js').Class} Class
 * @typedef {{onChoose: (name: string) => void, onAdd: (name: string) => Promise<boolean>,
 *   onEdit: (name: string) => void}} Acts
 * @param {{classes: Class[], guesses: import('./api.js').Guess[], chosen: string|null, disabled: boolean,
 *   keymap: import('./keys.js').Keymap, acts: Acts}} props
 *   chosen: the label of an earlier answer that is looked at; never set for a new image
 */
function ClassPanel({ classes, guesses, chosen, disabled, keymap, acts }) {
  const [sought, setSought] = useState('')
  const found = matches(classes, sought)
  const best = sought && found[0]
  const most = Math.max(1, ...classes.map((one) => one.labelled))
  const chance = new Map(guesses.map((guess) => [guess.class, guess.prob]))

  /** @param {KeyboardEvent & {currentTarget: HTMLInputElement}} event */
  function onKeyDown(event) {
    if (event.key === 'Enter' && best && !disabled) acts.onChoose(best.name)
    if (event.key !== 'Escape' && !(event.key === 'Enter' && best)) return
    event.preventDefault()
    setSought('')
    event.currentTarget.blur()
  }

  return html`
    <div class="find">
      <input data-testid="find-class" type="search" placeholder="Find a class" aria-label="Find a class"
        autocomplete="off" spellcheck=${false} value=${sought} onKeyDown=${onKeyDown}
        onInput=${(/** @type {any} */ event) => setSought(event.currentTarget.value)} />
      <kbd>${cap(keymap, 'find')}</kbd>
    </div>
    <ul class="classes" aria-label="Classes">
      ${found.map(
        (one) => html`<${ClassRow} key=${one.position} name=${one.name} labelled=${one.labelled}
          position=${one.position} share=${one.labelled / most} prob=${chance.get(one.name) ?? null}
          keycap=${cap(keymap, classAction(one.position))} best=${best === one} chosen=${chosen === one.name}
          disabled=${disabled} acts=${acts} />`,
      )}
    </ul>
    ${sought && !found.length && html`<p class="quiet">No class “${sought}”.</p>`}
    <${AddClass} first=${classes.length === 0} offered=${found.length ? '' : sought} onAdd=${acts.onAdd} />
  `
}

/** Drawn again only when a class, a guess or a key changed, not with every word from the server. */
export const Classes = still((/** @type {Parameters<typeof ClassPanel>[0]} */ props) => html`<${ClassPanel} ...${props} />`)

/** @param {import('./keys.js').Keymap} keymap @param {string} action */
const cap = (keymap, action) => (keymap[action]?.[0] ? printed(keymap[action][0]) : '')

const ClassRow = still(
  /** @param {{name: string, labelled: number, position: number, share: number, prob: number|null, keycap: string,
   *   best: boolean, chosen: boolean, disabled: boolean, acts: Acts}} props */
  ({ name, labelled, position, share, prob, keycap, best, chosen, disabled, acts }) => html`
    <li class="class-row" data-best=${best}>
      <button class="class" type="button" data-testid=${`class-${position}`} title=${name} disabled=${disabled}
        aria-pressed=${chosen} onClick=${() => acts.onChoose(name)}>
        <kbd aria-hidden="true">${best ? '↵' : keycap}</kbd>
        <span class="class-name">${name}</span>
        <span class="tally"><span class="sr">, </span>${count(labelled)}<span class="sr"> labelled</span>
          <span class="tally-bar" style=${{ transform: `scaleX(${share})` }}></span>
        </span>
        ${prob !== null &&
        html`<span class="guess" data-testid=${`suggestion-${position}`} title=${`suggested: ${percent(prob)}`}
          style=${{ transform: `scaleX(${Math.max(0.004, prob)})` }}></span>
          <span class="sr">, suggested ${percent(prob)}</span>`}
      </button>
      <button class="more" type="button" aria-label=${`Rename or merge ${name}`} title="Rename or merge"
        data-testid=${`edit-class-${position}`} onClick=${() => acts.onEdit(name)}>⋯</button>
    </li>
  `,
)

/** @param {{first: boolean, offered: string, onAdd: (name: string) => Promise<boolean>}} props */
function AddClass({ first, offered, onAdd }) {
  const [open, setOpen] = useState(first)
  const field = useRef(/** @type {HTMLInputElement|null} */ (null))

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault()
    const name = field.current?.value.trim()
    if (!name || !field.current) return
    field.current.value = '' // at once: the next name may be typed while this one is on its way
    if (!(await onAdd(name)) && field.current && !field.current.value) field.current.value = name
  }

  if (offered) {
    return html`<button class="add" type="button" onClick=${() => onAdd(offered)}>+ add “${offered}”</button>`
  }
  if (!open) {
    return html`<button class="add" type="button" data-testid="add-class" onClick=${() => setOpen(true)}>+ class</button>`
  }
  return html`
    <form class="add-form" onSubmit=${submit}>
      <input data-testid="add-class-name" ref=${(/** @type {HTMLInputElement|null} */ input) => {
        if (input && input !== field.current) input.focus()
        field.current = input
      }} placeholder=${first ? 'Name your first class' : 'Another class, or Esc'} aria-label="Name of the new class"
        autocomplete="off" maxlength="200"
        onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === 'Escape' && setOpen(false)} />
      <button type="submit">Add</button>
      ${!first && html`<button type="button" aria-label="Close" onClick=${() => setOpen(false)}>✕</button>`}
    </form>
  `
}

/** The classes that fit what was typed, best first: equal, then beginning so, then a word beginning so, then within.
 * Nothing typed: all of them by place, so that no button ever moves.
 * @param {Class[]} classes @param {string} sought @returns {Class[]} */
export function matches(classes, sought) {
  const text = sought.trim().toLocaleLowerCase()
  if (!text) return classes
  const scored = classes.map((one) => ({ one, rank: fit(one.name.toLocaleLowerCase(), text) }))
  return scored
    .filter(({ rank }) => rank < 4)
    .sort((a, b) => a.rank - b.rank || a.one.position - b.one.position)
    .map(({ one }) => one)
}

/** @param {string} name @param {string} text */
function fit(name, text) {
  if (name === text) return 0
  if (name.startsWith(text)) return 1
  if (name.split(/[\s_-]+/).some((word) => word.startsWith(text))) return 2
  return name.includes(text) ? 3 : 4
}
