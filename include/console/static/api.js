// @ts-check
// The training API and Airflow's own REST API, called with the login of the current user.
// All URLs are relative to the page, so they also work if Airflow is served under a path prefix.

import { compareClocks } from "./clock.js";

const TRAINING = "../api/v1";
const AIRFLOW = "../../api/v2";
/** The Dag that trains. */
export const TRAINING_DAG = "train_yolo";
/** The Dag that registers datasets. */
export const REGISTER_DAG = "register_dataset";

const NO_CONTENT = 204;
const NOT_FOUND = 404;
const UNPROCESSABLE = 422;

/** How long to wait for what a GET asks for. A frozen server or a lost network may never end the request. */
const PATIENCE_MS = 60_000;

/** @typedef {Record<string, string | number | boolean | null | undefined | string[]>} Query */
/** @typedef {Pick<Response, "status" | "statusText"> & { headers: Pick<Headers, "get"> }} Answer */

/** A failed request: a sentence for the user, and whether a retry makes sense. */
export class Problem extends Error {
  /**
   * @param {number} status HTTP status; 0 if the server was not reached
   * @param {string} detail one sentence
   * @param {number} retryAfter seconds that the server asks the client to wait; 0 if unknown
   */
  constructor(status, detail, retryAfter = 0) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  get isTransient() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * Send a request and return the JSON of the response. Raises Problem.
 * @param {string} url
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal }} [options]
 * @returns {Promise<T>}
 * @template T
 */
export async function fetchJson(url, { method = "GET", body, signal } = {}) {
  const content =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const answer = await request(url, { method, signal, ...content });
  if (!answer.ok) throw problemOf(answer, await answer.json().catch(() => null));
  if (answer.status === NO_CONTENT) return /** @type {any} */ (null);
  return answer.json().catch(throwNoAnswer);
}

/**
 * PUT a file and return the JSON of the response. Raises Problem. Uses XMLHttpRequest, because `fetch` does not
 * report progress.
 * @param {string} url
 * @param {File} file
 * @param {(share: number) => void} progress receives the share that has been sent, from 0 to 1
 * @returns {Promise<T>}
 * @template T
 */
export function uploadFile(url, file, progress) {
  return new Promise((resolve, reject) => {
    const upload = new XMLHttpRequest();
    upload.open("PUT", url);
    upload.setRequestHeader("Accept", "application/json");
    upload.setRequestHeader("Content-Type", "application/octet-stream");
    upload.upload.addEventListener("progress", ({ loaded, total }) => progress(total ? loaded / total : 0));
    upload.addEventListener("error", async () => reject((await changeOf(file, file.name)) ?? connectionProblem()));
    upload.addEventListener("load", () => {
      const answered = parse(upload.responseText);
      const { status, statusText } = upload;
      const headers = { get: (/** @type {string} */ name) => upload.getResponseHeader(name) };
      if (status < 200 || status >= 300) reject(problemOf({ status, statusText, headers }, answered));
      else if (answered === null) reject(connectionProblem());
      else resolve(answered);
    });
    upload.send(file);
  });
}

/**
 * The reason why a file cannot be sent although the server can be reached: browsers refuse to read a file that has been
 * changed, moved or removed since the user chose it, but report only that the request failed. Null if it is readable.
 * @param {Blob} bytes of the file
 * @param {string} name
 */
export async function changeOf(bytes, name) {
  try {
    await bytes.slice(0, 1).arrayBuffer();
    return null;
  } catch {
    return new Problem(
      UNPROCESSABLE,
      `${name} has been changed, moved or removed since you chose it: choose it again.`,
    );
  }
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Check that a URL redirects, without following the redirect. Raises Problem if the URL does not redirect.
 * @param {string} url
 */
export async function requireRedirect(url) {
  const answer = await request(url, { redirect: "manual" });
  if (answer.type !== "opaqueredirect") throw problemOf(answer, await answer.json().catch(() => null));
}

/**
 * @param {string} url
 * @param {RequestInit} options
 */
async function request(url, { headers, signal, ...options }) {
  const asked = Date.now();
  const limited = (options.method ?? "GET") === "GET" ? limit(signal) : signal;
  try {
    const own = { headers: { Accept: "application/json", ...headers }, credentials: "same-origin", signal: limited };
    const sent = { ...own, ...options };
    const answer = await fetch(url, /** @type {RequestInit} */ (sent));
    compareClocks(answer.headers.get("Date"), asked);
    return answer;
  } catch (error) {
    return throwNoAnswer(error);
  }
}

/**
 * A signal that aborts a request when the given one does, and when it has taken too long.
 * @param {AbortSignal | null | undefined} signal
 */
function limit(signal) {
  const late = new AbortController();
  setTimeout(() => late.abort(new DOMException("No response", "TimeoutError")), PATIENCE_MS);
  return AbortSignal.any(signal ? [signal, late.signal] : [late.signal]);
}

/**
 * Throw a Problem that allows a retry, because the response is missing, late, cut off or not JSON (such as the login
 * page of a proxy). For an aborted request, throw the given error instead.
 * @param {unknown} error
 * @returns {never}
 */
function throwNoAnswer(error) {
  throw error instanceof DOMException && error.name === "AbortError" ? error : connectionProblem();
}

export function connectionProblem() {
  return new Problem(0, "Airflow is not responding. Try again.");
}

/**
 * @param {Answer} answer
 * @param {Partial<Api.Problem> | null} body
 */
function problemOf(answer, body) {
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  if (answer.status === 401) {
    return new Problem(401, "Your session has ended. Log in to Airflow again, then reload this page.");
  }
  if (typeof body?.detail === "string" && body.detail) return new Problem(answer.status, body.detail, wait);
  // A proxy may answer so while Airflow restarts. Airflow itself explains every 404 in JSON.
  if (answer.status === NOT_FOUND && body === null) return connectionProblem();
  const unknown = `Airflow responded with ${answer.status} ${answer.statusText}`.trim();
  return new Problem(answer.status, `${unknown}.`, wait);
}

/**
 * The URL of a route of the training API. Segments are encoded, and empty query values are omitted.
 * @param {string[]} segments
 * @param {Query} query
 */
export function trainingUrl(segments, query = {}) {
  return join(TRAINING, segments, query);
}

/**
 * The URL of a route of Airflow's REST API.
 * @param {string[]} segments
 * @param {Query} query
 */
export function airflowUrl(segments, query = {}) {
  return join(AIRFLOW, segments, query);
}

/**
 * @param {string} base
 * @param {string[]} segments
 * @param {Query} query
 */
function join(base, segments, query) {
  const path = segments.map((segment) => encodeURIComponent(segment)).join("/");
  return `${base}/${path}${queryString(query)}`;
}

/**
 * A query string such as `?a=1&b=2`. Omits null and empty values, and repeats the name for each value of a list.
 * @param {Query} values
 */
export function queryString(values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") query.append(name, String(each));
    }
  }
  const text = query.toString();
  return text && `?${text}`;
}
