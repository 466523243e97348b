/** The Grid tab: many images at once, by what the model takes them for, by likeness or by status; labelled in bulk. */

import { html, useEffect, useRef, useState } from './view.js'
import { getGrid, problem } from './api.js'
import { classOf, useTabKeys } from './commands.js'
import { count, counted } from './format.js'
import { createSelection, emptySelection, stepped } from './selection.js'
import { toast } from './state.js'
import { Tile } from './tile.js'

/** @typedef {import('./api.js').Tile} TileData */

const PAGE = 60
/** @type {[by: string, text: string][]} */
const WAYS = [
  ['class', 'By predicted class'],
  ['cluster', 'By likeness'],
  ['status', 'By status'],
]

/** @param {import('./part.js').Part} props */
export function GridTab({ store, session, keys }) {
  const { project, epoch } = store.get()
  const [by, setBy] = useState('class')
  const [group, setGroup] = useState(/** @type {string|null} */ (null))
  const [cursors, setCursors] = useState(/** @type {(string|null)[]} */ ([null]))
  const [page, setPage] = useState(/** @type {import('./api.js').GridPage|null} */ (null))
  const [selection, setSelection] = useState(emptySelection)
  const [asked, setAsked] = useState(0)
  const list = useRef(/** @type {HTMLElement|null} */ (null))
  const tiles = page?.items ?? []
  const cursor = cursors.at(-1) ?? null
  const chosenGroup = group ?? page?.groups.find((one) => one.count > 0)?.name ?? ''

  useEffect(() => {
    let current = true
    getGrid({ by, group, limit: PAGE, cursor }).then(
      (answer) => current && (setPage(answer), setSelection(emptySelection)),
      (error) => toast(store, problem(error).message, { tone: 'bad' }),
    )
    return () => {
      current = false
    }
  }, [by, group, cursor, epoch, asked, project?.model?.version === undefined])

  const selected = tiles.filter((tile) => selection.ids.has(tile.item_id))
  const selecting = createSelection(tiles.map((tile) => tile.item_id), selection, setSelection)

  /** @param {(tile: TileData) => string|null} labelOf */
  function give(labelOf) {
    if (project?.read_only) return toast(store, 'This server is read-only: answers are not taken.')
    const given = selected.flatMap((tile) => {
      const label = labelOf(tile)
      const fields = { suggestion_shown: tile.suggestion !== null, model_version: project?.model?.version ?? null }
      return label === null ? [] : [{ ...tile, label, status: /** @type {const} */ ('labelled'), fields }]
    })
    if (!given.length) return
    session.give(given)
    const names = new Set(given.map((one) => one.label))
    const what = names.size === 1 ? `“${given[0].label}”` : 'as predicted'
    toast(store, `${counted(given.length, 'image')}: ${what}`, { action: { text: 'Undo', run: session.undo } })
    remove(new Set(given.map((one) => one.item_id)))
  }

  /** Answered images leave at once; the next ones follow when the server has the answers. @param {Set<number>} ids */
  function remove(ids) {
    if (page && by !== 'status') setPage({ ...page, items: tiles.filter((tile) => !ids.has(tile.item_id)) })
    setSelection(emptySelection)
    session.outbox.settled(5000).then(() => setAsked((times) => times + 1))
  }

  /** @param {number} to */
  function focus(to) {
    setSelection((before) => ({ ...before, at: to }))
    list.current?.children[to]?.querySelector('button')?.focus()
  }

  useTabKeys(keys, (action, event) => {
    const chosen = classOf(project?.classes ?? [], action)
    if (chosen) give(() => chosen.name)
    else if (action === 'all') selecting.all()
    else if (action === 'accept') give(predicted)
    else if (action === 'close') setSelection(emptySelection)
    else return stepTo(event)
    return true
  })

  /** @param {KeyboardEvent} event */
  function stepTo(event) {
    const to = stepped(event.key, selection.at, columns(list.current), tiles.length)
    if (to === null) return false
    if (event.shiftKey) selecting.range(to)
    focus(to)
    return true
  }

  const open = (/** @type {string} */ nextBy, /** @type {string|null} */ nextGroup) => {
    setBy(nextBy)
    setGroup(nextGroup)
    setCursors([null])
  }

  return html`
    <main class="grid-tab">
      <h1 class="sr">Grid</h1>
      <div class="tools">
        <div class="ways" role="group" aria-label="Group the images">
          ${WAYS.map(
            ([name, text]) => html`<button key=${name} type="button" aria-pressed=${by === name}
              data-testid=${`by-${name}`} onClick=${() => open(name, null)}>${text}</button>`,
          )}
        </div>
        <select aria-label="Which group" data-testid="group" value=${chosenGroup}
          onChange=${(/** @type {any} */ event) => open(by, event.currentTarget.value)}>
          ${page?.groups.map(
            (one) => html`<option key=${one.name} value=${one.name}>${groupName(by, one.name)} (${count(one.count)})</option>`,
          )}
        </select>
        <span class="pager">
          <button type="button" disabled=${cursors.length === 1} aria-label="Previous page"
            onClick=${() => setCursors(cursors.slice(0, -1))}>←</button>
          <span class="quiet">page ${count(cursors.length)}</span>
          <button type="button" disabled=${!page?.next} aria-label="Next page" data-testid="next-page"
            onClick=${() => setCursors([...cursors, page?.next ?? null])}>→</button>
        </span>
      </div>
      ${page && !tiles.length && html`<${Nothing} by=${by} model=${project?.model !== null} />`}
      <div class="tiles" role="listbox" aria-multiselectable="true" aria-label="Images" ref=${list}>
        ${tiles.map(
          (tile, index) => html`<${Tile} key=${tile.item_id} tile=${tile} index=${index}
            selected=${selection.ids.has(tile.item_id)} reachable=${index === selection.at} selecting=${selecting} />`,
        )}
      </div>
      <${Bulk} selected=${selected} classes=${project?.classes ?? []} all=${selecting.all}
        none=${() => setSelection(emptySelection)} give=${give} any=${tiles.length > 0} />
    </main>
  `
}

