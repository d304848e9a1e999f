// The training API and Airflow's own REST API, with the session of whoever looks at the page.
// All addresses are relative to the page, so they hold behind any sub-path.

export const TRAINING = "../api/v1";
export const AIRFLOW = "../../api/v2";

/** An answer that is no success, or none at all: a sentence for the reader, and whether asking again may help. */
export class Problem extends Error {
  /**
   * @param {number} status HTTP status; 0: the server was not reached
   * @param {string} detail one sentence
   * @param {unknown} body what was answered
   * @param {number} retryAfter seconds that the server asks to wait, 0 if it does not say
   */
  constructor(status, detail, body = null, retryAfter = 0) {
    super(detail);
    this.status = status;
    this.body = body;
    this.retryAfter = retryAfter;
  }

  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** GET or POST; returns the JSON of the answer. Raises Problem. */
export async function ask(url, { method = "GET", body, signal } = {}) {
  const sent =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const answer = await reach(url, { method, signal, ...sent });
  const said = await answer.json().catch(() => null);
  if (!answer.ok) throw refused(answer, said);
  return said;
}

/**
 * PUT a file; returns the JSON of the answer. Raises Problem. `fetch` does not tell how much was sent.
 * @param {(share: number) => void} progress is called with the share that was sent, from 0 to 1
 */
export function send(url, file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", ({ loaded, total }) => progress(total ? loaded / total : 0));
    request.addEventListener("error", () => reject(awayProblem()));
    request.addEventListener("load", () => {
      const said = parsed(request.responseText);
      const { status, statusText } = request;
      if (status >= 200 && status < 300) resolve(said);
      else reject(refused({ status, statusText, headers: { get: (name) => request.getResponseHeader(name) } }, said));
    });
    request.send(file);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Ask whether an address leads to a file elsewhere, without going there. Raises Problem where it does not. */
export async function requireRedirect(url) {
  const answer = await reach(url, { redirect: "manual" });
  if (answer.type !== "opaqueredirect") throw refused(answer, await answer.json().catch(() => null));
}

async function reach(url, { headers, ...options }) {
  try {
    return await fetch(url, {
      headers: { Accept: "application/json", ...headers },
      credentials: "same-origin",
      ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw awayProblem();
  }
}

export function awayProblem() {
  return new Problem(0, "Airflow does not answer. This page goes on by itself when it does again.");
}

function refused(answer, said) {
  const detail = typeof said?.detail === "string" ? said.detail : "";
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  if (answer.status === 401) {
    return new Problem(401, "Your session has ended. Log in to Airflow again, then reload this page.", said);
  }
  if (detail) return new Problem(answer.status, detail, said, wait);
  const unknown = `Airflow answered with ${answer.status} ${answer.statusText}`.trim();
  return new Problem(answer.status, `${unknown}.`, said, wait);
}

/** A path of the training API: segments are encoded, empty values of the query are left out. */
export function training(segments, query = {}) {
  return address(TRAINING, segments, query);
}

/** A path of Airflow's REST API. */
export function airflow(segments, query = {}) {
  return address(AIRFLOW, segments, query);
}

function address(base, segments, query) {
  const path = segments.map((segment) => encodeURIComponent(segment)).join("/");
  return `${base}/${path}${queryOf(query)}`;
}

/** `?a=1&b=2` of what is neither null nor empty; lists repeat their name. */
export function queryOf(values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") query.append(name, each);
    }
  }
  const text = query.toString();
  return text && `?${text}`;
}

/** All recorded epochs of a job after that one, page by page. */
export async function epochsOf(jobId, after = -1, signal = undefined) {
  const epochs = [];
  let next = after;
  while (next !== null) {
    const page = await ask(training(["jobs", jobId, "epochs"], { after: next, limit: 5000 }), { signal });
    epochs.push(...page.epochs);
    ({ next } = page);
  }
  return epochs;
}

let session;

/** Who looks at the page and whether they may start trainings; asked once a page, and again where that failed. */
export function whoLooks() {
  session ??= ask(training(["session"])).catch((problem) => {
    session = undefined;
    throw problem;
  });
  return session;
}
