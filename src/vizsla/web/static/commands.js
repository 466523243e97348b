/**
 * What each action of the keyboard does. A tab answers for its own actions first; the rest is the same everywhere.
 *
 * @typedef {(action: string, event: KeyboardEvent) => boolean} Layer   true: the action was mine
 * @typedef {{tab: Layer|null}} Keys
 */

import { useLayoutEffect } from './view.js'
import { actionOf, isTaken } from './keys.js'

/** @type {import('./state.js').TabName[]} */
export const TABS = ['label', 'grid', 'review', 'progress', 'export']

/** A key held down must not answer image after image. */
const MAY_REPEAT = new Set(['back', 'forward', 'undo', 'redo'])

/** Answer for a tab's own actions while it is on. @param {Keys} keys @param {Layer} layer */
export function useTabKeys(keys, layer) {
  useLayoutEffect(() => {
    keys.tab = layer
    return () => {
      keys.tab = null
    }
  })
}

/** The class that an action gives, if it gives one: 'class 3' is the one at place 2.
 * @param {import('./api.js').Class[]} classes @param {string} action */
export function classOf(classes, action) {
  const number = /^class (\d+)$/.exec(action)?.[1]
  return number && classes.find(({ position }) => position === Number(number) - 1)
}

/** @param {import('./state.js').Store} store @param {() => import('./session.js').Session|null} session
 * @param {Keys} keys */
export function listen(store, session, keys) {
  /** @type {Record<string, () => void>} */
  const everywhere = {
    undo: () => session()?.undo(),
    redo: () => session()?.redo(),
    help: () => store.set({ dialog: { name: 'help' } }),
    close: () => store.set({ zoomed: false, looking: null }),
    ...Object.fromEntries(TABS.map((tab) => [tab, () => store.set({ tab, looking: null })])),
  }

  addEventListener('keydown', (event) => {
    const { keymap, singleKeys, dialog, phase } = store.get()
    if (dialog || phase !== 'ready' || event.defaultPrevented || isTaken(event)) return
    // '' for keys without an action: a tab may know some of its own, such as the arrows of the grid.
    const action = actionOf(event, keymap, singleKeys) ?? ''
    if (event.repeat && action && !MAY_REPEAT.has(action)) return event.preventDefault()
    if (keys.tab?.(action, event)) return event.preventDefault()
    if (!everywhere[action]) return
    event.preventDefault()
    everywhere[action]()
  })

  // A clicked button keeps the focus, and Space would then press it again instead of skipping.
  addEventListener('click', (event) => {
    const focused = document.activeElement
    if (event.detail > 0 && focused instanceof HTMLButtonElement && !focused.closest('dialog')) focused.blur()
  })
}
