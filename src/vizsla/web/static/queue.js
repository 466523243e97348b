/**
 * The images ahead: claimed, loaded and decoded before they are needed.
 *
 * The server gives images that are already leased to this person first; so every claim names how many are wanted in
 * all, and what is in hand or on its way to the server is told apart here. No image is shown twice.
 *
 * @typedef {import('./api.js').Item} Item
 * @typedef {import('./api.js').Answer} Answer
 * @typedef {import('./slide.js').Slide} Slide
 * @typedef {Item['item_id']} ItemId
 */

import { problem } from './api.js'
import { makeSlide } from './slide.js'

/** How many images wait decoded behind the visible one, and below how many more are claimed. */
const AHEAD = 5
const LOW = 4
const MOST = 100
const RETRY_MS = 1000

/**
 * @param {{claim: (wish: {n: number, keep?: string[], source?: 'relabel'}) => Promise<{items: Item[]}>,
 *   unsent: () => Answer[], onChange: () => void, onFault: (slide: Slide) => void,
 *   onRefused: (status: number, detail: string) => void}} options
 */
export function createQueue({ claim, unsent, onChange, onFault, onRefused }) {
  /** @type {Slide|null} */
  let current = null
  /** @type {Slide[]} */
  let ahead = []
  /** When the server acknowledged the answer to an image; Infinity until then. @type {Map<ItemId, number>} */
  const answered = new Map()
  /** @type {Set<ItemId>} */
  const broken = new Set()
  /** True while the last claim brought nothing new and nothing is left to show. */
  let dry = false
  /** @type {'no'|'fill'|'swap'} */
  let wanted = 'no'
  let claiming = false
  /** Which images are asked for; what comes from the other queue is late. @type {'relabel'|undefined} */
  let source

  const inHand = () => (current ? [current, ...ahead] : ahead)
  const known = (/** @type {ItemId} */ id) => inHand().find((slide) => slide.item.item_id === id)

  /** @param {'fill'|'swap'} what */
  function want(what) {
    if (what === 'swap' || wanted === 'no') wanted = what
    if (!claiming) claimWanted()
  }

  /** One claim at a time: two at once could not tell what the other brings. */
  async function claimWanted() {
    claiming = true
    while (wanted !== 'no') {
      const swap = wanted === 'swap'
      wanted = 'no'
      try {
        await (swap ? refetch() : fetchMore())
      } catch (error) {
        const { status, message } = problem(error)
        if (status >= 400 && status < 500) {
          onRefused(status, message)
          break
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
        wanted = swap ? 'swap' : wanted === 'no' ? 'fill' : wanted
      }
    }
    claiming = false
  }

  const wish = () => Math.min(MOST, 1 + AHEAD + unsent().length + broken.size)

  async function fetchMore() {
    const began = performance.now()
    const asked = source
    const { items } = await claim({ n: wish(), source })
    if (asked === source) take(items, began)
  }

  /** The visible image and the one decoded behind it stay; the rest follows the new ranking. */
  async function refetch() {
    const began = performance.now()
    const next = ahead.find((slide) => slide.state === 'ready') ?? ahead[0]
    ahead = next ? [next] : []
    onChange()
    const leases = [...inHand().map((slide) => slide.item.lease_id), ...unsent().map((answer) => answer.lease_id)]
    const keep = leases.filter((lease) => typeof lease === 'string')
    const asked = source
    const { items } = await claim({ n: wish(), keep, source })
    if (asked === source) take(items, began)
  }

  /** @param {Item[]} items @param {number} began when they were asked for */
  function take(items, began) {
    for (const item of items) {
      const slide = known(item.item_id)
      if (slide) renew(slide, item)
      else if (isNew(item, began)) ahead.push(makeSlide(item, loaded))
    }
    dry = inHand().length === 0
    promote()
    onChange()
  }

  /** An item answered before the question was asked comes back only if its answer was taken back elsewhere.
   * @param {Item} item @param {number} began */
  function isNew({ item_id }, began) {
    if (broken.has(item_id) || unsent().some((answer) => answer.item_id === item_id)) return false
    const when = answered.get(item_id)
    return when === undefined || when < began
  }

  /** The lease may be another one; what is on screen does not change under the person's eyes.
   * @param {Slide} slide @param {Item} item */
  function renew(slide, item) {
    const bare = slide.item.lease_id === null && slide.item.suggestion === null
    slide.item = bare ? { ...item, reason: slide.item.reason } : { ...slide.item, lease_id: item.lease_id }
  }

  /** @param {Slide} slide */
  function loaded(slide) {
    if (slide.state === 'failed' && inHand().includes(slide)) discard(slide)
    onChange()
  }

  /** @param {Slide} slide */
  function discard(slide) {
    broken.add(slide.item.item_id)
    onFault(slide)
    remove(slide.item.item_id)
  }

  function promote() {
    if (!current) current = ahead.shift() ?? null
  }

  /** @param {ItemId} id */
  function remove(id) {
    ahead = ahead.filter((slide) => slide.item.item_id !== id)
    if (current?.item.item_id === id) current = null
    promote()
    top()
  }

  /** Ask for more in time. */
  function top() {
    if (ahead.length < LOW) want('fill')
  }

  return {
    current: () => current,
    isDry: () => dry && !current,
    claimed: () => inHand().length,
    fill: () => want('fill'),
    swap: () => want('swap'),

    /** Ask for other images from now on; what is in hand of the first goes back.
     * @param {'relabel'|undefined} other */
    turn(other) {
      source = other
      current = null
      ahead = []
      dry = false
      want('swap')
      onChange()
    },

    /** These images are answered: they leave, and the next one is on. @param {ItemId[]} ids */
    answer(ids) {
      for (const id of ids) answered.set(id, Infinity)
      for (const id of ids) remove(id)
      onChange()
    },

    /** @param {ItemId[]} ids */
    acknowledge(ids) {
      for (const id of ids) answered.set(id, performance.now())
    },

    /** An answer was taken back: its image is on again, what was visible waits right behind it.
     * @param {Slide} slide */
    showAgain(slide) {
      const id = slide.item.item_id
      answered.delete(id)
      broken.delete(id)
      if (current?.item.item_id === id) return
      ahead = ahead.filter((other) => other.item.item_id !== id)
      if (current) ahead.unshift(current)
      current = slide
      dry = false
      onChange()
    },

    /** An answer was taken back that is not to be shown at once. @param {ItemId} id */
    forget(id) {
      answered.delete(id)
      want('fill')
    },

    /** @param {Item} item */
    slide: (item) => makeSlide(item, loaded),
  }
}

/** @typedef {ReturnType<typeof createQueue>} Queue */
