// @ts-check
// Sends files straight to S3 through signed links, in parts: an interrupted upload continues with the missing parts.
/** @import { LocalFile } from "./dropped-files.js" */
/** @import { Piece } from "./signed-puts.js" */
import { fetchJson, Problem, trainingUrl } from "./api.js";
import { outlast, sendPiece, sign } from "./signed-puts.js";

const AT_ONCE = 4;
const SIGNED_AT_ONCE = 100;
/** Links are valid for an hour, so even a slow connection must be able to send this much within an hour. */
const BYTES_SIGNED_AT_ONCE = 512 * 1024 ** 2;

/** @typedef {(sent: number, total: number) => void} Report receives numbers of bytes */

/**
 * Send the files, and return the completed upload. Raises Problem, and AbortError once `signal` is aborted.
 * Until `forget` is called, the browser remembers the upload, and does not send the same files again.
 * @param {LocalFile[]} files
 * @param {Report} report
 * @param {AbortSignal} signal
 * @returns {Promise<{ id: string, source: string, forget: () => void }>} source is the value for `dataset`
 */
export async function uploadDataset(files, report, signal) {
  const key = `upload:${digestOf(files)}`;
  report(0, sizeOf(files)); // Nothing else is reported for files that have all arrived.
  let state = await beginOrContinue(files, key, signal);
  for (let round = 0; state.source === null; round += 1) {
    const path = ["uploads", state.upload_id];
    try {
      await sendPieces(state.upload_id, piecesOf(files, state), sizeOf(files), report, signal);
      const url = trainingUrl([...path, "complete"]);
      const answer = await outlast(() => fetchJson(url, { method: "POST", signal }), signal);
      state = { ...state, source: answer.source };
    } catch (problem) {
      // S3 lacks parts that were sent, or another page has completed the upload. Fetch the state again, at most twice.
      if (!(problem instanceof Problem) || problem.status !== 409 || round > 1) throw problem;
      state = await fetchJson(trainingUrl(path), { signal });
    }
  }
  return { id: state.upload_id, source: state.source, forget: () => remember(key, null) };
}

/**
 * Continue the upload of the same files that this browser began earlier, or begin a new one.
 * @param {LocalFile[]} files
 * @param {string} key
 * @param {AbortSignal} signal
 * @returns {Promise<Api.UploadState>}
 */
async function beginOrContinue(files, key, signal) {
  const known = recall(key);
  if (known) {
    try {
      /** @type {Api.UploadState} */
      const state = await fetchJson(trainingUrl(["uploads", known]), { signal });
      if (files.every(({ path }, index) => state.files[index]?.path === path)) return state;
    } catch (problem) {
      if (!(problem instanceof Problem) || ![403, 404].includes(problem.status)) throw problem;
    }
  }
  const announced = files.map(({ path, file }) => ({ path, size: file.size }));
  /** @type {Api.UploadState} */
  const begun = await fetchJson(trainingUrl(["uploads"]), { method: "POST", body: { files: announced }, signal });
  remember(key, begun.upload_id);
  return begun;
}

/**
 * The parts that are not in S3 yet.
 * @param {LocalFile[]} files in the order in which they were announced
 * @param {Api.UploadState} state
 * @returns {Piece[]}
 */
function piecesOf(files, state) {
  return state.files.flatMap(({ parts, part_size: size, arrived }, index) => {
    const stored = new Set(arrived);
    const numbers = Array.from({ length: parts }, (_, before) => before + 1).filter((number) => !stored.has(number));
    return numbers.map((part) => ({
      file: index,
      path: files[index].path,
      part,
      bytes: files[index].file.slice((part - 1) * size, part * size),
    }));
  });
}

/**
 * @param {string} uploadId
 * @param {Piece[]} pieces
 * @param {number} total bytes of all files
 * @param {Report} report
 * @param {AbortSignal} signal
 */
async function sendPieces(uploadId, pieces, total, report, signal) {
  let done = total - pieces.reduce((sum, { bytes }) => sum + bytes.size, 0);
  /** @type {Map<Piece, number>} */
  const onTheWay = new Map();
  const reportSent = () => report(done + [...onTheWay.values()].reduce((sum, sent) => sum + sent, 0), total);
  reportSent();
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const send = async (/** @type {Piece} */ piece, /** @type {Api.SignedPart} */ link) => {
    const progress = (/** @type {number} */ sent) => {
      onTheWay.set(piece, sent);
      reportSent();
    };
    await sendPiece(uploadId, piece, link, progress, either);
    onTheWay.delete(piece);
    done += piece.bytes.size;
    reportSent();
  };
  let next = 0;
  while (next < pieces.length) {
    const batch = nextBatch(pieces, next);
    next += batch.length;
    const links = await sign(uploadId, batch, either);
    const waiting = batch.map((piece, index) => /** @type {const} */ ([piece, links[index]]));
    const worker = async () => {
      for (let one = waiting.shift(); one; one = waiting.shift()) await send(...one);
    };
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
    } catch (problem) {
      stop.abort(); // A part has failed permanently. The other transfers would report progress after the failure.
      throw problem;
    }
  }
}

/**
 * @param {Piece[]} pieces
 * @param {number} start
 */
function nextBatch(pieces, start) {
  let bytes = 0;
  let end = start;
  while (end < pieces.length && end - start < SIGNED_AT_ONCE && (end === start || bytes < BYTES_SIGNED_AT_ONCE)) {
    bytes += pieces[end].bytes.size;
    end += 1;
  }
  return pieces.slice(start, end);
}

/** @param {LocalFile[]} files */
function sizeOf(files) {
  return files.reduce((sum, { file }) => sum + file.size, 0);
}

/**
 * The key of these files in this browser's storage. Choosing the same, unchanged files again continues their upload.
 * @param {LocalFile[]} files
 */
function digestOf(files) {
  let [one, other] = [0xdeadbeef, 0x41c6ce57];
  const text = files.map(({ path, file }) => `${path}\n${file.size}\n${file.lastModified}`).join("\n");
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    one = Math.imul(one ^ code, 2654435761);
    other = Math.imul(other ^ code, 1597334677);
  }
  return `${files.length}-${(one >>> 0).toString(16)}${(other >>> 0).toString(16)}`;
}

/** @param {string} key */
function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage is disabled
  }
}

/**
 * @param {string} key
 * @param {string | null} value null to delete the entry
 */
function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // Without storage, an upload still works, but starts from the beginning after a reload.
  }
}
