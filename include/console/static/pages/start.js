// @ts-check
// Starts a training run, optionally from given weights (?model=) or on a given dataset (?dataset=, ?task=); repeats a
// training run with changes (?from=); resumes a training run (?resume=).
/** @import { FieldGroup } from "../start-form.js" */
/** @import { FormField, Spec } from "../parameters.js" */
import { html } from "../h.js";
import { fetchJson, trainingUrl } from "../api.js";
import { JobLink, Note, Pending } from "../elements.js";
import { useSession } from "../session.js";
import { formatParameter } from "../format.js";
import { fetchJob } from "../job-data.js";
import { usePolled } from "../live.js";
import { explainNotYours } from "../ownership.js";
import { Page, query, show } from "../page.js";
import { useForm } from "../parameters.js";
import { finishedEpochs } from "../progress.js";
import { NOT_PERMITTED, StartForm } from "../start-form.js";

/** @typedef {Api.TrainingJobResponse} Job */

const from = query.get("from");
/** The weights from which fine-tuning starts: a file, job:… or model:… */
const model = query.get("model");
const dataset = query.get("dataset");
const resume = query.get("resume");
const parentId = resume ?? from;

/** Parameters that a resumed training run inherits: other values would make it a different training run. */
const KEPT = ["task", "model", "dataset", "seed", "optimizer"];
/** Parameters that people usually choose; all others are under Advanced. */
const CHOSEN = ["dataset", "model", "task", "epochs", "imgsz"];
/** Parameters that are never copied from another job: they name a job or its parent, or discard an earlier run. */
const OWN = ["job_id", "fresh", "resume_from"];

function Start() {
  const { fields, problem, again } = useForm();
  const parent = usePolled((signal) => (parentId ? fetchJob(parentId, signal) : Promise.resolve(null)), null);
  const session = useSession();
  const ready = fields.length > 0 && parent.data !== undefined && session !== null;
  const failure = problem ?? parent.problem;
  const job = parent.data ?? null;
  const refusal = session && findRefusal(session, job);
  return html`<${Page} tab="jobs" heading=${heading()} lead=${lead()}>
    <${Pending} loaded=${ready} problem=${failure} again=${problem ? again : parent.again} />
    ${ready && refusal && html`<${Note} kind="warning" title="Permission required">${refusal}</${Note}>`}
    ${ready && !refusal && html`<${QuotaNote} />`}
    ${ready && !refusal && resume && job && html`<${Resume} job=${job} fields=${fields} />`}
    ${ready && !refusal && !resume && html`<${New} spec=${initialSpec(job)} fields=${fields} />`}
  </${Page}>`;
}

/**
 * Why the current user may not fill in this form; null if they may.
 * @param {Api.Session} session
 * @param {Job | null} job
 */
function findRefusal(session, job) {
  if (!session.may_start) return NOT_PERMITTED;
  return resume && job ? explainNotYours(session, job) : null;
}

function heading() {
  if (resume) return `Resume ${resume}`;
  if (model) return "Fine-tune";
  if (from) return "Train again";
  return dataset ? `Train on ${dataset}` : "Start a training run";
}

function lead() {
  const link = html`<${JobLink} id=${parentId} />`;
  if (model && !from) {
    return html`Starts a new training run from the weights of ${model}. Choose the dataset to fine-tune on.`;
  }
  if (model) {
    return html`Starts a new training run from the weights of ${model} with the parameters of ${link}. Choose the
      dataset to fine-tune on.`;
  }
  if (resume) {
    return html`Starts a new training run that continues from last.pt of ${link}, with its optimizer and history.`;
  }
  if (from) return html`Starts a new training run with the parameters of ${link}. Change any of them below.`;
  return "Every field is optional and shows its default.";
}

/**
 * The initial parameters: those of the given job, if any, with `model` or `dataset` from the URL.
 * @param {Job | null} job
 * @returns {Spec}
 */
function initialSpec(job) {
  /** @type {Spec} */
  const spec = { ...job?.spec };
  if (model) spec.model = model;
  if (dataset) Object.assign(spec, { dataset, task: query.get("task") });
  return spec;
}

