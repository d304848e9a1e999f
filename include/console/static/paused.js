// @ts-check
// A warning if a Dag is paused: Airflow then accepts runs, but does not start them.
import { html } from "./h.js";
import { airflowUrl, fetchJson } from "./api.js";
import { Note } from "./elements.js";
import { usePolled } from "./live.js";

/** @param {{ dagId: string }} props */
export function PausedNote({ dagId }) {
  /** @type {(signal: AbortSignal) => Promise<Airflow.Dag>} */
  const load = (signal) => fetchJson(airflowUrl(["dags", dagId]), { signal });
  const { data } = usePolled(load, 30);
  if (!data?.is_paused) return null;
  return html`<${Note} kind="warning" title=${`${dagId} is paused`}>
    <p>Runs of this Dag wait until somebody unpauses it in Airflow.</p></${Note}>`;
}
