import { html } from './view.js'
export const ReviewTab = () => html`<main><h1>Review</h1></main>`
