// Written by `python -m include.console.derive_types`: requests and responses of the training API.
declare namespace Api {
  interface ChangedImage {
    name: string;
    split: "train" | "val" | "test";
    moved_from: "train" | "val" | "test" | null;
  }

  interface Changes {
    count: number;
    examples: Array<ChangedImage>;
  }

  interface ClassChange {
    name: string;
    before: ClassCount | null;
    after: ClassCount | null;
  }

  interface ClassCount {
    name: string;
    train: number;
    val: number;
    train_images: number;
    val_images: number;
  }

  interface ClassDifference {
    added: number;
    removed: number;
    renumbered: boolean;
    changes: Array<ClassChange>;
  }

  interface ClassTable {
    classes: Array<ClassCount> | null;
  }

  interface CompletedUpload {
    upload_id: string;
    source: string;
  }

  interface Dataset {
    newest: DatasetSummary;
    versions: number;
  }

  interface DatasetDifference {
    base: number;
    version: number;
    files: FileDifference | null;
    classes: ClassDifference | null;
  }

  interface DatasetJob {
    job_id: string;
    status: string | null;
    created_at: string | null;
    triggered_by: string | null;
  }

  interface DatasetRegistration {
    state: "queued" | "checking" | "registered" | "refused" | "failed";
    version: number | null;
    created: boolean | null;
    error: string | null;
  }

  interface DatasetReport {
    job_id: string | null;
    run_id: string;
    dataset: string;
    task: "detect" | "segment" | "semantic" | "depth" | "classify" | "pose" | "obb";
    checked_at: string;
    fingerprint: string | null;
    problems: number;
    errors: Array<FoundKind>;
    warnings: Array<FoundKind>;
    class_table: Array<ClassCount>;
    omitted: number;
    findings: Array<ReportedFinding>;
  }

  interface DatasetSummary {
    name: string;
    version: number;
    fingerprint: string;
    source: string;
    origin: string | null;
    task: "detect" | "segment" | "semantic" | "depth" | "classify" | "pose" | "obb";
    train_images: number;
    val_images: number;
    size: number;
    report: string | null;
    note: string | null;
    run_id: string | null;
    created_by: string | null;
    created_at: string;
    archived_at: string | null;
  }

  interface DatasetVersionResponse {
    name: string;
    version: number;
    fingerprint: string;
    source: string;
    origin: string | null;
    task: "detect" | "segment" | "semantic" | "depth" | "classify" | "pose" | "obb";
    train_images: number;
    val_images: number;
    size: number;
    report: string | null;
    note: string | null;
    run_id: string | null;
    created_by: string | null;
    created_at: string;
    archived_at: string | null;
    class_table: Array<ClassCount> | null;
    warnings: Array<WarningCount> | null;
    jobs: Array<DatasetJob>;
  }

  interface DatasetVersionsPage {
    versions: Array<DatasetSummary>;
    next: number | null;
  }

  interface DatasetsPage {
    datasets: Array<Dataset>;
    next: string | null;
  }

  interface DeletionProgress {
    state: "deleting" | "deleted" | "refused" | "failed";
    objects: number | null;
    bytes: number | null;
    error: string | null;
  }

  interface DeletionStarted {
    run_id: string;
  }

  interface EpochsPage {
    epochs: Array<RecordedEpoch>;
    next: number | null;
  }

  interface FileDifference {
    added: Changes;
    removed: Changes;
    changed: Changes;
    labels_changed: Changes;
    moved: Changes;
  }

  interface FileToUpload {
    path: string;
    size: number;
  }

  interface FoundKind {
    kind: string;
    title: string;
    remedy: string;
    reason: string;
    count: number;
    places: Array<FoundPlace>;
  }

  interface FoundPlace {
    file: string;
    line: number | null;
    message: string;
  }

  interface JobLineage {
    parent_job_id: string | null;
    resumed_epoch: number | null;
    children: Array<string>;
  }

  interface JobLinks {
    self: string;
    epochs: string;
    events: string;
    lineage: string;
    pictures: string;
    dataset_report: string | null;
    best_checkpoint: string | null;
    last_checkpoint: string | null;
    airflow_run: string | null;
    airflow_run_api: string | null;
  }

  type JobStatus = "queued" | "running" | "completed" | "failed" | "stopped";

  interface JobUsage {
    job_id: string;
    status: string | null;
    gpu_hours: number;
    attempts: number;
  }

  interface JobsPage {
    jobs: Array<TrainingJobResponse>;
    next: string | null;
    total: number;
    total_is_estimate: boolean;
  }

  interface Lineage {
    jobs: Array<RelatedJob>;
    truncated: boolean;
  }

  interface ModelPage {
    models: Array<ModelVersion>;
    next: string | null;
  }

  interface ModelVersion {
    name: string;
    version: number;
    job_id: string;
    run_id: string | null;
    stage: Stage;
    path: string;
    sha256: string;
    size: number;
    dataset: string | null;
    dataset_fingerprint: string | null;
    parameters_fingerprint: string | null;
    metrics: Record<string, any> | null;
    champion_version: number | null;
    champion_metrics: Record<string, any> | null;
    reason: string | null;
    promoted_by: string | null;
    promoted_at: string | null;
    signature_sha256: string | null;
    created_at: string;
  }

  interface NewVersion {
    source: string;
    task: string;
    note: string | null;
  }

  interface PartsBody {
    parts: Array<WantedPart>;
  }

  interface Picture {
    name: string;
    size: number;
    media_type: string;
    href: string;
  }

  interface Pictures {
    pictures: Array<Picture>;
  }

