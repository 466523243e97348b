/** Numbers as people read them. */

const integer = new Intl.NumberFormat()
const percentage = new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 0 })

/** @param {number} value */
export const count = (value) => integer.format(value)
/** @param {number} share from 0 to 1 */
export const percent = (share) => percentage.format(share)
/** @param {number} value @param {string} one @param {string} [many] */
export const counted = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`
/** "91% (78–97)": an accuracy with its interval.
 * @param {{value: number, low: number, high: number}} accuracy */
export const interval = ({ value, low, high }) =>
  `${percent(value)} (${integer.format(Math.round(low * 100))}–${integer.format(Math.round(high * 100))})`
