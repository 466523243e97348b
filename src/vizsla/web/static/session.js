/**
 * A person's labelling: answers go to the outbox and the next image comes on; steps back go the same way.
 *
 * @typedef {import('./api.js').Answer} Answer
 * @typedef {import('./api.js').Status} Status
 * @typedef {import('./state.js').Store} Store
 * @typedef {import('./state.js').Recent} Recent
 * @typedef {import('./slide.js').Slide} Slide
 * @typedef {Answer['item_id']} ItemId
 * @typedef {Pick<Recent, 'item_id'|'file_name'|'thumb_url'>} Answered   an image by what the drawer knows of it
 */

import * as api from './api.js'
import { createOutbox } from './outbox.js'
import { createQueue } from './queue.js'
import { createSteps } from './steps.js'
import { makeSlide } from './slide.js'
import { toast } from './state.js'

const RECENT = 20
/** Slides of the last answers are kept, so that an undo shows its image at once. */
const TRAIL = 8

/** @param {Store} store @param {{storage: Storage, projectId: string, signIn: () => void}} options */
export function createSession(store, { storage, projectId, signIn }) {
  /** @type {Slide[]} */
  let trail = []

  const outbox = createOutbox({
    project: projectId,
    storage,
    send: api.postAnswers,
    onAck: acknowledged,
    onRefused: (parcel) => toast(store, `Not saved: ${parcel.refused}`, { tone: 'bad', action: showRefused }),
    onTrouble: (status) => status === 401 && signIn(),
    onChange: (outboxState) => store.set({ outbox: outboxState }),
  })
  const queue = createQueue({
    claim: api.claim,
    unsent: outbox.unsent,
    onChange: () => store.set({ current: queue.current(), dry: queue.isDry() }),
    onFault: (slide) => toast(store, `${slide.item.file_name}: ${slide.fault}`, { tone: 'bad' }),
    onRefused: (status, detail) => (status === 401 ? signIn() : toast(store, detail, { tone: 'bad' })),
  })
  const steps = createSteps(store, { outbox, queue, slideOf, loadRecent, remember, forget })
  const showRefused = { text: 'Show', run: () => store.set({ dialog: { name: 'refused' } }) }

  /** @param {import('./outbox.js').Parcel} parcel @param {import('./api.js').Ack[]} acks */
  function acknowledged(parcel, acks) {
    queue.acknowledge(parcel.answers.map((answer) => answer.item_id))
    const ids = new Map(parcel.answers.map((answer, index) => [answer.key, acks[index]?.label_id]))
    const recent = store.get().recent.map((entry) =>
      entry.key && ids.has(entry.key) ? { ...entry, label_id: ids.get(entry.key) ?? null, key: null } : entry,
    )
    store.set({ recent, saved: acks.at(-1)?.saved ?? store.get().saved })
  }

  /** @param {Recent} entry */
  function remember(entry) {
    const others = store.get().recent.filter((other) => other.item_id !== entry.item_id)
    store.set({ recent: [entry, ...others].slice(0, RECENT) })
  }

  /** @param {ItemId[]} ids */
  function forget(ids) {
    store.set({ recent: store.get().recent.filter((entry) => !ids.includes(entry.item_id)) })
  }

  async function loadRecent() {
    const { items } = await api.getOwnLabels(RECENT).catch(() => ({ items: [] }))
    const waiting = store.get().recent.filter((entry) => entry.key !== null)
    const told = items.filter((label) => !waiting.some((entry) => entry.item_id === label.item_id))
    store.set({ recent: [...waiting, ...told.map((label) => ({ ...label, key: null }))].slice(0, RECENT) })
  }

  /** The slide of an image answered before. @param {Answered} of @param {string} reason */
  function slideOf(of, reason) {
    const kept = trail.find((slide) => slide.item.item_id === of.item_id)
    // Its lease ended with the answer; without one, the answer goes by what the server leases now.
    if (kept) return Object.assign(kept, { item: { ...kept.item, lease_id: null }, paintedAt: null, guessSeen: false })
    return queue.slide(bareItem(of, reason))
  }

  /** Answers that go together. @param {(Answered & {label: string|null, status: Status, fields?: Partial<Answer>})[]} given */
  function give(given) {
    const answers = given.map(({ item_id, label, status, fields }) => ({
      item_id,
      label,
      status,
      key: crypto.randomUUID(),
      ...fields,
    }))
    for (const [index, answer] of answers.entries()) remember(recentOf(answer, given[index], store))
    outbox.add(answers)
    queue.answer(answers.map((answer) => answer.item_id))
    steps.clear()
  }

  /** @param {Status} status @param {string|null} label */
  function answerCurrent(status, label) {
    const slide = queue.current()
    // An image that was never on screen is not answered: a key pressed twice does not label the next one unseen.
    if (!slide || slide.paintedAt === null) return
    trail = [slide, ...trail.filter((other) => other !== slide)].slice(0, TRAIL)
    const { item_id, file_name, image_url, lease_id, model_version } = slide.item
    const lead_ms = Math.round(performance.now() - slide.paintedAt)
    const fields = { lease_id, model_version, suggestion_shown: slide.guessSeen, lead_ms }
    give([{ item_id, file_name, thumb_url: api.thumbOf(image_url), label, status, fields }])
    store.set({ zoomed: false })
  }

  /** @param {Recent} recent @param {Status} status @param {string|null} label */
  function correct({ item_id, file_name, thumb_url }, status, label) {
    give([{ item_id, file_name, thumb_url, label, status, fields: { suggestion_shown: false } }])
    toast(store, label === null ? `Now ${status}` : `Now “${label}”`)
    look(null)
  }

  /** @param {Recent|null} recent */
  function look(recent) {
    const slide = recent && makeSlide(bareItem(recent, ''), () => store.set({}))
    store.set({ looking: recent && slide ? { recent, slide } : null, zoomed: false })
  }

  return {
    outbox,
    queue,
    give,
    look,
    loadRecent,
    undo: steps.undo,
    redo: steps.redo,

    /** @param {Status} status @param {string|null} label */
    answer(status, label) {
      const { looking, project } = store.get()
      if (project?.read_only) return toast(store, 'This server is read-only: answers are not taken.')
      if (looking) correct(looking.recent, status, label)
      else answerCurrent(status, label)
    },

    /** One step through the own answers: +1 is further back. @param {1|-1} by */
    walk(by) {
      const { looking, recent } = store.get()
      const at = looking ? recent.findIndex((entry) => entry.item_id === looking.recent.item_id) : -1
      const to = at + by
      if (to < recent.length) look(recent[to] ?? null)
    },

    /** @param {Slide} slide */
    painted(slide) {
      slide.paintedAt = performance.now()
      slide.image.dataset.painted = slide.paintedAt.toFixed(1)
      slide.guessSeen ||= store.get().guessesShown && slide.item.suggestion !== null
    },

    /** To the images that are worth asking again, or back to new ones. @param {boolean} relabelling */
    relabel(relabelling) {
      store.set({ tab: 'label', looking: null, zoomed: false })
      if (relabelling === store.get().relabelling) return
      store.set({ relabelling })
      queue.turn(relabelling ? 'relabel' : undefined)
    },

    toggleGuesses() {
      const guessesShown = !store.get().guessesShown
      const slide = queue.current()
      if (slide && guessesShown && slide.item.suggestion) slide.guessSeen = true
      store.set({ guessesShown })
    },

    /** Give up an answer that the server refused; its image may come again.
     * @param {import('./outbox.js').Parcel} parcel */
    discard(parcel) {
      outbox.discard(parcel)
      forget(parcel.answers.map((answer) => answer.item_id))
      for (const answer of parcel.answers) queue.forget(answer.item_id)
      loadRecent()
    },

    start() {
      outbox.flush()
      if (!store.get().project?.read_only) queue.fill()
      loadRecent()
      store.set({ outbox: outbox.state() })
    },
  }
}

/** @typedef {ReturnType<typeof createSession>} Session */

/** All that is known of an image before the server leases it.
 * @param {Answered} of @param {string} reason @returns {import('./api.js').Item} */
const bareItem = ({ item_id, file_name, thumb_url }, reason) => ({
  item_id,
  file_name,
  reason,
  lease_id: null,
  image_url: api.imageOf(thumb_url),
  audit: false,
  model_version: null,
  suggestion: null,
})

/** @param {Answer} answer @param {Answered} of @param {Store} store @returns {Recent} */
const recentOf = ({ item_id, label, status, key }, { file_name, thumb_url }, store) => ({
  label_id: null,
  item_id,
  file_name,
  label,
  status,
  annotator: store.get().project?.annotator ?? '',
  round: null,
  source: 'human',
  created_at: new Date().toISOString(),
  thumb_url,
  key,
})
