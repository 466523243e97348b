/** What opens above the page: changing a class, and answers that the server refused. */

import { html, useLayoutEffect, useRef, useState } from './view.js'
import { changeClass, problem } from './api.js'
import { said } from './drawer.js'
import { counted } from './format.js'

/** A dialog of the browser's own: it holds the focus, Escape closes it.
 * @param {{title: string, onClose: () => void, children?: any}} props */
export function Dialog({ title, onClose, children }) {
  const element = useRef(/** @type {HTMLDialogElement|null} */ (null))
  useLayoutEffect(() => {
    element.current?.showModal()
    // Into the first field, or to the whole; the browser's choice, the button that closes, invites a slip.
    const field = element.current?.querySelector('input:not([type=checkbox])')
    const first = field instanceof HTMLElement ? field : element.current
    first?.focus()
  }, [])
  const onClick = (/** @type {MouseEvent} */ event) => event.target === element.current && onClose()
  return html`
    <dialog ref=${element} tabindex="-1" aria-label=${title} onClose=${onClose} onClick=${onClick}>
      <div class="dialog">
        <header><h2>${title}</h2><button type="button" aria-label="Close" onClick=${onClose}>✕</button></header>
        ${children}
      </div>
    </dialog>
  `
}

/** The field is left alone once drawn (`defaultValue`): news from the server must not undo what is being typed.
 * @param {{of: string} & import('./part.js').Part} props */
export function EditClass({ of, store, live }) {
  const classes = store.get().project?.classes ?? []
  const one = classes.find((other) => other.name === of)
  const [fault, setFault] = useState('')
  const close = () => store.set({ dialog: null })

  /** @param {{name: string}|{merge_into: string}} change */
  async function apply(change) {
    try {
      await changeClass(of, change)
      await live.refresh()
      close()
    } catch (error) {
      setFault(problem(error).message)
    }
  }

  /** @param {SubmitEvent} event @param {(value: string) => void} act */
  function submit(event, act) {
    event.preventDefault()
    const value = new FormData(/** @type {HTMLFormElement} */ (event.target)).get('value')
    if (value) act(String(value).trim())
  }

  return html`<${Dialog} title=${`Class “${of}”`} onClose=${close}>
    <form class="line" onSubmit=${(/** @type {SubmitEvent} */ event) => submit(event, (name) => apply({ name }))}>
      <label>New name <input name="value" defaultValue=${of} maxlength="200" autocomplete="off" data-testid="rename-class" /></label>
      <button type="submit">Rename</button>
    </form>
    <form class="line" onSubmit=${(/** @type {SubmitEvent} */ event) => submit(event, (name) => apply({ merge_into: name }))}>
      <label>Merge into <select name="value" data-testid="merge-class">
        <option value="">choose a class</option>
        ${classes.filter((other) => other.name !== of).map((other) => html`<option key=${other.name}>${other.name}</option>`)}
      </select></label>
      <button type="submit">Merge</button>
    </form>
    ${fault && html`<p class="fault" role="alert">${fault}</p>`}
    <p class="quiet">${counted(one?.labelled ?? 0, 'label')} so far. The history is kept, and no other class changes its key.</p>
  <//>`
}

/** @param {import('./part.js').Part} props */
export function Refused({ store, session }) {
  const { refused } = store.get().outbox
  return html`<${Dialog} title="Not saved" onClose=${() => store.set({ dialog: null })}>
    <p>The server refused these answers. They stay in this browser until you decide.</p>
    <ul class="refused">
      ${refused.map(
        (parcel) => html`<li key=${parcel.key}>
          <p>${parcel.answers.length === 1 ? said(parcel.answers[0]) : counted(parcel.answers.length, 'answer')}:
            <b> ${parcel.refused}</b></p>
          <button type="button" onClick=${() => session.outbox.retry(parcel)}>Send again</button>
          <button type="button" onClick=${() => session.discard(parcel)}>Discard</button>
        </li>`,
      )}
    </ul>
    ${refused.length === 0 && html`<p>All settled.</p>`}
  <//>`
}
