/** The Export tab: what can be taken along, with a sentence on each. */

import { html } from './view.js'
import { counted } from './format.js'
import { rescan } from './api.js'
import { toast } from './state.js'

/** @type {[format: string, title: string, text: string][]} */
const FORMATS = [
  ['csv', 'CSV', 'One line per image with its label, who gave it and when: for spreadsheets and pandas.'],
  ['jsonl', 'JSON Lines', 'The same with everything Vizsla knows, and the way back into another project.'],
  ['folders', 'Folders', 'The images in one folder per class, as a zip: what most training scripts expect.'],
  ['imagefolder', 'Hugging Face', 'The labelled images with a table of their labels: what load_dataset("imagefolder") reads.'],
  ['label-studio', 'Label Studio', 'Tasks with annotations and predictions, ready to be imported into Label Studio.'],
  ['fiftyone', 'FiftyOne', 'The images with labels, suggestions and suspected errors, ready for FiftyOne.'],
  ['cvat', 'CVAT', 'The images in one folder per class, as CVAT takes them under "ImageNet".'],
  ['model', 'Model', 'The trained model, to label other images with: it gives the predictions you see here.'],
]

/** @param {import('./part.js').Part} props */
export function ExportTab({ store }) {
  const { project } = store.get()
  const look = () => rescan().then(
    () => toast(store, 'Looking for new photos in the folder.'),
    (error) => toast(store, error.message, { tone: 'bad' }),
  )
  return html`
    <main class="page">
      <h1 class="sr">Export</h1>
      <p class="summary">${counted(project?.counts.labelled ?? 0, 'label')} so far. An export takes what is saved now; labelling goes on meanwhile.</p>
      <ul class="exports">
        ${FORMATS.map(([format, title, text]) => html`<${Format} key=${format} format=${format} title=${title} text=${text}
          able=${format !== 'model' || project?.model !== null} />`)}
      </ul>
      <p class="nothing quiet">Added photos to the folder? <button type="button" data-testid="rescan" disabled=${project?.read_only} onClick=${look}>Look again</button></p>
    </main>
  `
}

/** @param {{format: string, title: string, text: string, able: boolean}} props */
const Format = ({ format, title, text, able }) => html`
  <li class="card">
    <div><h2>${title}</h2><p class="quiet">${able ? text : 'Comes with the first model.'}</p></div>
    ${able && html`<a class="button" download href=${`/api/export/${format}`} data-testid=${`export-${format}`}
      aria-label=${`Download ${title}`}>Download</a>`}
  </li>
`
