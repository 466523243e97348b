/** The confusion matrix: rows as labelled, columns as predicted. A cell leads to its images. */

import { html } from './view.js'
import { count, counted } from './format.js'

/** @typedef {import('./api.js').Confusion} Confusion */

/** A table of 500 × 500 tells nobody anything: the classes that are confused most are shown. */
const MOST = 16

/** @param {{confusion: Confusion, onCell: (label: string, predicted: string) => void}} props */
export function ConfusionTable({ confusion: { classes, counts }, onCell }) {
  const shown = worst(counts)
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">
      <table class="confusion" data-testid="confusion">
        <thead>
          <tr><th scope="col">labelled ↓ predicted →</th>
            ${shown.map((column) => html`<th key=${column} scope="col"><span title=${classes[column]}>${classes[column]}</span></th>`)}</tr>
        </thead>
        <tbody>
          ${shown.map(
            (row) => html`<tr key=${row}><th scope="row" title=${classes[row]}>${classes[row]}</th>
              ${shown.map((column) => html`<${Cell} key=${column} value=${counts[row][column]} of=${sum(counts[row])}
                right=${row === column} label=${classes[row]} predicted=${classes[column]} onCell=${onCell} />`)}</tr>`,
          )}
        </tbody>
      </table>
    </div>
    <p class="quiet">${shown.length < classes.length
      ? `The ${count(shown.length)} of ${counted(classes.length, 'class', 'classes')} that are confused most. `
      : ''}Click a number to see the labels behind it.</p>
  `
}

/** @param {{value: number, of: number, right: boolean, label: string, predicted: string,
 *   onCell: (label: string, predicted: string) => void}} props */
function Cell({ value, of, right, label, predicted, onCell }) {
  if (right || !value) return html`<td data-right=${right} style=${heat(value, of)}>${value ? count(value) : ''}</td>`
  const text = `${counted(value, 'image')} labelled ${label}, predicted ${predicted}`
  return html`<td style=${heat(value, of)}>
    <button type="button" aria-label=${text} title=${text} onClick=${() => onCell(label, predicted)}>${count(value)}</button></td>`
}

/** @param {number} value @param {number} of */
const heat = (value, of) => ({ '--heat': `${Math.round((of ? value / of : 0) * 100)}%` })

/** The classes with the most errors, in their own order. @param {number[][]} counts */
export function worst(counts) {
  const errors = counts.map((row, index) => sum(row) - row[index] + sum(counts.map((other) => other[index])) - row[index])
  const order = errors.map((_, index) => index).sort((one, other) => errors[other] - errors[one])
  return order.slice(0, MOST).sort((one, other) => one - other)
}

/** @param {number[]} values */
const sum = (values) => values.reduce((total, value) => total + value, 0)
