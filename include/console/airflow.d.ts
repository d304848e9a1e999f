// What the console reads from answers of Airflow's own REST API.
declare namespace Airflow {
  /** JSON schema of a Dag's parameter, with keywords of include/orchestration/params.py and include/jobs/spec.py. */
  interface ParamSchema {
    type?: string | string[];
    enum?: Array<string | null>;
    pattern?: string;
    minimum?: number;
    maximum?: number;
    exclusiveMinimum?: number;
    section?: string;
    /** The parameter's description without its default. */
    about?: string;
    /** What is used if no value is given, in words. */
    when_empty?: string;
    /** A value that means the same as none. */
    effective_default?: unknown;
    /** The same by task, where it depends on the task. */
    effective_default_by_task?: Record<string, unknown>;
    /** Its name in Ultralytics; none for a parameter that Ultralytics does not have. */
    argument?: string;
    /** Whether a resumed training run has its parent's value if none is given. */
    inherited?: boolean;
  }

  interface Param {
    value: unknown;
    schema: ParamSchema;
    description: string | null;
  }

  interface DagDetails {
    params: Record<string, Param>;
  }

  interface DagRun {
    dag_run_id: string;
    state: string;
  }

  interface TaskInstance {
    task_id: string;
    state: string | null;
    try_number: number;
  }

  interface TaskInstances {
    task_instances: TaskInstance[];
  }

  interface TaskLog {
    content: Array<{ error_detail?: Array<{ exc_value: string }> }>;
  }
}