/** @param {{ spec: Spec, fields: FormField[] }} props */
function New({ spec, fields }) {
  const given = Object.fromEntries(Object.entries(spec).filter(([name]) => !OWN.includes(name)));
  const rest = fields.map(({ name }) => name).filter((name) => !CHOSEN.includes(name));
  /** @type {FieldGroup[]} */
  const groups = [
    { title: "What to train", names: CHOSEN },
    { title: "Advanced", names: rest, closed: true },
  ];
  const action = from ? "Train again" : "Start training";
  return html`<${StartForm} fields=${fields} given=${given} groups=${groups} action=${action} />`;
}

/** @param {{ job: Job, fields: FormField[] }} props */
function Resume({ job, fields }) {
  /** @type {Spec} */
  const spec = job.spec ?? {};
  const planned = job.epochs ?? (typeof spec.epochs === "number" ? spec.epochs : null);
  const isWhole = planned !== null && finishedEpochs(job) >= planned;
  const epochs = isWhole ? planned * 2 : planned;
  const others = fields.filter(({ name }) => ![...KEPT, ...OWN, "epochs"].includes(name));
  const [inherited, own] = [true, false].map((is) => others.filter(({ schema }) => Boolean(schema.inherited) === is));
  const notes = Object.fromEntries(inherited.map((field) => [field.name, noteOf(field, job, spec)]));
  notes.epochs = epochsNote(job, planned, isWhole);
  const device = isSeveral(spec.device) ? spec.device : null;
  /** @type {FieldGroup[]} */
  const groups = [
    { title: "Length", names: ["epochs", "job_id"] },
    {
      title: "Other parameters",
      names: inherited.map(({ name }) => name),
      closed: true,
      about: "Empty fields keep the values of the resumed training run.",
    },
    {
      title: "Storage and supervision",
      names: own.map(({ name }) => name),
      closed: true,
      about: "These parameters are not copied from the resumed training run.",
    },
  ];
  return html`
    <div class="card kept"><h2>Taken from ${job.job_id}</h2><dl class="facts">
      ${KEPT.map((name) => html`<div key=${name}><dt>${name}</dt><dd>${formatParameter(spec[name])}</dd></div>`)}
    </dl></div>
    <${StartForm} fields=${fields} given=${{ epochs, device }} groups=${groups} always=${{ resume_from: job.job_id }}
      notes=${notes} action="Resume training" />`;
}

/**
 * A parameter's description, with the parent's value as its default.
 * @param {FormField} field
 * @param {Job} job
 * @param {Spec} spec
 */
function noteOf({ name, about }, job, spec) {
  const value = spec[name] ?? null;
  if (name === "device" && isSeveral(value)) {
    return `${about} ${job.job_id} was trained on ${formatParameter(value)}. Enter the GPUs to use (one or more).`;
  }
  return `${about} Default: as in ${job.job_id}${value === null ? "" : ` (${formatParameter(value)})`}.`;
}

/**
 * Whether a value of `device` lists several GPUs. If so, a resumed training run does not inherit the value.
 * @param {unknown} device
 */
function isSeveral(device) {
  return typeof device === "string" && device.includes(",");
}

/**
 * @param {Job} job
 * @param {number | null} planned
 * @param {boolean} isWhole whether all planned epochs are finished
 */
function epochsNote(job, planned, isWhole) {
  const advice = isWhole
    ? "enter a larger number"
    : "keep the number to finish as planned, or enter a larger one to train longer";
  return `Total number of epochs. ${job.job_id} has finished ${finishedEpochs(job)} of ${planned ?? "?"}; ${advice}.`;
}

/** A note if the current user's quota would delay or prevent a new training run. */
function QuotaNote() {
  /** @type {(signal: AbortSignal) => Promise<Api.Validation>} */
  const load = (signal) => fetchJson(trainingUrl(["validate"]), { method: "POST", body: {}, signal });
  const { data } = usePolled(load, null);
  const refused = data?.errors[""];
  if (refused) return html`<${Note} kind="warning" title="No new training runs at present"><p>${refused}</p></${Note}>`;
  if (data?.wait) return html`<${Note} title="A new training run will wait"><p>${data.wait}.</p></${Note}>`;
  return null;
}

show(Start);