/** @param {TileData} tile */
const predicted = (tile) => tile.suggestion?.class ?? null

/** @param {string} by @param {string} name */
const groupName = (by, name) => (by === 'cluster' ? `likeness ${name}` : name)

/** How many tiles stand in a row. @param {HTMLElement|null} list */
function columns(list) {
  const tops = [...(list?.children ?? [])].map((child) => /** @type {HTMLElement} */ (child).offsetTop)
  return Math.max(1, tops.filter((top) => top === tops[0]).length)
}

/** @param {{by: string, model: boolean}} props */
const Nothing = ({ by, model }) => html`<p class="nothing quiet">
  ${model || by === 'status' ? 'No images in this group.' : 'The grid fills with the first model. Label a few images first.'}
</p>`

/** @param {{selected: TileData[], classes: import('./api.js').Class[], any: boolean, all: () => void, none: () => void,
 *   give: (labelOf: (tile: TileData) => string|null) => void}} props */
function Bulk({ selected, classes, any, all, none, give }) {
  const names = new Set(selected.map(predicted))
  const sure = selected.filter((tile) => predicted(tile) !== null).length
  const as = names.size === 1 && sure ? `“${[...names][0]}”` : 'predicted'
  return html`
    <div class="bulk" aria-live="polite">
      <span data-testid="selected">${counted(selected.length, 'image')} selected</span>
      <button type="button" disabled=${!any} data-testid="select-all" onClick=${all}>Select all</button>
      <button type="button" disabled=${!selected.length} onClick=${none}>None</button>
      <span class="gap"></span>
      <button type="button" class="main" data-testid="confirm" disabled=${!sure} onClick=${() => give(predicted)}>
        Confirm ${sure ? `${count(sure)} ` : ''}as ${as}</button>
      <select aria-label="Label the selection" data-testid="label-selection" value="" disabled=${!selected.length}
        onChange=${(/** @type {any} */ event) => event.currentTarget.value && give(() => event.currentTarget.value)}>
        <option value="">label as…</option>
        ${classes.map((one) => html`<option key=${one.position} value=${one.name}>${one.name}</option>`)}
      </select>
    </div>
  `
}
