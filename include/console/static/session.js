// @ts-check
// The current user and the user's rights.
import { useEffect, useState } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";

/** @type {Promise<Api.Session> | undefined} */
let requested;

/** Fetch the current user and the user's rights. They are requested once per page, and again only after a failure. */
function fetchSession() {
  requested ??= fetchJson(trainingUrl(["session"])).catch((problem) => {
    requested = undefined;
    throw problem;
  });
  return /** @type {Promise<Api.Session>} */ (requested);
}

/** Whether the current user may start training runs; null until it is known. */
export const useMayStart = () => useSession()?.may_start ?? null;

/** Whether the current user may upload and register datasets; null until it is known. */
export const useMayRegister = () => useSession()?.may_register ?? null;

/** @type {Api.Session} */
const NOBODY = {
  user: "",
  may_start: false,
  may_register: false,
  may_change_all_jobs: false,
  job_administrators: [],
  airflow_url: "",
};

/**
 * The current user and the user's rights; null until they are known.
 * @returns {Api.Session | null}
 */
export function useSession() {
  const [session, setSession] = useState(/** @type {Api.Session | null} */ (null));
  useEffect(() => {
    /** @type {number | undefined} */
    let timer;
    const ask = () =>
      fetchSession().then(
        (found) => setSession(found),
        (problem) => {
          if (problem.isTransient) timer = setTimeout(ask, 3000);
          else setSession(NOBODY);
        },
      );
    ask();
    return () => clearTimeout(timer);
  }, []);
  return session;
}
