// @ts-check
// Polls data every few seconds, except while the page is hidden.
/** @import { Problem } from "./api.js" */
import { serverNow } from "./clock.js";
import { useCallback, useEffect, useRef, useState } from "./h.js";

const LONGEST_PAUSE = 60;

/**
 * Load data, and reload them while the page is visible. If a later request fails, the last data are kept.
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {number | null | ((data: T) => number | null)} seconds from a response to the next request; null: load once
 * @returns {{ data: T | undefined, problem: Problem | null, again: () => void }}
 * @template T
 */
export function usePolled(load, seconds) {
  const [state, setState] = useState(
    /** @type {{ data: T | undefined, problem: Problem | null }} */ ({ data: undefined, problem: null }),
  );
  const [round, setRound] = useState(0);
  const latest = useRef({ load, seconds });
  latest.current = { load, seconds };

  useEffect(() => {
    const stop = new AbortController();
    /** @type {number | undefined} */
    let timer;
    let failures = 0;
    let loading = false;
    const wait = (/** @type {number | null} */ pause) => {
      if (pause !== null && !stop.signal.aborted) timer = setTimeout(turn, pause * 1000);
    };
    const turn = async () => {
      timer = undefined;
      if (document.hidden) return;
      loading = true;
      try {
        const data = await latest.current.load(stop.signal);
        failures = 0;
        setState({ data, problem: null });
        const pause = latest.current.seconds;
        wait(typeof pause === "function" ? pause(data) : pause);
      } catch (error) {
        if (stop.signal.aborted) return;
        const problem = /** @type {Problem} */ (error);
        failures += 1;
        setState((before) => ({ ...before, problem }));
        if (problem.isTransient) wait(Math.min(LONGEST_PAUSE, Math.max(problem.retryAfter, 2 ** failures)));
      } finally {
        loading = false;
      }
    };
    const onVisible = () => !document.hidden && timer === undefined && !loading && turn();
    const onOnline = () => {
      clearTimeout(timer);
      timer = undefined;
      onVisible();
    };
    document.addEventListener("visibilitychange", onVisible);
    window.addEventListener("online", onOnline);
    turn();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
      window.removeEventListener("online", onOnline);
    };
  }, [round]);

  const again = useCallback(() => setRound((before) => before + 1), []);
  return { ...state, again };
}

/**
 * Whether the job is queued or running, and may therefore change without a user's action.
 * @param {Api.TrainingJobResponse} job
 */
export function isActive(job) {
  return job.status === "running" || job.status === "queued";
}

/**
 * The server's time, updated every second while `ticking`.
 * @param {boolean} ticking
 */
export function useNow(ticking) {
  const [now, setNow] = useState(serverNow());
  useEffect(() => {
    if (!ticking) return undefined;
    const timer = setInterval(() => document.hidden || setNow(serverNow()), 1000);
    return () => clearInterval(timer);
  }, [ticking]);
  return now;
}
