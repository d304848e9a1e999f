// @ts-check
// A job and its epochs, kept up to date: the server pushes changes; if that fails, the page polls.
/** @import { Problem } from "./api.js" */
import { useCallback, useEffect, useRef, useState } from "./h.js";
import { connectionProblem, trainingUrl } from "./api.js";
import { fetchJob, updateEpochs } from "./job-data.js";
import { isActive } from "./live.js";

/**
 * Seconds without an event of a job after which its stream is replaced. The server ends each stream after five minutes,
 * and a new one begins with such an event. A frozen server or a lost network may never end it.
 */
const LONGEST_SILENCE = 330;

/**
 * @typedef {Api.TrainingJobResponse} Job
 * @typedef {object} Listener
 * @property {(signal: AbortSignal) => Promise<Job>} load loads the job and its new epochs
 * @property {() => number} lastEpoch the last known epoch, counted from 0; -1 before the first
 * @property {(job: Job) => void} setJob
 * @property {(added: Api.RecordedEpoch[]) => void} addEpochs
 * @property {(problem: Problem) => void} fail
 * @property {AbortSignal} signal
 */

/**
 * Follow a job.
 * @param {string} jobId
 */
export function useJob(jobId) {
  const [state, setState] = useState(
    /** @type {{ job: Job | null, epochs: Api.RecordedEpoch[], problem: Problem | null }} */ ({
      job: null,
      epochs: [],
      problem: null,
    }),
  );
  const [round, setRound] = useState(0);
  const known = useRef(/** @type {Api.RecordedEpoch[]} */ ([]));
  const again = useCallback(() => setRound((before) => before + 1), []);

  useEffect(() => {
    const stop = new AbortController();
    const setJob = (/** @type {Job} */ job) => setState((before) => ({ ...before, job, problem: null }));
    const addEpochs = (/** @type {Api.RecordedEpoch[]} */ added) => {
      known.current = merge(known.current, added);
      setState((before) => ({ ...before, epochs: known.current }));
    };
    const lastEpoch = () => known.current.at(-1)?.epoch ?? -1;
    const load = async (/** @type {AbortSignal} */ signal) => {
      const job = await fetchJob(jobId, signal);
      const epochs = await updateEpochs(jobId, known.current, signal);
      signal.throwIfAborted();
      known.current = epochs;
      setState({ job, epochs, problem: null });
      return job;
    };
    const fail = (/** @type {Problem} */ problem) =>
      !stop.signal.aborted && setState((before) => ({ ...before, problem }));
    const following = follow(jobId, { load, lastEpoch, setJob, addEpochs, fail, signal: stop.signal });
    return () => {
      stop.abort();
      following.close();
    };
  }, [jobId, round]);

  const setJob = useCallback((/** @type {Job} */ job) => setState((before) => ({ ...before, job })), []);
  return { ...state, again, setJob };
}

/**
 * Load once, then listen to events while the page is visible. If listening fails, poll.
 * @param {string} jobId
 * @param {Listener} listener
 */
function follow(jobId, { load, lastEpoch, setJob, addEpochs, fail, signal }) {
  /** @type {EventSource | null} */
  let source = null;
  /** @type {number | undefined} */
  let timer;
  let loading = new AbortController();
  const close = () => {
    loading.abort(); // A late response could open a second stream, or replace newer data.
    source?.close();
    source = null;
    clearTimeout(timer);
  };
  const resumeIn = (/** @type {number} */ seconds) => {
    clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(resume, seconds * 1000);
  };
  const listen = () => {
    /** @type {Api.RecordedEpoch[]} */
    let waiting = [];
    let heard = false;
    source = new EventSource(trainingUrl(["jobs", jobId, "events"], { after: lastEpoch() }));
    resumeIn(8); // The first event arrives immediately, unless a proxy buffers the stream.
    source.addEventListener("job", (event) => {
      heard = true;
      resumeIn(LONGEST_SILENCE);
      setJob(JSON.parse(event.data));
    });
    source.addEventListener("epoch", (event) => {
      // A new stream sends many epochs in a burst, so they are drawn together.
      if (waiting.push(JSON.parse(event.data)) > 1) return;
      setTimeout(() => {
        addEpochs(waiting);
        waiting = [];
      }, 50);
    });
    source.addEventListener("end", () => {
      close();
      resumeIn(20);
    });
    source.addEventListener("error", () => {
      // When a stream ends normally, the browser reconnects automatically.
      if (heard && source?.readyState !== EventSource.CLOSED) {
        heard = false;
        return;
      }
      close();
      resumeIn(3);
    });
  };
  async function resume() {
    close();
    if (document.hidden || signal.aborted) return;
    const own = new AbortController();
    loading = own;
    try {
      const job = await load(own.signal);
      if (isActive(job)) listen();
      else resumeIn(20);
    } catch (error) {
      if (own.signal.aborted) return;
      const problem = /** @type {Problem} */ (error);
      fail(problem);
      if (problem.isTransient) resumeIn(Math.max(problem.retryAfter, 5));
    }
  }
  const onVisibility = () => (document.hidden ? close() : resume());
  const onOffline = () => {
    close(); // An open stream would not notice the loss of the network for a long time.
    fail(connectionProblem());
  };
  document.addEventListener("visibilitychange", onVisibility, { signal });
  window.addEventListener("online", onVisibility, { signal });
  window.addEventListener("offline", onOffline, { signal });
  resume();
  return { close };
}

/**
 * Merge epochs in order, without duplicates. An epoch that was trained again replaces its earlier record and all later
 * epochs.
 * @param {Api.RecordedEpoch[]} known
 * @param {Api.RecordedEpoch[]} added
 */
function merge(known, added) {
  const epochs = [...known];
  for (const each of added) {
    while (epochs.length && epochs[epochs.length - 1].epoch >= each.epoch) epochs.pop();
    epochs.push(each);
  }
  return epochs;
}
