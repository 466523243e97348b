/** One image of the grid. */

import { html } from './view.js'
import { percent } from './format.js'

/** Where a drag over the tiles began, and whether it selects. @type {{from: number, on: boolean}|null} */
let drag = null
addEventListener('pointerup', () => setTimeout(() => (drag = null)))

/**
 * @param {{tile: import('./api.js').Tile, index: number, selected: boolean, reachable: boolean,
 *   selecting: import('./selection.js').Selecting}} props
 */
export function Tile({ tile, index, selected, reachable, selecting }) {
  /** @param {MouseEvent} event */
  const onClick = (event) => (event.shiftKey ? selecting.range(index) : selecting.toggle(index))

  /** @param {PointerEvent} event */
  function onPointerDown(event) {
    if (event.pointerType === 'mouse' && !event.shiftKey) drag = { from: index, on: !selecting.has(index) }
  }

  /** @param {PointerEvent} event */
  function onPointerEnter(event) {
    if (drag && event.buttons & 1 && drag.from !== index) selecting.paint(drag.from, index, drag.on)
  }

  return html`
    <div class="tile" role="presentation" onPointerDown=${onPointerDown} onPointerEnter=${onPointerEnter}>
      <button type="button" role="option" aria-selected=${selected} data-testid=${`tile-${tile.item_id}`}
        tabindex=${reachable ? 0 : -1} aria-label=${`${tile.file_name}: ${caption(tile)}`} title=${tile.file_name} onClick=${onClick}>
        <img src=${tile.thumb_url} alt="" draggable=${false} decoding="async" />
        <span class="caption">${caption(tile)}</span>
        <span class="check" aria-hidden="true">✓</span>
      </button>
    </div>
  `
}

/** @param {import('./api.js').Tile} tile */
function caption({ label, status, suggestion }) {
  if (status === 'labelled' && label) return label
  if (status !== 'unlabelled') return status
  return suggestion ? `${suggestion.class} ${percent(suggestion.prob)}` : 'no guess yet'
}