  interface PretrainedFile {
    name: string;
    size: number;
    stored_at: string;
  }

  interface PretrainedFiles {
    files: Array<PretrainedFile>;
    truncated: boolean;
  }

  interface Problem {
    type: string;
    title: string;
    status: number;
    detail: string;
  }

  interface Progress {
    finished_epochs: number | null;
    epochs: number | null;
    batch: number | null;
    batches: number | null;
    durable_epochs: number | null;
    durable_batch: number | null;
    goodput: number | null;
    eta_seconds: number | null;
    epoch_seconds: number | null;
    recorded_at: string | null;
  }

  interface QueuePlace {
    place: number;
    waiting: number;
    expected_start_at: string | null;
  }

  interface RecordedEpoch {
    epoch: number;
    metrics: Record<string, number | null>;
    fitness: number | null;
    seconds: number | null;
    eta_seconds: number | null;
    recorded_at: string;
  }

  interface RegistrationStarted {
    run_id: string;
  }

  interface RelatedJob {
    job_id: string;
    parent_job_id: string | null;
    resumed_epoch: number | null;
    fine_tuned: boolean;
    status: string | null;
    epoch: number | null;
    epochs: number | null;
    metrics: Record<string, any> | null;
    created_at: string | null;
    model: string | null;
    dataset: string | null;
  }

  interface ReportedFinding {
    file: string;
    line: number | null;
    message: string;
    kind: string;
  }

  interface SamplePicture {
    name: string;
    split: "train" | "val" | "test";
    image: string;
    href: string;
  }

  interface Samples {
    samples: Array<SamplePicture>;
  }

  interface Session {
    user: string;
    may_start: boolean;
    may_register: boolean;
    may_change_all_jobs: boolean;
    job_administrators: Array<string>;
    airflow_url: string;
  }

  interface SignedPart {
    file: number;
    part: number;
    url: string;
    headers: Record<string, string>;
  }

  interface SignedParts {
    links: Array<SignedPart>;
    seconds: number;
  }

  type Stage = "candidate" | "production" | "archived" | "rejected";

  interface StopBody {
    when: "now" | "after_epoch";
  }

  interface StoredFile {
    name: string;
    path: string;
    sha256: string;
  }

  interface TrainingCompletionCallback {
    job_id: string | null;
    status: "completed" | "stopped";
    dag_id: string | null;
    run_id: string | null;
    best_checkpoint_path: string;
    best_checkpoint_sha256: string | null;
    best_checkpoint_size: number | null;
    last_checkpoint_path: string;
    last_checkpoint_sha256: string | null;
    last_checkpoint_size: number | null;
    epoch: number | null;
    epochs: number | null;
    metrics: Record<string, number | null> | null;
  }

  interface TrainingJobResponse {
    job_id: string;
    status: string | null;
    stop_requested: boolean;
    stop_after_epoch: boolean;
    dag_id: string | null;
    run_id: string | null;
    origin_run_id: string | null;
    attempt: number | null;
    parent_job_id: string | null;
    resumed_epoch: number | null;
    initial_weights_path: string | null;
    initial_weights_sha256: string | null;
    spec: Record<string, any> | null;
    dataset_name: string | null;
    dataset_version: number | null;
    dataset_fingerprint: string | null;
    epoch: number | null;
    epoch_batch: number | null;
    epoch_batches: number | null;
    durable_epoch: number | null;
    durable_batch: number | null;
    epochs: number | null;
    trained_seconds: number | null;
    lost_seconds: number | null;
    metrics: Record<string, any> | null;
    best_checkpoint_path: string | null;
    best_checkpoint_sha256: string | null;
    best_checkpoint_size: number | null;
    last_checkpoint_path: string | null;
    last_checkpoint_sha256: string | null;
    last_checkpoint_size: number | null;
    last_checkpoint_expired_at: string | null;
    origin: "external" | null;
    checkpoint_uploader: string | null;
    checkpoint_finding: string | null;
    pinned: boolean;
    archived_at: string | null;
    inexact_reason: string | null;
    preparation: string | null;
    error: string | null;
    triggered_by: string | null;
    created_at: string | null;
    queued_at: string | null;
    waited_seconds: number | null;
    waits_for_quota: boolean;
    machine: string | null;
    gpu_name: string | null;
    gpu_driver: string | null;
    started_at: string | null;
    completed_at: string | null;
    updated_at: string | null;
    task: string | null;
    model: string | null;
    dataset: string | null;
    duration_seconds: number | null;
    queue: QueuePlace | null;
    progress: Progress;
    fitness_curve: Array<number | null>;
    lineage: JobLineage;
    links: JobLinks;
  }

  interface UploadBody {
    files: Array<FileToUpload>;
  }

  interface UploadState {
    upload_id: string;
    created_by: string;
    source: string | null;
    files: Array<UploadedFile>;
  }

  interface UploadedFile {
    path: string;
    size: number;
    part_size: number;
    parts: number;
    arrived: Array<number>;
  }

  interface Usage {
    weeks: Array<string>;
    users: Array<UserUsage>;
  }

  interface UserUsage {
    user: string | null;
    gpu_hours: Array<number>;
    running: number;
    queued: number;
    held: number;
    quota_gpus: number | null;
    quota_gpu_hours: number | null;
  }

  interface Validation {
    errors: Record<string, string>;
    wait: string | null;
  }

  interface WantedPart {
    file: number;
    part: number;
  }

  interface WarningCount {
    kind: string;
    title: string;
    remedy: string;
    count: number;
  }

  interface WeekUsage {
    week: string;
    jobs: Array<JobUsage>;
  }

}
