// What is shown stays as it is on the server: asked again every few seconds, or told by the server; never while
// nobody looks.
import { useCallback, useEffect, useRef, useState } from "./h.js";
import { ask, awayProblem, epochsOf, training } from "./api.js";

const LONGEST_PAUSE = 60;

/**
 * Ask now and then again, as long as the page is visible. What was answered last stays when asking fails.
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {number | null | ((data: T) => number | null)} seconds between two answers; null: ask once
 * @returns {{data: T | undefined, problem: Problem | null, again: () => void}}
 * @template T
 */
export function usePolled(load, seconds) {
  const [state, setState] = useState({ data: undefined, problem: null });
  const [round, setRound] = useState(0);
  const asked = useRef({ load, seconds });
  asked.current = { load, seconds };

  useEffect(() => {
    const stop = new AbortController();
    let timer = null;
    let failures = 0;
    let asking = false;
    const wait = (pause) => {
      if (pause !== null && !stop.signal.aborted) timer = setTimeout(turn, pause * 1000);
    };
    const turn = async () => {
      timer = null;
      if (document.hidden) return;
      asking = true;
      try {
        const data = await asked.current.load(stop.signal);
        failures = 0;
        setState({ data, problem: null });
        const pause = asked.current.seconds;
        wait(typeof pause === "function" ? pause(data) : pause);
      } catch (problem) {
        if (stop.signal.aborted) return;
        failures += 1;
        setState((before) => ({ ...before, problem }));
        if (problem.passes) wait(Math.min(LONGEST_PAUSE, Math.max(problem.retryAfter, 2 ** failures)));
      } finally {
        asking = false;
      }
    };
    const seen = () => !document.hidden && timer === null && !asking && turn();
    const connected = () => {
      clearTimeout(timer);
      timer = null;
      seen();
    };
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("online", connected);
    turn();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
      window.removeEventListener("online", connected);
    };
  }, [round]);

  const again = useCallback(() => setRound((before) => before + 1), []);
  return { ...state, again };
}

/** Whether the job may still change by itself. */
export function isActive(job) {
  return job.status === "running" || job.status === "queued";
}

/** The time, again every second while `ticking`. */
export function useNow(ticking) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!ticking) return undefined;
    const timer = setInterval(() => document.hidden || setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [ticking]);
  return now;
}

/**
 * A job and its epochs, live: told by the server, asked for where it cannot tell.
 * @returns {{job: object | null, epochs: object[], problem: Problem | null, again: () => void, setJob: Function}}
 */
export function useJob(jobId) {
  const [state, setState] = useState({ job: null, epochs: [], problem: null });
  const [round, setRound] = useState(0);
  const known = useRef([]);
  const again = useCallback(() => setRound((before) => before + 1), []);

  useEffect(() => {
    const stop = new AbortController();
    const setJob = (job) => setState((before) => ({ ...before, job, problem: null }));
    const setEpochs = (added) => {
      known.current = merged(known.current, added);
      setState((before) => ({ ...before, epochs: known.current }));
    };
    const last = () => known.current.at(-1)?.epoch ?? -1;
    const look = async () => {
      const [job, added] = await Promise.all([
        ask(training(["jobs", jobId]), { signal: stop.signal }),
        epochsOf(jobId, last(), stop.signal),
      ]);
      setJob(job);
      if (added.length) setEpochs(added);
      return job;
    };
    const failed = (problem) => !stop.signal.aborted && setState((before) => ({ ...before, problem }));
    const following = follow(jobId, { look, last, setJob, setEpochs, failed, signal: stop.signal });
    return () => {
      stop.abort();
      following.close();
    };
  }, [jobId, round]);

  const setJob = useCallback((job) => setState((before) => ({ ...before, job })), []);
  return { ...state, again, setJob };
}

/** Look once, then listen while the page is visible; where listening fails, look every few seconds. */
function follow(jobId, { look, last, setJob, setEpochs, failed, signal }) {
  let source = null;
  let timer = null;
  const close = () => {
    source?.close();
    source = null;
    clearTimeout(timer);
    timer = null;
  };
  const later = (seconds) => {
    clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(resume, seconds * 1000);
  };
  const listen = () => {
    let waiting = [];
    let heard = false;
    source = new EventSource(training(["jobs", jobId, "events"], { after: last() }));
    later(8); // the first event comes at once, unless something on the way keeps it
    source.addEventListener("job", (event) => {
      heard = true;
      clearTimeout(timer);
      setJob(JSON.parse(event.data));
    });
    source.addEventListener("epoch", (event) => {
      // Many come at once at first: drawn together.
      if (waiting.push(JSON.parse(event.data)) > 1) return;
      setTimeout(() => {
        setEpochs(waiting);
        waiting = [];
      }, 50);
    });
    source.addEventListener("end", () => {
      close();
      later(20);
    });
    source.addEventListener("error", () => {
      // After an ordinary end it connects again by itself.
      if (heard && source?.readyState !== EventSource.CLOSED) {
        heard = false;
        return;
      }
      close();
      later(3);
    });
  };
  async function resume() {
    close();
    if (document.hidden || signal.aborted) return;
    try {
      const job = await look();
      if (signal.aborted) return;
      if (isActive(job)) listen();
      else later(20);
    } catch (problem) {
      failed(problem);
      if (problem.passes) later(Math.max(problem.retryAfter, 5));
    }
  }
  const seen = () => (document.hidden ? close() : resume());
  const away = () => {
    close(); // an open stream would not notice for long
    failed(awayProblem());
  };
  document.addEventListener("visibilitychange", seen, { signal });
  window.addEventListener("online", seen, { signal });
  window.addEventListener("offline", away, { signal });
  resume();
  return { close };
}

/** Epochs in order, each once; one that is trained again takes the place of those from there on. */
function merged(known, added) {
  const epochs = [...known];
  for (const each of added) {
    while (epochs.length && epochs.at(-1).epoch >= each.epoch) epochs.pop();
    epochs.push(each);
  }
  return epochs;
}
