import { html } from './view.js'
export const ProgressTab = () => html`<main><h1>Progress</h1></main>`
