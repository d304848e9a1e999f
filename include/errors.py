"""The errors of this project, sorted by whether another attempt can help.

The class of an error determines whether its task is retried (include/orchestration/retries.py): never after a
FinalError, for hours after a TransientError or a MachineUnusable, a few times after any other AttemptError.
ProcessKilled counts as a kill (include/orchestration/interruptions.py). Some packages have their own base
class, such as StoreError. A retry can help after some of its subclasses, but not after others. Errors that no
task raises, such as StackError, are omitted. tests/project/test_errors.py compares this tree with the code:

ProjectError
  AttemptError
    ConfinedProcessEnded
    DiskError
    EvictionHangs
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
    Conflict
      CompletionConflict
      DatasetNeeded
      DeletionRefused
      UploadEnded
      UploadIncomplete
    DatasetError
      DatasetChanged
      DatasetNotHere
      ReaderKilled
    DownloadFailed
    InspectionError
      ForeignCode
      NotACheckpoint
      TooLarge
    Invalid
      CompletionRefused
      RequestRefused
      UploadRefused
    MessageRefused
    ModelError
      NotRegistered
      PromotionRefused
        PromotionConflict
      SignatureRefused
        NotSigned
      VersionUnknown
    NotFound
      DatasetUnknown
      JobUnknown
      UploadUnknown
    OwnershipLost
    PlanError
    RepositoryError
      DatasetGone
      JobNotCreatable
      JobTaken
      StateExpired
    SettingRefused
    SpecError
      QuotaReached
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
        ManifestMissing
      ObjectTooLarge
      StoreMisconfigured
        BucketMissing
        ClockSkew
        StoreAccessDenied
      UnsafeCheckpoint
    StoreUnavailable (TransientError)
      BytesRefused
      ConditionFailed
        MultipartUploadEnded
      RangeNotSatisfiable
      RefusedForNow
      RequestNotSupported
      StoreBusy
      StoreUnreachable
      UploadGivenUp
  TrackingError
    TrackingRefused (FinalError)
    TrackingSettingsError (FinalError)
    TrackingUnavailable (TransientError)
  TransientError
    BackendUnavailable
    DatasetChanging
    ImagesUnavailable
    LookupFailed
"""

from __future__ import annotations


class ProjectError(Exception):
    """The base class; the message is a sentence for the reader of a task's log or an API response."""


class FinalError(ProjectError):
    """A retry would fail in the same way: a person has to change or decide something first."""


class NotFound(FinalError):
    """The request names something that does not exist. The API responds with 404 and the message."""


class Conflict(FinalError):
    """The present state does not allow the request. The API responds with 409 and the message."""


class Invalid(FinalError):
    """The request is wrong, whatever the state. The API responds with 422 and the message."""


class OwnershipLost(FinalError):
    """Another run or attempt owns the job now; the current attempt must stop without changing anything."""


class TransientError(ProjectError):
    """A server is unavailable or busy. The same call can succeed later, even on this machine."""


class AttemptError(ProjectError):
    """The attempt cannot continue. A new attempt may succeed, now or later, here or on another machine."""
