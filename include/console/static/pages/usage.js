// @ts-check
// GPU hours by user and week, the quotas that limit them, and the jobs behind a number (?user=, ?week=).
import { html } from "../h.js";
import { fetchJson, queryString, trainingUrl } from "../api.js";
import { JobLink, Pending, ProblemNote, Status } from "../elements.js";
import { formatDay, formatHours } from "../format.js";
import { usePolled } from "../live.js";
import { Page, query, show } from "../page.js";

const RANGES = [8, 26, 52];
const weeks = RANGES.find((number) => String(number) === query.get("weeks")) ?? RANGES[0];
const week = query.get("week");
/** The user whose jobs are listed; null for jobs of unknown users. */
const user = query.get("user");

/** @type {(signal: AbortSignal) => Promise<Api.Usage>} */
const load = (signal) => fetchJson(trainingUrl(["usage"], { weeks }), { signal });

function UsagePage() {
  const { data, problem, again } = usePolled(load, 30);
  const lead = "GPU hours that each user’s training runs have used. Weeks begin on Monday at 00:00 UTC.";
  return html`<${Page} tab="usage" heading="GPU hours" lead=${lead}>
    <${Pending} loaded=${Boolean(data)} problem=${problem} again=${again} />
    ${data && (data.users.length ? html`<${Overview} usage=${data} />` : html`<${Nothing} />`)}
    ${week && html`<${Jobs} week=${week} />`}
  </${Page}>`;
}

function Nothing() {
  return html`<div class="empty"><h2>No GPU hours yet</h2>
    <p>No training run has used a GPU in the last ${weeks} weeks.</p></div>`;
}

/** @param {{ usage: Api.Usage }} props */
function Overview({ usage }) {
  return html`<${Chart} usage=${usage} />
    <nav class="ranges" aria-label="Number of weeks">${RANGES.map(
      (number) =>
        html`<a href=${`usage?weeks=${number}`} aria-current=${number === weeks ? "true" : undefined}>
        ${number} weeks</a>`,
    )}</nav>
    <${Table} usage=${usage} />`;
}

/** @param {Api.Usage} usage */
function totals({ weeks: mondays, users }) {
  return mondays.map((_, index) => sum(users.map(({ gpu_hours: hours }) => hours[index])));
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((all, each) => all + each, 0);
}

/**
 * A bar for each week, the oldest first. Screen readers skip the chart: the table's last row has the same numbers.
 * @param {{ usage: Api.Usage }} props
 */
function Chart({ usage }) {
  const all = totals(usage);
  const bars = usage.weeks.map((monday, index) => ({ monday, hours: all[index] })).reverse();
  const most = Math.max(...all, 1e-9);
  const isLabelled = bars.length <= RANGES[0];
  return html`<div class="card bars" aria-hidden="true">${bars.map(
    ({ monday, hours }) => html`<div class="bar" key=${monday} title=${`${formatDay(monday)}: ${formatHours(hours)} h`}>
      ${isLabelled && html`<span class="number">${formatHours(hours)}</span>`}
      <div style=${{ height: `${(hours / most) * 100}px` }} />
      ${isLabelled && html`<small class="muted">${formatDay(monday)}</small>`}
    </div>`,
  )}</div>`;
}

/** @param {{ usage: Api.Usage }} props */
function Table({ usage }) {
  const all = totals(usage);
  const [current, ...earlier] = usage.weeks;
  return html`<div class="scroller" tabindex="0" role="group" aria-label="GPU hours by user and week">
    <table class="usage" aria-label="GPU hours">
      <thead><tr>
        <th scope="col">User</th><th scope="col">GPUs now</th>
        <th scope="col" class="number" title=${formatDay(current)}>This week</th>
        ${earlier.map((monday) => html`<th scope="col" class="number" key=${monday}>${formatDay(monday)}</th>`)}
        <th scope="col" class="number">Total</th>
      </tr></thead>
      <tbody>${usage.users.map(
        (each) => html`<${User} key=${each.user} usage=${each} mondays=${usage.weeks} />`,
      )}</tbody>
      <tfoot><tr><th scope="row">All users</th>
        <td class="number">${sum(usage.users.map(({ running }) => running))}</td>
        ${all.map((hours, index) => html`<td class="number" key=${usage.weeks[index]}>${formatHours(hours)}</td>`)}
        <td class="number">${formatHours(sum(all))}</td>
      </tr></tfoot>
    </table></div>`;
}

