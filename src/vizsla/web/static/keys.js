/**
 * The keyboard: which key means which action, changed to one's liking and remembered by the browser.
 *
 * A chord is written the way a person reads it: '3', 'Shift+3', 'S', 'Ctrl+Shift+Z', 'ArrowLeft'. Digits go by their
 * place on the keyboard (`event.code`), because many layouts need Shift for them; all else goes by what is printed.
 *
 * @typedef {Record<string, string[]>} Keymap   action → chords
 */

const STORED = 'vizsla.keys'
const SINGLE = 'vizsla.single-keys'

const DIGITS = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '0']

/** Every action with what it is called in the help. @type {[action: string, chords: string[], text: string][]} */
export const ACTIONS = [
  ['accept', ['Enter'], 'Accept the suggestion, if one is visible'],
  ['skip', ['Space', 'S'], 'Skip this image'],
  ['flag', ['F'], 'Flag a bad image'],
  ['undo', ['Backspace', 'Ctrl+Z'], 'Undo'],
  ['redo', ['Ctrl+Shift+Z', 'Ctrl+Y'], 'Redo'],
  ['back', ['ArrowLeft'], 'Back through your answers'],
  ['forward', ['ArrowRight'], 'Forward again'],
  ['find', ['/'], 'Find a class by name'],
  ['suggestions', ['H'], 'Show or hide suggestions'],
  ['zoom', ['Z'], 'Zoom'],
  ['keep', ['K'], 'Keep the label (in Review)'],
  ['all', ['Ctrl+A'], 'Select all (in Grid)'],
  ['label', ['L'], 'Label'],
  ['grid', ['G'], 'Grid'],
  ['review', ['R'], 'Review'],
  ['progress', ['P'], 'Progress'],
  ['export', ['E'], 'Export'],
  ['help', ['?'], 'This help'],
  ['close', ['Escape'], 'Close, or leave what you are in'],
]

/** The action that gives the class at this place. @param {number} position */
export const classAction = (position) => `class ${position + 1}`

const CLASS_KEYS = [...DIGITS, ...DIGITS.map((digit) => `Shift+${digit}`)]

/** @returns {Keymap} */
export function defaultKeymap() {
  const classes = CLASS_KEYS.map((chord, position) => [classAction(position), [chord]])
  return Object.fromEntries([...classes, ...ACTIONS.map(([action, chords]) => [action, chords])])
}

/** @param {Storage} storage @returns {Keymap} */
export function loadKeymap(storage) {
  try {
    return { ...defaultKeymap(), ...JSON.parse(storage.getItem(STORED) ?? '{}') }
  } catch {
    return defaultKeymap()
  }
}

/** @param {Storage} storage @param {Keymap|null} keymap null: back to the defaults */
export function saveKeymap(storage, keymap) {
  if (keymap) storage.setItem(STORED, JSON.stringify(keymap))
  else storage.removeItem(STORED)
}

/** @param {Storage} storage */
export const singleKeys = (storage) => storage.getItem(SINGLE) !== 'off'
/** @param {Storage} storage @param {boolean} on */
export const setSingleKeys = (storage, on) => storage.setItem(SINGLE, on ? 'on' : 'off')

/** One key, one meaning: the chord leaves the action that had it.
 * @param {Keymap} keymap @param {string} action @param {string} chord @returns {Keymap} */
export function remap(keymap, action, chord) {
  const without = Object.entries(keymap).map(([name, chords]) => [name, chords.filter((other) => other !== chord)])
  return { ...Object.fromEntries(without), [action]: [chord] }
}

/** @param {KeyboardEvent} event @returns {string|null} null for a key that is only a modifier */
export function chordOf(event) {
  const base = baseKey(event)
  if (!base) return null
  const command = event.ctrlKey || event.metaKey
  // A sign's own Shift is part of the sign: '?' is '?', wherever the layout has it.
  const shift = event.shiftKey && !isSign(base)
  return `${command ? 'Ctrl+' : ''}${event.altKey ? 'Alt+' : ''}${shift ? 'Shift+' : ''}${base}`
}

/** @param {KeyboardEvent} event */
function baseKey({ code, key }) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(code)
  if (digit) return digit[1]
  if (key === ' ') return 'Space'
  if (['Shift', 'Control', 'Alt', 'Meta', 'AltGraph', 'Dead', 'Unidentified'].includes(key)) return null
  return key.length === 1 ? key.toUpperCase() : key
}

/** @param {string} base */
const isSign = (base) => base.length === 1 && !/[\p{L}\d]/u.test(base)

/** @param {string} chord */
const isSingle = (chord) => /^(Shift\+)?(.|Space)$/u.test(chord)

/** Whether the key belongs to a text field or to a button that has the focus. @param {KeyboardEvent} event */
export function isTaken(event) {
  const target = event.target instanceof Element ? event.target : null
  if (!target || event.isComposing) return event.isComposing
  if (target.closest('input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]')) return true
  // On a tile of the grid Space selects, but Enter is for the whole selection.
  if (event.key === 'Enter') return target.closest('a, button:not([role=option]), summary, input') !== null
  return event.key === ' ' && target.closest('a, button, summary, input') !== null
}

/** @param {KeyboardEvent} event @param {Keymap} keymap @param {boolean} single single keys are on
 * @returns {string|null} */
export function actionOf(event, keymap, single) {
  const chord = chordOf(event)
  if (!chord || (!single && isSingle(chord))) return null
  return Object.keys(keymap).find((action) => keymap[action].includes(chord)) ?? null
}

/** @type {Record<string, string>} */
const PRINTED = { ArrowLeft: '←', ArrowRight: '→', Backspace: '⌫', Enter: '↵', Escape: 'Esc', Space: 'Space' }

/** How a chord is printed on a key cap. @param {string} chord */
export const printed = (chord) =>
  chord.replace(/[^+]+$|\+$/, (base) => PRINTED[base] ?? base).replace('Shift+', '⇧')
