/** Accuracy over labels, with its interval as a band. */

import { html, useEffect, useRef } from './view.js'
import { count, interval, percent } from './format.js'

/** @typedef {import('./api.js').Point} Point */

const HEIGHT = 260
const dark = matchMedia('(prefers-color-scheme: dark)')

/** @param {{points: Point[]}} props */
export function CurveChart({ points }) {
  const box = useRef(/** @type {HTMLDivElement|null} */ (null))
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (box.current)
    /** @type {import('uplot')|null} */
    let chart = null
    let gone = false
    async function draw() {
      // Only this tab needs it, so only this tab waits for it.
      const Plot = /** @type {typeof import('uplot')} */ (/** @type {any} */ (await import('./vendor/uplot.js')).default)
      if (gone) return
      chart?.destroy()
      chart = new Plot(/** @type {any} */ (options(element)), series(points), element)
    }
    const resize = new ResizeObserver(() => chart?.setSize({ width: element.clientWidth, height: HEIGHT }))
    resize.observe(element)
    dark.addEventListener('change', draw)
    draw()
    return () => {
      gone = true
      chart?.destroy()
      resize.disconnect()
      dark.removeEventListener('change', draw)
    }
  }, [points])
  return html`<div class="curve" data-testid="curve" role="img" aria-label=${spoken(points)} ref=${box}></div>`
}

/** @param {Point[]} points @returns {any} */
const series = (points) => [
  points.map((point) => point.labels),
  points.map((point) => point.high),
  points.map((point) => point.low),
  points.map((point) => point.accuracy),
]

/** @param {HTMLElement} element @returns {import('uplot').Options} */
function options(element) {
  const style = getComputedStyle(element)
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim()
  const [accent, soft, line] = [colour('--accent'), colour('--soft'), colour('--line')]
  const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line }, font: '12px system-ui' }
  const edge = { stroke: 'transparent', points: { show: false } }
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: widened }, y: { range: [0, 1] } },
    axes: [
      { ...axis, label: 'labels', labelFont: '12px system-ui', labelSize: 22 },
      { ...axis, size: 52, values: (_, ticks) => ticks.map(percent) },
    ],
    series: [
      {},
      edge,
      edge,
      { stroke: accent, width: 2, points: { show: true, size: 7, fill: accent, stroke: accent } },
    ],
    bands: [{ series: [1, 2], fill: `color-mix(in srgb, ${accent} 22%, transparent)` }],
  }
}

/** One point alone has some room around it. @param {unknown} _ @param {number} low @param {number} high
 * @returns {[number, number]} */
const widened = (_, low, high) => (low === high ? [Math.max(0, low - 10), high + 10] : [low, high])

/** @param {Point[]} points */
function spoken(points) {
  const last = points[points.length - 1]
  return `Accuracy over labels; at ${count(last.labels)} labels ${told(last)}`
}

/** @param {Point} point */
const told = ({ accuracy, low, high }) =>
  accuracy === null ? 'too few random checks' : interval({ value: accuracy, low: low ?? accuracy, high: high ?? accuracy })

/** @param {{points: Point[]}} props */
export const CurveTable = ({ points }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label="Models as a table"><table class="plain">
    <thead><tr><th>model</th><th>labels</th><th>accuracy</th><th>random checks</th></tr></thead>
    <tbody>${points.map(
      (point) => html`<tr key=${point.version}><td>${count(point.version)}</td><td>${count(point.labels)}</td>
        <td>${told(point)}</td><td>${count(point.checks)}</td></tr>`,
    )}</tbody>
  </table></div>
`