/** @param {{ usage: Api.UserUsage, mondays: string[] }} props */
function User({ usage, mondays }) {
  const { user: name, gpu_hours: hours, quota_gpu_hours: limit } = usage;
  const [current, ...earlier] = mondays;
  return html`<tr>
    <th scope="row">${name ?? html`<span class="muted">unknown</span>`}</th>
    <td><${Now} usage=${usage} /></td>
    <td class="number"><${Hours} user=${name} monday=${current} hours=${hours[0]} />
      ${limit !== null && html`<${Limit} used=${hours[0]} limit=${limit} />`}</td>
    ${earlier.map(
      (monday, index) => html`<td class="number" key=${monday}>
      <${Hours} user=${name} monday=${monday} hours=${hours[index + 1]} /></td>`,
    )}
    <td class="number">${formatHours(sum(hours))}</td>
  </tr>`;
}

/**
 * The GPUs that a user's training runs hold and wait for, and the number of GPUs that the quota allows.
 * @param {{ usage: Api.UserUsage }} props
 */
function Now({ usage: { running, queued, held, quota_gpus: limit } }) {
  const waits = [queued && `${queued} waiting for a GPU`, held && `${held} waiting for the quota`].filter(Boolean);
  return html`<span class="number">${running}${limit !== null && html`<small class="muted"> of ${limit}</small>`}</span>
    ${waits.length > 0 && html`<br /><small class="muted">${waits.join(", ")}</small>`}`;
}

/** @param {{ user: string | null, monday: string, hours: number }} props */
function Hours({ user: name, monday, hours }) {
  if (!hours) return "–";
  const label = `${formatHours(hours)} GPU hours of ${name ?? "unknown users"} in the week of ${formatDay(monday)}`;
  return html`<a href=${`usage${queryString({ weeks, user: name, week: monday })}#jobs`} aria-label=${label}>
    ${formatHours(hours)}</a>`;
}

/**
 * The GPU hours that the quota allows in a week, and a bar that shows how many of them are used.
 * @param {{ used: number, limit: number }} props
 */
function Limit({ used, limit }) {
  const full = used >= limit;
  const share = full ? 1 : used / limit;
  return html`<small class="muted"> of ${formatHours(limit)}</small>
    <div class="progress progress-${full ? "failed" : "running"}" aria-hidden="true">
      <div style=${{ width: `${share * 100}%` }} /></div>`;
}

/** @param {{ week: string }} props */
function Jobs({ week: monday }) {
  /** @type {(signal: AbortSignal) => Promise<Api.WeekUsage>} */
  const loadJobs = (signal) => fetchJson(trainingUrl(["usage", "jobs"], { user, week: monday }), { signal });
  const { data, problem, again } = usePolled(loadJobs, 30);
  const heading = `${user ?? "Unknown users"}, week of ${formatDay(monday)}`;
  return html`<section class="section" id="jobs" aria-labelledby="jobs-heading">
    <h2 id="jobs-heading">${heading}</h2>
    <${ProblemNote} problem=${problem} again=${again} />
    ${
      data &&
      html`<div class="scroller" tabindex="0" role="group" aria-label=${`Training runs of ${heading}`}>
      <table aria-label=${`Training runs of ${heading}`}>
        <thead><tr><th scope="col">Training run</th><th scope="col">Status</th>
          <th scope="col" class="number">GPU hours</th><th scope="col" class="number">Attempts</th></tr></thead>
        <tbody>${data.jobs.map((job) => html`<${Job} key=${job.job_id} job=${job} />`)}</tbody>
      </table></div>`
    }
  </section>`;
}

/** @param {{ job: Api.JobUsage }} props */
function Job({ job: { job_id: id, status, gpu_hours: hours, attempts } }) {
  const name = status === null ? id : html`<${JobLink} id=${id} />`;
  return html`<tr><th scope="row">${name}</th>
    <td>${status === null ? html`<span class="muted">deleted</span>` : html`<${Status} of=${status} />`}</td>
    <td class="number">${formatHours(hours)}</td><td class="number">${attempts}</td></tr>`;
}

show(UsagePage);
