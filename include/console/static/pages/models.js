// Versions of models: what is in production, what waits, what was refused, and why.
import { html } from "../h.js";
import { ask, queryOf, training } from "../api.js";
import { Copy, Figure, Note, Refused, Status, useMayStart, When } from "../elements.js";
import { size } from "../format.js";
import { usePolled } from "../live.js";
import { headline } from "../metrics.js";
import { Page, query, show } from "../page.js";
import { PretrainedWeights } from "../weights.js";

const cursor = query.get("cursor");

function Models() {
  const mayStart = useMayStart();
  const { data, problem, again } = usePolled(
    (signal) => ask(training(["models"], { cursor, limit: 100 }), { signal }),
    30,
  );
  const hidden = problem?.status === 403;
  const names = [...new Set((data?.models ?? []).map(({ name }) => name))];
  return html`<${Page} tab="models" heading="Models" lead="What retraining has registered: each version was measured, and promoted or refused.">
    ${
      hidden
        ? html`<${Note} kind="warning" title="Not permitted">Versions of models are shown to those who may see the runs of retrain_yolo.
      Ask an administrator of Airflow for that permission.</${Note}>`
        : html`<${Refused} problem=${problem} again=${again} />`
    }
    ${!data && !problem && html`<div class="loading" role="status">Loading…</div>`}
    ${
      data &&
      names.length === 0 &&
      html`<div class="empty"><h2>No models yet</h2>
      <p>Trigger the Dag retrain_yolo with a plan, or let its schedule do it: each challenger that is measured becomes a version here.</p></div>`
    }
    ${names.map((name) => html`<${Model} key=${name} name=${name} mayStart=${mayStart} versions=${data.models.filter((each) => each.name === name)} />`)}
    ${
      (data?.next || cursor) &&
      html`<nav class="pager" aria-label="Pages">
      ${cursor ? html`<a class="button" href="models">Newest</a>` : html`<span />`}
      ${data?.next && html`<a class="button" rel="next" href=${`models?cursor=${encodeURIComponent(data.next)}`}>Older</a>`}
    </nav>`
    }
    <${PretrainedWeights} mayStart=${mayStart} />
  </${Page}>`;
}

function Model({ name, versions, mayStart }) {
  return html`<section class="section" aria-labelledby=${`model-${name}`}><h2 id=${`model-${name}`}>${name}</h2>
    <div class="scroller" tabindex="0" role="group" aria-label=${`Versions of ${name}`}><table class="models" aria-label=${`Versions of ${name}`}>
      <thead><tr>${["Version", "Stage", "Metric", "Training", "Data set", "Promoted", "Reason", "File"].map((title) => html`<th scope="col">${title}</th>`)}</tr></thead>
      <tbody>${versions.map((version) => html`<${Version} key=${version.version} version=${version} mayStart=${mayStart} />`)}</tbody>
    </table></div>
  </section>`;
}

/** The form of a training that starts from this version, with the parameters of the job that made it. */
function fineTuning({ name, version, job_id: jobId }) {
  return `start${queryOf({ from: jobId, model: `model:${name}@${version}` })}`;
}

function Version({ version, mayStart }) {
  const quality = headline(version.metrics);
  const champion = quality && version.champion_metrics?.[quality.name];
  return html`<tr>
    <th scope="row" class="number">${version.version}</th>
    <td><${Status} of=${version.stage} /></td>
    <td>${quality ? html`<${Figure} value=${quality.value} /> <small class="muted">${quality.label}</small>` : "–"}
      ${typeof champion === "number" && html`<br /><small class="muted">champion ${version.champion_version}: <${Figure} value=${champion} /></small>`}</td>
    <td><a href=${`job?id=${encodeURIComponent(version.job_id)}`}>${version.job_id}</a><br /><small class="muted"><${When} at=${version.created_at} /></small></td>
    <td><span class="clip" title=${version.dataset}>${version.dataset ?? "–"}</span></td>
    <td>${version.promoted_at ? html`<${When} at=${version.promoted_at} />${version.promoted_by && html`<br /><small class="muted">by ${version.promoted_by}</small>`}` : "–"}</td>
    <td class="reason">${version.reason ?? "–"}</td>
    <td><${Copy} text=${version.path} name=${`Copy s3:// path of version ${version.version}`}>Copy s3:// path</${Copy}>
      <small class="muted number"> ${size(version.size)}</small>
      ${mayStart && html`<br /><a href=${fineTuning(version)}>Fine-tune from this</a>`}</td>
  </tr>`;
}

show(Models);
