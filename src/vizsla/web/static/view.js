/** The one door to the vendored libraries: every other file gets them from here, with their types. */

import * as preactFile from './vendor/preact.js'
import * as hooksFile from './vendor/hooks.js'
import htmFile from './vendor/htm.js'

const preact = /** @type {typeof import('preact')} */ (/** @type {unknown} */ (preactFile))
const hooks = /** @type {typeof import('preact/hooks')} */ (/** @type {unknown} */ (hooksFile))
const htm = /** @type {typeof import('htm').default} */ (/** @type {unknown} */ (htmFile))

export const { h, render, Component } = preact
export const { useEffect, useLayoutEffect, useMemo, useRef, useState } = hooks
export const html = htm.bind(h)

/**
 * A component that is drawn again only when one of its properties changed: lists of 500 classes stay fast.
 * @template {object} P
 * @param {(props: P) => any} draw
 */
export function still(draw) {
  return class extends Component {
    /** @param {object} next */
    shouldComponentUpdate(next) {
      return !sameFields(/** @type {any} */ (this.props), /** @type {any} */ (next))
    }
    render() {
      return draw(/** @type {any} */ (this.props))
    }
  }
}

/** @param {Record<string, unknown>} one @param {Record<string, unknown>} other */
function sameFields(one, other) {
  const names = Object.keys(one)
  return names.length === Object.keys(other).length && names.every((name) => Object.is(one[name], other[name]))
}
