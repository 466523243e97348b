/**
 * Undo and redo, one at a time and in order.
 *
 * An answer that has certainly not left the browser is taken back here; all else is the server's to take back, after
 * everything that waits has reached it.
 *
 * @typedef {import('./state.js').Store} Store
 * @typedef {import('./state.js').Recent} Recent
 * @typedef {import('./api.js').Label} Label
 * @typedef {import('./outbox.js').Parcel} Parcel
 * @typedef {import('./slide.js').Slide} Slide
 * @typedef {import('./session.js').Answered} Answered
 */

import { postStep, problem } from './api.js'
import { toast } from './state.js'

const PATIENCE_MS = 3000
const TRIES = 3

/**
 * @param {Store} store
 * @param {{outbox: import('./outbox.js').Outbox, queue: import('./queue.js').Queue,
 *   slideOf: (of: Answered, reason: string) => Slide,
 *   loadRecent: () => Promise<void>, remember: (entry: Recent) => void,
 *   forget: (ids: Label['item_id'][]) => void}} session
 */
export function createSteps(store, { outbox, queue, slideOf, loadRecent, remember, forget }) {
  /** What redo gives again, newest last: a parcel that never left, or null for a step of the server's.
   * @type {({parcel: Parcel, entries: Recent[]}|null)[]} */
  let undone = []
  let turn = Promise.resolve()

  /** @param {() => Promise<void>} step */
  const inTurn = (step) => (turn = turn.then(step).catch((error) => toast(store, problem(error).message, { tone: 'bad' })))

  async function undoOnce() {
    const parcel = outbox.withdraw()
    if (parcel) return undoHere(parcel)
    if (!(await outbox.settled(PATIENCE_MS))) {
      return toast(store, 'Undo must wait: your last answer has not reached the server yet.')
    }
    const { labels, saved } = await ask('undo')
    store.set({ saved })
    if (!labels.length) return toast(store, 'Nothing to undo')
    undone.push(null)
    taken(labels)
    loadRecent()
  }

  /** @param {Parcel} parcel */
  function undoHere(parcel) {
    const ids = new Set(parcel.answers.map((answer) => answer.item_id))
    const entries = store.get().recent.filter((entry) => ids.has(entry.item_id))
    undone.push({ parcel, entries })
    taken(entries)
    // What stood before a corrected answer, and the rest of a batch longer than the drawer:
    loadRecent()
    for (const id of ids) queue.forget(id)
  }

  /** The newest of them is on again at once; the rest of a batch comes with the queue.
   * @param {(Answered & {label: string|null})[]} labels */
  function taken(labels) {
    forget(labels.map((label) => label.item_id))
    if (store.get().tab === 'label' && labels.length === 1) {
      store.set({ looking: null, zoomed: false })
      queue.showAgain(slideOf(labels[0], was(labels[0])))
      queue.fill()
    } else {
      for (const label of labels) queue.forget(label.item_id)
      toast(store, labels.length === 1 ? `Took back ${labels[0].file_name}` : `Took back ${labels.length} labels`)
    }
    store.set({ epoch: store.get().epoch + 1 })
  }

  async function redoOnce() {
    const step = undone.pop()
    if (step) return redoHere(step)
    const { labels, saved } = await ask('redo')
    store.set({ saved })
    if (!labels.length) return toast(store, 'Nothing to redo')
    const ids = labels.map((label) => label.item_id)
    queue.answer(ids)
    queue.acknowledge(ids)
    for (const label of labels) remember({ ...label, key: null })
    store.set({ epoch: store.get().epoch + 1 })
  }

  /** @param {{parcel: Parcel, entries: Recent[]}} step */
  function redoHere({ parcel, entries }) {
    for (const entry of entries) remember(entry)
    outbox.add(parcel.answers)
    queue.answer(parcel.answers.map((answer) => answer.item_id))
  }

  return {
    undo: () => inTurn(undoOnce),
    redo: () => inTurn(redoOnce),
    /** A new answer: there is nothing to give again any more. */
    clear() {
      undone = []
    },
  }
}

/** The same key on every try: a step whose answer was lost is not taken twice. @param {'undo'|'redo'} what */
async function ask(what) {
  const key = crypto.randomUUID()
  for (let tries = 1; ; tries++) {
    try {
      return await postStep(what, key)
    } catch (error) {
      const { status } = problem(error)
      if (tries === TRIES || (status > 0 && status < 500)) throw error
      await new Promise((resolve) => setTimeout(resolve, 300 * tries))
    }
  }
}

/** @param {{label: string|null}} taken */
const was = ({ label }) => (label === null ? 'taken back' : `taken back: was “${label}”`)
