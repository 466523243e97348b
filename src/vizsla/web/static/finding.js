/** One label that deserves a second look: the image, what was said, what else it might be. */

import { html, useEffect, useRef } from './view.js'
import { imageOf } from './api.js'
import { percent } from './format.js'
import { printed } from './keys.js'

/** @typedef {import('./api.js').Finding} FindingData */

/** What to change the label to with one key. @param {FindingData} finding */
export function proposal({ suggestion, other, label }) {
  const name = suggestion?.class ?? other?.label ?? null
  return name === label ? null : name
}

/**
 * @param {{finding: FindingData, active: boolean, classes: import('./api.js').Class[], disabled: boolean,
 *   keymap: import('./keys.js').Keymap, onFocus: () => void, acts: {
 *     keep: (finding: FindingData) => void, change: (finding: FindingData, name: string) => void,
 *     flag: (finding: FindingData) => void, skip: (finding: FindingData) => void}}} props
 */
export function Finding({ finding, active, classes, disabled, keymap, onFocus, acts }) {
  const card = useRef(/** @type {HTMLElement|null} */ (null))
  const before = useRef(active)
  useEffect(() => {
    // The first one is in sight as the tab opens; the page scrolls only when the person moves on.
    if (active && !before.current) card.current?.scrollIntoView({ block: 'nearest' })
    before.current = active
  }, [active])
  const { item_id, file_name, image_url, label, suggestion, other, text, kind } = finding
  const proposed = proposal(finding)
  const key = (/** @type {string} */ action) =>
    active && html`<kbd aria-hidden="true">${printed(keymap[action]?.[0] ?? '')}</kbd>`

  return html`
    <li class="finding" ref=${card} data-testid=${`finding-${item_id}`} data-active=${active}
      aria-current=${active ? 'true' : undefined} onFocusIn=${onFocus} onClick=${onFocus}>
      <div class="pictures">
        <figure><img src=${image_url} alt=${file_name} loading="lazy" />
          ${other && html`<figcaption>${label ?? 'no label'}</figcaption>`}</figure>
        ${other &&
        html`<figure><img src=${imageOf(other.thumb_url)} alt="the other image" loading="lazy" />
          <figcaption>${other.label ?? 'no label'}</figcaption></figure>`}
      </div>
      <div class="verdict">
        <p class="quiet name-of">${file_name}</p>
        <p>labelled <b>${label ?? 'nothing'}</b></p>
        ${suggestion && html`<p>more likely <b>${suggestion.class}</b> <span class="quiet">${percent(suggestion.prob)}</span></p>`}
        ${kind !== 'errors' && html`<p class="quiet">${text}</p>`}
        <div class="decide">
          <button type="button" data-testid="keep" disabled=${disabled} onClick=${() => acts.keep(finding)}>
            ${key('keep')} Keep ${label ?? ''}</button>
          ${proposed &&
          html`<button type="button" class="main" data-testid="change" disabled=${disabled}
            onClick=${() => acts.change(finding, proposed)}>${key('accept')} ${label === null ? 'Label' : 'Change to'} ${proposed}</button>`}
          <button type="button" data-testid="flag" disabled=${disabled} onClick=${() => acts.flag(finding)}>${key('flag')} Flag</button>
          <button type="button" data-testid="skip" onClick=${() => acts.skip(finding)}>${key('skip')} Skip</button>
          <select aria-label="Another class" value="" disabled=${disabled}
            onChange=${(/** @type {any} */ event) => event.currentTarget.value && acts.change(finding, event.currentTarget.value)}>
            <option value="">another class…</option>
            ${classes.map((one) => html`<option key=${one.position} value=${one.name}>${one.name}</option>`)}
          </select>
        </div>
      </div>
    </li>
  `
}
