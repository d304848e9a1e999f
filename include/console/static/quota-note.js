// @ts-check
// A note on whether the current user's quota would delay or prevent a new training run.
import { html } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";
import { Note } from "./elements.js";
import { usePolled } from "./live.js";

/** @type {(signal: AbortSignal) => Promise<Api.Validation>} */
const load = (signal) => fetchJson(trainingUrl(["validate"]), { method: "POST", body: {}, signal });

/** Shows nothing if a new training run could start immediately, or if the server has not responded yet. */
export function QuotaNote() {
  const { data } = usePolled(load, null);
  const refused = data?.errors[""];
  if (refused) return html`<${Note} kind="warning" title="No new training runs at present"><p>${refused}</p></${Note}>`;
  if (data?.wait) return html`<${Note} title="A new training run will wait"><p>${data.wait}.</p></${Note}>`;
  return null;
}
