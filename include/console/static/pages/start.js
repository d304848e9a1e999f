// Start a training, from given weights (?model=); train one again with changes (?from=); resume one (?resume=).
import { html } from "../h.js";
import { ask, training } from "../api.js";
import { Note, Refused, useMayStart } from "../elements.js";
import { parameter } from "../format.js";
import { usePolled } from "../live.js";
import { Page, query, show } from "../page.js";
import { aboutOf, useForm } from "../parameters.js";
import { finishedEpochs } from "../progress.js";
import { StartForm } from "../start-form.js";

const from = query.get("from");
/** What a fine-tuning starts from: a file, job:…, or model:… */
const model = query.get("model");
const resume = query.get("resume");
const parentId = resume ?? from;

/** What a resumed training takes from its parent: another value would make it another training. */
const KEPT = ["task", "model", "dataset", "seed", "optimizer"];
/** What people choose; all else is below Advanced. */
const CHOSEN = ["dataset", "model", "task", "epochs", "imgsz"];
/** What says how a job is run, and is not taken over from another job. */
const OWN = ["job_id", "fresh", "resume_from"];

function Start() {
  const { fields, problem } = useForm();
  const parent = usePolled(
    (signal) => (parentId ? ask(training(["jobs", parentId]), { signal }) : Promise.resolve(null)),
    null,
  );
  const mayStart = useMayStart();
  const heading = resume ? `Resume ${resume}` : model ? "Fine-tune" : from ? "Train again" : "Start a training";
  const ready = fields.length > 0 && parent.data !== undefined && mayStart !== null;
  return html`<${Page} tab="jobs" heading=${heading} lead=${lead()}>
    <${Refused} problem=${problem ?? parent.problem} again=${parent.again} />
    ${!ready && !problem && !parent.problem && html`<div class="loading" role="status">Loading…</div>`}
    ${
      ready &&
      mayStart === false &&
      html`<${Note} kind="warning" title="Only for those who may start trainings">
      You may look at trainings but not start them. Ask an administrator of Airflow for the right to trigger train_yolo.</${Note}>`
    }
    ${ready && mayStart && (resume ? html`<${Resume} job=${parent.data} fields=${fields} />` : html`<${New} spec=${begun(parent.data)} fields=${fields} />`)}
  </${Page}>`;
}

/** The parameters to begin with: those of a job, with other weights to start from. */
function begun(job) {
  return model ? { ...job?.spec, model } : job?.spec;
}

function lead() {
  const link = html`<a href=${`job?id=${encodeURIComponent(parentId)}`}>${parentId}</a>`;
  if (model && !from)
    return html`A new training starts from the weights of ${model}. Give the data to fine-tune it on.`;
  if (model)
    return html`A new training starts from the weights of ${model}, with the parameters of ${link}. Give the data to fine-tune it on.`;
  if (resume) return html`A new training goes on from last.pt of ${link}, with its optimizer and history.`;
  if (from) return html`A new training from the start, with the parameters of ${link}. Change what is to be different.`;
  return "Every field may stay empty: each shows what is taken then.";
}

function New({ spec, fields }) {
  const given = Object.fromEntries(Object.entries(spec ?? {}).filter(([name]) => !OWN.includes(name)));
  const rest = fields.map(({ name }) => name).filter((name) => !CHOSEN.includes(name));
  const groups = [
    { title: "What to train", names: CHOSEN },
    { title: "Advanced", names: rest, closed: true },
  ];
  return html`<${StartForm} fields=${fields} given=${given} groups=${groups} action=${from ? "Train again" : "Start the training"} />`;
}

function Resume({ job, fields }) {
  const spec = job.spec ?? {};
  const planned = job.epochs ?? spec.epochs;
  const finished = finishedEpochs(job);
  const whole = planned && finished >= planned;
  const epochs = whole ? planned * 2 : planned;
  const others = fields
    .map(({ name }) => name)
    .filter((name) => !KEPT.includes(name) && !["epochs", "job_id", "resume_from", "fresh"].includes(name));
  const notes = {
    epochs: `Epochs to train in all. ${job.job_id} has finished ${finished} of ${planned ?? "?"}; ${whole ? "give more" : "the same number finishes what was planned, a larger one trains longer"}.`,
  };
  for (const name of others)
    notes[name] =
      `${aboutOf(fields.find((field) => field.name === name))} Empty: as ${job.job_id}${spec[name] === null || spec[name] === undefined ? "" : ` (${parameter(spec[name])})`}.`;
  const groups = [
    { title: "How long", names: ["epochs", "job_id"] },
    {
      title: "What else may change",
      names: others,
      closed: true,
      about: "What stays empty is taken from the training that is resumed.",
    },
  ];
  return html`
    <div class="card kept"><h2>Taken from ${job.job_id}</h2><dl class="facts">
      ${KEPT.map((name) => html`<div key=${name}><dt>${name}</dt><dd>${parameter(spec[name])}</dd></div>`)}
    </dl></div>
    <${StartForm} fields=${fields} given=${{ epochs }} groups=${groups} always=${{ resume_from: job.job_id }} notes=${notes} action="Resume the training" />`;
}

show(Start);
