"""The errors of this project, sorted by whether another attempt can help.

Whether a failed task is retried follows from the class of its error (include/orchestration/retries.py): never
after a FinalError, for hours after a TransientError, a few times after an AttemptError. The families of some
packages, such as StoreError, hold errors of several kinds. tests/project/test_errors.py compares this
drawing with the code:

ProjectError
  AttemptError
    ConfinedProcessEnded
    DiskError
    MachineUnusable
      GpuLost
      MemoryShort
      MemoryTaken
      NoGpuFree
      StillRunning
    ProcessKilled
    RankFailed
      RankDied
  FinalError
    CompletionConflict
    CompletionRefused
    DatasetError
      DatasetChanged
    DeletionRefused
    DownloadFailed
    InspectionError
      ForeignCode
      NotACheckpoint
      TooLarge
    JobUnknown
    ModelError
      NotRegistered
      PromotionRefused
        PromotionConflict
      VersionUnknown
    OwnershipLost
    PlanError
    RepositoryError
      JobNotCreatable
      JobTaken
    RequestRefused
    SpecError
    TrainingError
      DeviceNotAvailable
      NotResumable
        StateMismatch
        UnreadableCheckpoint
    UntrustedFolder
    WeightsUnavailable
  SchemaError
    MigrationRefused (FinalError)
    SchemaBehind (FinalError)
    SchemaBusy (TransientError)
    SchemaUnverified (FinalError)
    TargetUnknown (FinalError)
  StoreError
    LocalDiskError (AttemptError)
    StoreRefusal (FinalError)
      ConditionsNotHonoured
      CorruptObject
      FencedOut
        SourceChanged
      ForeignObject
      LocalFileChanged
      LocalFileMissing
      ObjectNotFound
        CheckpointNotFound
      ObjectTooLarge
      StoreMisconfigured
        BucketMissing
        ClockSkew
        StoreAccessDenied
      UnsafeCheckpoint
    StoreUnavailable (TransientError)
      RefusedForNow
      StoreBusy
      StoreUnreachable
      UploadGivenUp
  TrackingError
    TrackingRefused (FinalError)
    TrackingSettingsError (FinalError)
    TrackingUnavailable (TransientError)
  TransientError
    BackendUnavailable
"""

from __future__ import annotations


class ProjectError(Exception):
    """An error with a sentence for the person who reads a task's log or the API's response."""


class FinalError(ProjectError):
    """Another attempt would meet the same: something has to be changed or decided first."""


class OwnershipLost(FinalError):
    """Somebody else continues with the job: this run, or this attempt, has to stop and to change nothing."""


class TransientError(ProjectError):
    """A server is away or busy. The same call can succeed later, on this machine too."""


class AttemptError(ProjectError):
    """The attempt cannot go on. Another one, now or later, here or on another machine, may succeed."""
