import { html } from './view.js'
export const ExportTab = () => html`<main><h1>Export</h1></main>`
