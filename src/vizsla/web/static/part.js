/**
 * What every part of the page is given.
 *
 * @typedef {{store: import('./state.js').Store, session: import('./session.js').Session,
 *   live: import('./live.js').Live, keys: import('./commands.js').Keys}} Part
 */
export {}
