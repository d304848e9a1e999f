// @ts-check
// Sends single parts with PUT to links that the API signs, and retries after interruptions.
import { changeOf, fetchJson, Problem, trainingUrl } from "./api.js";

const MOST_ATTEMPTS = 6;
const MOST_REQUESTS = 8;
/**
 * Statuses of S3 after which a retry with a new link may succeed. Amazon S3 answers 409 to a conditional PUT while it
 * processes another PUT of the same object.
 */
const PASSING = new Set([0, 403, 408, 409, 429, 500, 502, 503, 504]);

/**
 * @typedef {{ file: number, path: string, part: number, bytes: Blob }} Piece a part of an upload that is not in S3 yet
 */

/**
 * Request links for the pieces, in the same order.
 * @param {string} uploadId
 * @param {Piece[]} pieces
 * @param {AbortSignal} signal
 * @returns {Promise<Api.SignedPart[]>}
 */
export async function sign(uploadId, pieces, signal) {
  const body = { parts: pieces.map(({ file, part }) => ({ file, part })) };
  const url = trainingUrl(["uploads", uploadId, "parts"]);
  /** @type {Api.SignedParts} */
  const { links } = await outlast(() => fetchJson(url, { method: "POST", body, signal }), signal);
  return links;
}

/**
 * Send a request, and repeat it for about two minutes if Airflow or the network is unavailable: an upload of hours
 * must outlast a restart. Only for requests that may be repeated.
 * @param {() => Promise<T>} send
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 * @template T
 */
export async function outlast(send, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await send();
    } catch (problem) {
      if (!(problem instanceof Problem) || !problem.isTransient || attempt === MOST_REQUESTS) throw problem;
      await pause(Math.max(problem.retryAfter, 2 ** (attempt - 1)) * 1000, signal);
    }
  }
}

/**
 * Send a piece. After an interruption, send it again with a new link, at most six times in total.
 * @param {string} uploadId
 * @param {Piece} piece
 * @param {Api.SignedPart} link
 * @param {(sent: number) => void} progress
 * @param {AbortSignal} signal
 */
export async function sendPiece(uploadId, piece, link, progress, signal) {
  for (let attempt = 1, current = link; ; attempt += 1) {
    const status = await put(current, piece.bytes, progress, signal);
    // 412: S3 already has the file, complete or truncated. If the file is truncated, completing the upload fails.
    if ((status >= 200 && status < 300) || status === 412) return;
    const changed = status === 0 ? await changeOf(piece.bytes, piece.path) : null;
    if (changed) throw changed;
    if (!PASSING.has(status) || attempt === MOST_ATTEMPTS) throw refusal(status, link.url);
    await pause(2 ** attempt * 250, signal);
    [current] = await sign(uploadId, [piece], signal);
  }
}

/**
 * PUT a piece and return the status of the response; 0 if there was none, or if the browser hides it from this page.
 * @param {Api.SignedPart} link
 * @param {Blob} bytes
 * @param {(sent: number) => void} progress
 * @param {AbortSignal} signal
 * @returns {Promise<number>}
 */
function put({ url, headers }, bytes, progress, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest(); // `fetch` does not report progress.
    const abort = () => request.abort();
    signal.addEventListener("abort", abort, { once: true });
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", ({ loaded }) => progress(loaded));
    request.addEventListener("abort", () => reject(signal.reason));
    request.addEventListener("loadend", () => {
      signal.removeEventListener("abort", abort);
      resolve(request.status);
    });
    request.send(bytes);
  });
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 */
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
  });
}

/**
 * @param {number} status
 * @param {string} url
 */
function refusal(status, url) {
  const { origin } = new URL(url);
  const cause = status
    ? `S3 at ${origin} responded with ${status}.`
    : `This browser gets no response from S3 at ${origin}: either S3 cannot be reached from here, or the bucket’s CORS
      rules do not allow PUT from ${location.origin} (docs/deployment.md).`;
  return new Problem(status, `${cause.replace(/\s+/g, " ")} Choose the same files again to continue the upload.`);
}
