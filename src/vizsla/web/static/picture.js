/** The image: contained in its stage, or enlarged and moved about. */

import { html, useEffect, useLayoutEffect, useRef } from './view.js'
import { afterPaint } from './slide.js'

/** @typedef {{x: number, y: number, scale: number}} View */
/** @type {View} */
const FIT = { x: 0, y: 0, scale: 1 }
const LEAST_ZOOM = 1.6

/**
 * @param {{slide: import('./slide.js').Slide, zoomed: boolean, onZoom: (zoomed: boolean) => void,
 *   onPainted: (slide: import('./slide.js').Slide) => void}} props
 */
export function Picture({ slide, zoomed, onZoom, onPainted }) {
  const stage = useRef(/** @type {HTMLDivElement|null} */ (null))
  const view = useRef(FIT)
  const ready = slide.state === 'ready'

  useLayoutEffect(() => {
    if (!ready) return
    mount(/** @type {HTMLDivElement} */ (stage.current), slide, onPainted)
    return () => slide.image.remove()
  }, [slide, ready])

  /** @param {View} next */
  const show = (next) => {
    view.current = clamped(next, slide.image)
    const { x, y, scale } = view.current
    slide.image.style.transform = scale === 1 ? '' : `translate(${x}px, ${y}px) scale(${scale})`
  }

  useEffect(() => {
    if (ready) show(zoomed ? { x: 0, y: 0, scale: fullScale(slide.image) } : FIT)
  }, [slide, ready, zoomed])

  const pan = (/** @type {number} */ dx, /** @type {number} */ dy) => {
    const { x, y, scale } = view.current
    show({ x: x + dx, y: y + dy, scale })
  }

  /** @param {WheelEvent} event */
  function onWheel(event) {
    if (!zoomed) return
    event.preventDefault()
    if (event.ctrlKey) show({ ...view.current, scale: Math.max(1.01, view.current.scale * Math.exp(-event.deltaY / 300)) })
    else pan(-event.deltaX, -event.deltaY)
  }

  /** @param {PointerEvent} event */
  function onPointerMove(event) {
    if (zoomed && event.buttons & 1) pan(event.movementX, event.movementY)
  }

  /** @param {PointerEvent} event */
  const onPointerDown = (event) => zoomed && stage.current?.setPointerCapture(event.pointerId)

  return html`
    <div class="picture" data-zoomed=${zoomed} ref=${stage} onWheel=${onWheel} onPointerDown=${onPointerDown}
      onPointerMove=${onPointerMove} onDblClick=${() => onZoom(!zoomed)}></div>
    ${ready ? null : html`<${Absent} slide=${slide} />`}
  `
}

/** @param {{slide: import('./slide.js').Slide}} props */
const Absent = ({ slide }) =>
  slide.state === 'failed'
    ? html`<p class="absent" role="status">${slide.item.file_name}: ${slide.fault}</p>`
    : html`<p class="absent pending" role="status">loading the image…</p>`

/** @param {HTMLDivElement} stage @param {import('./slide.js').Slide} slide
 * @param {(slide: import('./slide.js').Slide) => void} onPainted */
function mount(stage, slide, onPainted) {
  const { image, item } = slide
  image.dataset.testid = 'image'
  image.dataset.itemId = String(item.item_id)
  delete image.dataset.painted
  image.style.transform = ''
  stage.replaceChildren(image)
  afterPaint(slide, () => onPainted(slide))
}

/** One pixel of the image on one of the screen; for small images, enough to fill the stage.
 * @param {HTMLImageElement} image */
function fullScale(image) {
  const { width, height, fit } = measures(image)
  const fill = Math.max(width / image.naturalWidth, height / image.naturalHeight)
  return Math.max(LEAST_ZOOM, 1 / fit, fill / fit)
}

/** The size of the stage and by how much `object-fit: contain` scales the image. @param {HTMLImageElement} image */
function measures(image) {
  const { clientWidth: width, clientHeight: height } = image
  return { width, height, fit: Math.min(width / image.naturalWidth, height / image.naturalHeight) || 1 }
}

/** The image's edge never leaves the stage's. @param {View} view @param {HTMLImageElement} image @returns {View} */
function clamped({ x, y, scale }, image) {
  const { width, height, fit } = measures(image)
  const most = (/** @type {number} */ size, /** @type {number} */ room) => Math.max(0, (size * fit * scale - room) / 2)
  const [right, down] = [most(image.naturalWidth, width), most(image.naturalHeight, height)]
  return { x: Math.max(-right, Math.min(right, x)), y: Math.max(-down, Math.min(down, y)), scale }
}
