/**
 * One image on its way to the eye: claimed, loaded, decoded, painted.
 *
 * The element that was decoded ahead is the very one that is shown, so showing it costs no request and no decoding.
 *
 * @typedef {import('./api.js').Item} Item
 * @typedef {{item: Item, image: HTMLImageElement, state: 'loading'|'ready'|'failed', fault: string|null,
 *   paintedAt: number|null, guessSeen: boolean}} Slide
 *   guessSeen: a suggestion was visible at any time while this image was
 */

import { imageFault } from './api.js'

const RETRY_MS = 1500

/** @param {Item} item @param {(slide: Slide) => void} onChange @returns {Slide} */
export function makeSlide(item, onChange) {
  const image = new Image()
  image.alt = `image ${item.item_id}, to be labelled` // not its name, which may tell the class
  image.draggable = false
  image.decoding = 'sync' // it was decoded ahead; 'async' would paint one empty frame first
  /** @type {Slide} */
  const slide = { item, image, state: 'loading', fault: null, paintedAt: null, guessSeen: false }
  load(slide).then(() => onChange(slide))
  return slide
}

/** Until the image can be painted or the server says why not; a lost connection only makes it wait.
 * @param {Slide} slide */
async function load(slide) {
  for (let tries = 0; slide.state === 'loading'; tries++) {
    slide.image.src = slide.item.image_url
    try {
      await slide.image.decode()
      slide.state = 'ready'
    } catch {
      await explain(slide, tries)
    }
  }
}

/** @param {Slide} slide @param {number} tries */
async function explain(slide, tries) {
  const fault = await imageFault(slide.item.image_url)
  const refused = fault !== null && fault.status >= 400 && fault.status < 500 && fault.status !== 401
  if (refused || (fault === null && tries > 0)) {
    slide.state = 'failed'
    slide.fault = fault?.message ?? 'this browser cannot show the image'
    return
  }
  await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
}

/** Calls back once the image is really on the screen: a frame was drawn after it entered the page.
 * @param {Slide} slide @param {() => void} done */
export function afterPaint(slide, done) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      if (slide.image.isConnected) done()
    }
    // A message sent inside a frame is delivered after that frame was painted.
    port2.postMessage(null)
  })
}
