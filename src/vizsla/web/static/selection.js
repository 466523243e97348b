/**
 * Which tiles of the grid are selected, and how a click, a drag or a key changes that.
 *
 * @typedef {{ids: Set<number>, at: number, anchor: number}} Selection
 *   at: the tile that the Tab key reaches; anchor: where a range begins
 * @typedef {{toggle: (index: number) => void, range: (to: number) => void, all: () => void,
 *   paint: (from: number, to: number, on: boolean) => void, has: (index: number) => boolean}} Selecting
 */

/** @type {Selection} */
export const emptySelection = { ids: new Set(), at: 0, anchor: 0 }

/** @param {number[]} ids of the tiles, in order @param {Selection} selection
 * @param {(change: Selection) => void} set @returns {Selecting} */
export function createSelection(ids, selection, set) {
  return {
    has: (index) => selection.ids.has(ids[index]),
    toggle(index) {
      const next = new Set(selection.ids)
      if (!next.delete(ids[index])) next.add(ids[index])
      set({ ids: next, at: index, anchor: index })
    },
    range(to) {
      set({ ...selection, ids: new Set([...selection.ids, ...between(ids, selection.anchor, to)]), at: to })
    },
    all: () => set({ ...selection, ids: new Set(ids) }),
    paint(from, to, on) {
      const next = new Set(selection.ids)
      for (const id of between(ids, from, to)) on ? next.add(id) : next.delete(id)
      set({ ids: next, at: to, anchor: from })
    },
  }
}

/** Both ends and what lies between. @param {number[]} ids @param {number} one @param {number} other */
export const between = (ids, one, other) => ids.slice(Math.min(one, other), Math.max(one, other) + 1)

/** Where an arrow key leads from a tile, or null if the key is no such key.
 * @param {string} key @param {number} at @param {number} columns @param {number} length @returns {number|null} */
export function stepped(key, at, columns, length) {
  /** @type {Record<string, number>} */
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: length }
  if (!(key in steps) || length === 0) return null
  return Math.max(0, Math.min(length - 1, at + steps[key]))
}
