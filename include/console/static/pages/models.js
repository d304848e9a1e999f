// @ts-check
// Versions of models, with their stages (production, candidate, rejected) and the reasons.
import { html } from "../h.js";
import { fetchJson, queryString, trainingUrl } from "../api.js";
import { Copy, Figure, Head, JobLink, Note, Pending, Status, When } from "../elements.js";
import { useMayStart } from "../session.js";
import { formatBytes } from "../format.js";
import { usePolled } from "../live.js";
import { headline } from "../metrics.js";
import { Page, query, show } from "../page.js";
import { PretrainedWeights } from "../weights.js";

const cursor = query.get("cursor");
const COLUMNS = ["Version", "Stage", "Metric", "Training run", "Dataset", "Promoted", "Reason", "File"];

/** @type {(signal: AbortSignal) => Promise<Api.ModelPage>} */
const load = (signal) => fetchJson(trainingUrl(["models"], { cursor, limit: 100 }), { signal });

function Models() {
  const mayStart = useMayStart();
  const { data, problem, again } = usePolled(load, 30);
  const models = data?.models ?? [];
  const names = [...new Set(models.map(({ name }) => name))];
  const lead = "Versions registered by retraining. Each was evaluated, then promoted or rejected.";
  return html`<${Page} tab="models" heading="Models" lead=${lead}>
    ${
      problem?.status === 403
        ? html`<${Note} kind="warning" title="Permission denied">To see versions of models, you need permission to
          view the runs of retrain_yolo. Ask an Airflow administrator for it.</${Note}>`
        : html`<${Pending} loaded=${Boolean(data)} problem=${problem} again=${again} />`
    }
    ${
      data &&
      names.length === 0 &&
      html`<div class="empty"><h2>No models yet</h2>
      <p>Trigger the Dag retrain_yolo with a plan, or wait for its next scheduled run. Every evaluated challenger
        becomes a version here.</p></div>`
    }
    ${names.map(
      (name) => html`<${Model} key=${name} name=${name} mayStart=${mayStart}
      versions=${models.filter((each) => each.name === name)} />`,
    )}
    ${(data?.next || cursor) && html`<${Pager} next=${data?.next ?? null} />`}
    <${PretrainedWeights} mayStart=${mayStart} />
  </${Page}>`;
}

/** @param {{ next: string | null }} props */
function Pager({ next }) {
  const older = next && `models?cursor=${encodeURIComponent(next)}`;
  return html`<nav class="pager" aria-label="Pages">
    ${cursor ? html`<a class="button" href="models">Newest</a>` : html`<span />`}
    ${older && html`<a class="button" rel="next" href=${older}>Older</a>`}
  </nav>`;
}

/** @param {{ name: string, versions: Api.ModelVersion[], mayStart: boolean | null }} props */
function Model({ name, versions, mayStart }) {
  const id = `model-${name}`;
  return html`<section class="section" aria-labelledby=${id}><h2 id=${id}>${name}</h2>
    <div class="scroller" tabindex="0" role="group" aria-label=${`Versions of ${name}`}>
      <table class="models" aria-label=${`Versions of ${name}`}>
        <${Head} columns=${COLUMNS} />
        <tbody>${versions.map(
          (version) => html`<${Version} key=${version.version} version=${version} mayStart=${mayStart} />`,
        )}</tbody>
      </table></div>
  </section>`;
}

/**
 * The URL of the form for a training run that starts from this version, with the parameters of this version's job.
 * @param {Api.ModelVersion} version
 */
function fineTuningPage({ name, version, job_id: jobId }) {
  return `start${queryString({ from: jobId, model: `model:${name}@${version}` })}`;
}

/** @param {{ version: Api.ModelVersion, mayStart: boolean | null }} props */
function Version({ version, mayStart }) {
  return html`<tr>
    <th scope="row" class="number">${version.version}</th>
    <td><${Status} of=${version.stage} /></td>
    <td><${Quality} version=${version} /></td>
    <td><${JobLink} id=${version.job_id} /><br />
      <small class="muted"><${When} at=${version.created_at} /></small></td>
    <td><span class="clip" title=${version.dataset}>${version.dataset ?? "–"}</span></td>
    <td><${Promotion} version=${version} /></td>
    <td class="reason">${version.reason ?? "–"}</td>
    <td><${Copy} text=${version.path} name=${`Copy s3:// path of version ${version.version}`}>Copy s3:// path</${Copy}>
      <small class="muted number"> ${formatBytes(version.size)}</small>
      ${version.signature_sha256 && html`<br /><${Signature} version=${version} />`}
      ${mayStart && html`<br /><a href=${fineTuningPage(version)}>Fine-tune from this</a>`}</td>
  </tr>`;
}

/**
 * A button that copies the path of the file's signature, which deployments use to verify the file.
 * @param {{ version: Api.ModelVersion }} props
 */
function Signature({ version }) {
  const name = `Copy s3:// path of the signature of version ${version.version}`;
  return html`<${Copy} text=${`${version.path}.sig`} name=${name}>Copy s3:// path of the signature</${Copy}>`;
}

/** @param {{ version: Api.ModelVersion }} props */
function Quality({ version }) {
  const quality = headline(version.metrics);
  if (!quality) return "–";
  const champion = version.champion_metrics?.[quality.name];
  return html`<${Figure} value=${quality.value} /> <small class="muted">${quality.label}</small>
    ${
      typeof champion === "number" &&
      html`<br /><small class="muted">champion ${version.champion_version}: <${Figure} value=${champion} /></small>`
    }`;
}

/** @param {{ version: Api.ModelVersion }} props */
function Promotion({ version }) {
  if (!version.promoted_at) return "–";
  return html`<${When} at=${version.promoted_at} />
    ${version.promoted_by && html`<br /><small class="muted">by ${version.promoted_by}</small>`}`;
}

show(Models);
