import { html } from './view.js'
export const GridTab = () => html`<main><h1>Grid</h1></main>`
