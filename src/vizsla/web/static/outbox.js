/**
 * Answers wait here, in the browser's storage, until the server says that it has them.
 *
 * A parcel is one answer, or a batch that goes together. Parcels leave in order; one that did not arrive is sent again
 * with the same keys, so the server stores it once. Only what the server refuses for good leaves the line: it is
 * kept, with the reason, until the person decides.
 *
 * @typedef {import('./api.js').Answer} Answer
 * @typedef {import('./api.js').Ack} Ack
 * @typedef {{key: string, seq: number, answers: Answer[], tried: boolean, refused: string|null}} Parcel
 * @typedef {{waiting: number, late: boolean, refused: Parcel[]}} OutboxState
 *   waiting: answers not yet acknowledged; late: worth telling, because a try failed
 */

import { problem } from './api.js'

const FIRST_PAUSE_MS = 400
const LONGEST_PAUSE_MS = 10_000
/** Answers of the server that the same answer may outlive: no login yet, too slow, too many. */
const PASSING = new Set([0, 401, 408, 421, 425, 429])

/** @param {number} status */
const isFinal = (status) => status < 500 && !PASSING.has(status)

/**
 * @param {{project: string, storage: Storage, send: (answers: Answer[]) => Promise<Ack[]>,
 *   onAck: (parcel: Parcel, acks: Ack[]) => void, onRefused: (parcel: Parcel) => void,
 *   onTrouble: (status: number) => void, onChange: (state: OutboxState) => void}} options
 */
export function createOutbox({ project, storage, send, onAck, onRefused, onTrouble, onChange }) {
  // One entry per parcel: two tabs of the same project never overwrite each other's answers.
  const prefix = `vizsla.outbox/${project}/`
  let parcels = stored(storage, prefix)
  let failures = 0
  /** @type {Parcel|null} */
  let sending = null
  let running = false
  let wake = () => {}

  const line = () => parcels.filter((parcel) => parcel.refused === null)
  const state = () => ({
    waiting: line().reduce((sum, parcel) => sum + parcel.answers.length, 0),
    late: failures > 0,
    refused: parcels.filter((parcel) => parcel.refused !== null),
  })
  const changed = () => onChange(state())

  /** @param {Parcel} parcel */
  function keep(parcel) {
    try {
      storage.setItem(prefix + parcel.key, JSON.stringify(parcel))
    } catch {
      // Storage full or forbidden: the parcel still waits in memory, and is sent from there.
    }
  }

  /** @param {Parcel} parcel */
  function drop(parcel) {
    parcels = parcels.filter((other) => other !== parcel)
    storage.removeItem(prefix + parcel.key)
  }

  async function run() {
    if (running) return
    running = true
    for (let parcel = line()[0]; parcel; parcel = line()[0]) await deliver(parcel)
    running = false
  }

  /** @param {Parcel} parcel */
  async function deliver(parcel) {
    sending = parcel
    try {
      const acks = await send(parcel.answers)
      failures = 0
      drop(parcel)
      onAck(parcel, acks)
    } catch (error) {
      const { status, message } = problem(error)
      parcel.tried = true
      if (isFinal(status)) refuse(parcel, message)
      else await retryLater(parcel, status)
    }
    sending = null
    changed()
  }

  /** @param {Parcel} parcel @param {string} reason */
  function refuse(parcel, reason) {
    failures = 0
    parcel.refused = reason
    keep(parcel)
    onRefused(parcel)
  }

  /** @param {Parcel} parcel @param {number} status */
  async function retryLater(parcel, status) {
    keep(parcel)
    sending = null
    failures += 1
    onTrouble(status)
    changed()
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1))
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause)
      wake = () => (clearTimeout(timer), resolve(null))
    })
  }

  return {
    state,
    /** The answers on their way: their images must not be shown again. */
    unsent: () => parcels.flatMap((parcel) => parcel.answers),

    /** @param {Answer[]} answers @returns {Parcel} */
    add(answers) {
      const last = parcels.at(-1)
      const seq = Math.max(Date.now(), (last?.seq ?? 0) + 1)
      const parcel = { key: answers[0].key, seq, answers, tried: false, refused: null }
      keep(parcel)
      parcels.push(parcel)
      changed()
      run()
      return parcel
    },

    /** Take back the newest parcel if it has certainly not reached the server. @returns {Parcel|null} */
    withdraw() {
      const parcel = line().at(-1)
      if (!parcel || parcel.tried || parcel === sending) return null
      drop(parcel)
      changed()
      return parcel
    },

    /** Resolves to true once nothing waits, to false if that takes longer than `patience` ms.
     * @param {number} patience */
    async settled(patience) {
      wake()
      for (const end = Date.now() + patience; line().length && Date.now() < end; ) {
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      return line().length === 0
    },

    /** Try again at once: the connection is back. */
    flush() {
      wake()
      run()
    },

    /** @param {Parcel} parcel */
    retry(parcel) {
      parcel.refused = null
      keep(parcel)
      changed()
      run()
    },

    /** @param {Parcel} parcel */
    discard(parcel) {
      drop(parcel)
      changed()
    },
  }
}

/** @typedef {ReturnType<typeof createOutbox>} Outbox */

/** What an earlier visit left behind, oldest first; whether it was sent is not known, so it counts as tried.
 * @param {Storage} storage @param {string} prefix @returns {Parcel[]} */
function stored(storage, prefix) {
  return Object.keys(storage)
    .filter((name) => name.startsWith(prefix))
    .map((name) => parsed(storage.getItem(name)))
    .filter((parcel) => parcel !== null)
    .map((parcel) => ({ ...parcel, tried: true }))
    .sort((one, other) => one.seq - other.seq)
}

/** @param {string|null} text @returns {Parcel|null} */
function parsed(text) {
  try {
    const parcel = JSON.parse(text ?? '')
    return Array.isArray(parcel?.answers) && parcel.answers.length ? parcel : null
  } catch {
    return null
  }
}
