/**
 * What the server tells by itself: server-sent events, and the project behind them.
 *
 * @typedef {import('./state.js').Store} Store
 */

import * as api from './api.js'
import { toast } from './state.js'

const BETWEEN_FETCHES_MS = 1000
const REOPEN_MS = 2000
const FRESH_MS = 8000

/** @param {Store} store @param {{onSwap: () => void, onOpen: () => void, signIn: () => void}} options */
export function createLive(store, { onSwap, onOpen, signIn }) {
  let fetchedAt = -Infinity
  let planned = false
  /** What was told while the project is being fetched, for that may be the newer word. @type {Partial<import('./api.js').Project>} */
  let told = {}

  /** Saved labels may come by the dozen: the project is fetched once a second at most. */
  function refreshSoon() {
    if (planned) return
    planned = true
    setTimeout(refresh, Math.max(0, fetchedAt + BETWEEN_FETCHES_MS - performance.now()))
  }

  async function refresh() {
    planned = false
    fetchedAt = performance.now()
    told = {}
    try {
      const project = { ...(await api.getProject()), ...told }
      store.set({ project })
      return project
    } catch (error) {
      if (api.problem(error).status === 401) signIn()
      return null
    }
  }

  function open() {
    const source = new EventSource('/api/events')
    const on = (/** @type {string} */ name, /** @type {(data: any) => void} */ act) =>
      source.addEventListener(name, (event) => act(JSON.parse(/** @type {MessageEvent} */ (event).data || 'null')))
    source.onopen = () => {
      store.set({ online: true })
      refresh()
      onOpen()
    }
    source.onerror = () => {
      store.set({ online: false })
      // The browser reconnects by itself after a cut, but gives up on an answer that is no stream.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, REOPEN_MS)
    }
    // What comes with these is all that they change: fifty people label at once, and their pages ask nothing.
    on('saved', ({ saved, ...counted }) => (store.set({ saved }), change(counted)))
    on('training', (training) => change({ training }))
    on('advice', (advice) => change({ advice }))
    on('classes', refreshSoon)
    on('project', refreshSoon)
    on('model_swapped', swapped)
  }

  /** @param {Partial<import('./api.js').Project>} fields */
  function change(fields) {
    Object.assign(told, fields)
    const { project } = store.get()
    if (project) store.set({ project: { ...project, ...fields } })
  }

  /** @param {import('./api.js').Model} model */
  function swapped(model) {
    change({ model })
    store.set({ freshModel: model.version })
    setTimeout(() => store.get().freshModel === model.version && store.set({ freshModel: null }), FRESH_MS)
    // At once, for the accuracy on screen is still the old model's.
    refresh()
    onSwap()
  }

  return {
    open,
    refresh,
    refreshSoon,

    async retryTraining() {
      try {
        await api.train()
      } catch (error) {
        toast(store, api.problem(error).message, { tone: 'bad' })
      }
    },
  }
}

/** @typedef {ReturnType<typeof createLive>} Live */
