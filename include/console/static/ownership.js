// @ts-check
// Who may change a job or a version of a dataset. The server enforces the same rules.
import { TRAINING_DAG } from "./api.js";

/**
 * Why the current user may not change the job; null if they may.
 * @param {Api.Session} session
 * @param {Api.TrainingJobResponse} job
 * @returns {string | null}
 */
export function explainNotYours(session, { triggered_by: owner, dag_id: dag }) {
  const written = owner === null && dag !== TRAINING_DAG; // by a host application
  if (session.may_change_all_jobs || written || owner === session.user) return null;
  const named = session.job_administrators.slice(0, 5);
  const more = session.job_administrators.length > named.length ? ", …" : "";
  const administrators = named.length ? ` (${named.join(", ")}${more})` : "";
  const who = owner === null ? "a job administrator" : `${owner} or a job administrator`;
  const whose = owner === null ? "A schedule started this training run" : `This training run belongs to ${owner}`;
  return `${whose}: only ${who}${administrators} may stop, resume, archive or delete it.`;
}

/**
 * Why the current user may not delete the version; null if they may. Job administrators may not delete the
 * versions of other users either.
 * @param {Api.Session} session
 * @param {Api.DatasetVersionResponse} version
 * @returns {string | null}
 */
export function explainNotYourVersion({ user }, { created_by: owner }) {
  if (owner === null || owner === user) return null;
  return `${owner} registered this version: only ${owner} may delete it.`;
}
