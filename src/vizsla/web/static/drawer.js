/** The last answers: a glance back, and a click to put one right. */

import { html } from './view.js'

/** @typedef {import('./state.js').Recent} Recent */

/** What was said about an image, in words. @param {{label: string|null, status: string}} answer */
export const said = ({ label, status }) => (status === 'labelled' ? (label ?? '') : status)

/**
 * @param {{recent: Recent[], looking: Recent|null, guidelines: string, onLook: (recent: Recent) => void}} props
 */
export function Drawer({ recent, looking, guidelines, onLook }) {
  return html`
    <section class="drawer" data-testid="drawer" aria-label="Your last answers">
      ${guidelines &&
      html`<details class="guidelines"><summary>Guidelines</summary><p>${guidelines}</p></details>`}
      ${recent.length === 0 && html`<p class="quiet">Your last answers appear here. Click one to change it.</p>`}
      <ol>
        ${recent.map(
          (entry) => html`<${Entry} key=${entry.item_id} entry=${entry} onLook=${onLook}
            current=${looking?.item_id === entry.item_id} />`,
        )}
      </ol>
    </section>
  `
}

const AGAIN_MS = 4000

/** Without a connection there is an empty frame instead of the browser's broken one, until it is back.
 * @param {Event & {currentTarget: HTMLImageElement}} event */
function again({ currentTarget: image }) {
  image.style.visibility = 'hidden'
  setTimeout(() => (image.src = image.src), AGAIN_MS)
}

/** @param {Event & {currentTarget: HTMLImageElement}} event */
const shown = ({ currentTarget: image }) => image.style.removeProperty('visibility')

/** @param {{entry: Recent, current: boolean, onLook: (recent: Recent) => void}} props */
const Entry = ({ entry, current, onLook }) => html`
  <li>
    <button type="button" class="recent" data-testid=${`recent-${entry.label_id ?? entry.key}`}
      data-status=${entry.status} data-waiting=${entry.key !== null} aria-pressed=${current}
      aria-label=${`${entry.file_name}: ${said(entry)}. Change`} onClick=${() => onLook(entry)}>
      <img src=${entry.thumb_url} alt="" loading="lazy" decoding="async" onError=${again} onLoad=${shown} />
      <span>${said(entry)}</span>
    </button>
  </li>
`
