// The parts of responses of Airflow's own REST API that the console reads.
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
    /** Describes in words the value that is used if none is given. */
    when_empty?: string;
    /** The value that is used if none is given. */
    effective_default?: unknown;
    /** The value that is used for each task if none is given, if that depends on the task. */
    effective_default_by_task?: Record<string, unknown>;
    /** The parameter's name in Ultralytics; absent if Ultralytics does not have the parameter. */
    argument?: string;
    /** Whether a resumed training run uses its parent's value if none is given. */
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

  interface Dag {
    is_paused: boolean;
  }

  interface DagRun {
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
