"""Finds a training run's initial weights before a GPU is claimed, and identifies them by their hash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include.checkpoints.store import CheckpointStore
from include.checkpoints.stored import find_checkpoint
from include.jobs.model_reference import ModelKind, ModelReference, require_same_task
from include.jobs.repository import JobRepository
from include.jobs.spec import SpecError
from include.models.errors import ModelError, SignatureRefused
from include.models.objects import find_promoted_model
from include.models.repository import ModelRepository
from include.s3.errors import ObjectNotFound
from include.s3.location import S3Location
from include.s3.reading import read_settled_object
from include.weights.initial_weights import InitialWeights
from include.weights.pretrained import PretrainedStore, WeightsUnavailable

if TYPE_CHECKING:
    from psycopg import Connection

    from include.models.signing import ModelSigning
    from include.models.version import ModelVersion
    from include.s3.bucket import Bucket
    from include.ultralytics_tasks import Task
    from include.weights.download import DownloadLimits


def _blame_model(sentence: str) -> SpecError:
    """Return the sentence as an error about the parameter `model`."""
    return SpecError(sentence).about("model")


@contextmanager
def _translate_refusals() -> Iterator[None]:
    """Turn errors about the model into errors about the parameter `model`."""
    try:
        yield
    except (WeightsUnavailable, ValueError) as error:
        raise _blame_model(str(error)) from error


class InitialWeightsFinder:
    """Finds the weights that `model` names: in S3, among the jobs, and among the registered versions.

    If `signing` has keys for verifying signatures, promoted versions must be signed. `pretrained_url` and
    `limits` are passed on to PretrainedStore.
    """

    def __init__(
        self,
        bucket: Bucket,
        pretrained_url: str | None,
        database: Connection[Any],
        signing: ModelSigning,
        limits: DownloadLimits | None = None,
    ) -> None:
        self._bucket, self._signing = bucket, signing
        self._checkpoints = CheckpointStore(bucket)
        self._pretrained = PretrainedStore(bucket, pretrained_url, limits)
        self._jobs, self._models = JobRepository(database), ModelRepository(database)

    def find(self, model: str, task: Task, job_id: str) -> InitialWeights | None:
        """Return the initial weights of job `job_id`; None if `model` is trained from scratch.

        A pretrained file is downloaded if S3 does not have it. Raises SpecError for weights that are missing
        or are for another task, and StoreErrors.
        """
        reference = ModelReference.parse(model)
        match reference.kind:
            case ModelKind.ARCHITECTURE:
                return None
            case ModelKind.PRETRAINED:
                with _translate_refusals():
                    found = self._pretrained.require(reference.name)
            case ModelKind.OBJECT:
                found = self._find_object(reference)
            case ModelKind.JOB | ModelKind.VERSION:
                found = self._find_trained(reference, job_id)
        self._require_task(reference, found.path, task)
        return found.model_copy(update={"job_id": None}) if found.job_id == job_id else found

    def check(self, model: str, task: Task, job_id: str) -> None:
        """Check a model as `find` does, but without downloading or completely reading any file.

        A file that would have to be downloaded is not checked. Raises SpecError, and StoreErrors.
        """
        reference = ModelReference.parse(model)
        match reference.kind:
            case ModelKind.ARCHITECTURE:
                return
            case ModelKind.PRETRAINED:
                with _translate_refusals():
                    if not self._pretrained.is_stored(reference.name):
                        return
                path = self._pretrained.locate(reference.name).uri
            case ModelKind.OBJECT:
                version = self._find_version_at(S3Location.parse(reference.name))
                path = self._verify_registered(reference, version).path if version else reference.name
            case ModelKind.JOB | ModelKind.VERSION:
                path = self._find_trained(reference, job_id).path
        self._require_task(reference, path, task)

    def _require_task(self, reference: ModelReference, path: str, task: Task) -> None:
        contents = self._checkpoints.require_checkpoint(path)
        with _translate_refusals():
            require_same_task(reference.text, contents.task, task)

    def _find_trained(self, reference: ModelReference, job_id: str) -> InitialWeights:
        if reference.kind is ModelKind.JOB:
            return self._find_best(reference, job_id)
        return self._verify_registered(reference, self._choose_version(reference))

    def _verify_registered(self, reference: ModelReference, version: ModelVersion) -> InitialWeights:
        found = self._verify_recorded(reference, version.path, version.sha256, version.job_id)
        try:
            self._signing.require_genuine(self._bucket.client, version)
        except SignatureRefused as refusal:
            raise _blame_model(f"model={reference.text!r}: {refusal}") from None
        return found

    def _find_object(self, reference: ModelReference) -> InitialWeights:
        """Find an object in any bucket. An object without our checksum is read to compute its hash."""
        uri = reference.name
        location = S3Location.parse(uri)
        version = self._find_version_at(location)
        if version is not None:
            return self._verify_registered(reference, version)
        stored = find_checkpoint(self._bucket.client, location)
        if stored is None:
            raise ObjectNotFound(f"{uri} does not exist at {self._bucket.endpoint}")
        if stored.sha256 is None:
            self._checkpoints.require_checkpoint(uri)  # cheaper than reading the whole object, so done first
            return InitialWeights(path=uri, sha256=read_settled_object(self._bucket.client, location).sha256)
        trained_by = stored.job_id if stored.job_id and self._jobs.get(stored.job_id) else None
        return InitialWeights(path=uri, sha256=stored.sha256, job_id=trained_by)

    def _find_version_at(self, location: S3Location) -> ModelVersion | None:
        """Return the version whose file or production copy is at this location; None if there is none."""
        name = find_promoted_model(self._bucket, location)
        return self._models.find_production(name) if name else self._models.find_at(location.uri)

    def _find_best(self, reference: ModelReference, job_id: str) -> InitialWeights:
        if reference.name == job_id:
            raise _blame_model(f"model={reference.text!r} is this job itself; give another job_id")
        job = self._jobs.get(reference.name)
        if job is None:
            raise _blame_model(
                f"model={reference.text!r}: there is no such job; give the id of an existing job"
            )
        best = job.get_checkpoint("best")
        if best is None or best.sha256 is None:
            raise _blame_model(
                f"model={reference.text!r}: the job is {job.status} and has recorded no best.pt with a "
                "hash; wait until the job is completed, or give another job"
            )
        return self._verify_recorded(reference, best.path, best.sha256, job.job_id)

    def _choose_version(self, reference: ModelReference) -> ModelVersion:
        try:
            if reference.version is not None:
                return self._models.require(reference.name, reference.version)
            production = self._models.find_production(reference.name)
            if production is not None:
                return production
            newest = self._models.list(reference.name, limit=1)
            if not newest:
                raise self._models.explain_unknown(reference.name)
        except ModelError as error:
            raise _blame_model(f"model={reference.text!r}: {error}") from None
        raise _blame_model(
            f"model={reference.text!r}: no version of this model is in production; name one, such as "
            f"model:{reference.name}@{newest[0].version}, which is the newest"
        )

    def _verify_recorded(
        self, reference: ModelReference, path: str, sha256: str, job_id: str
    ) -> InitialWeights:
        location = S3Location.parse(path)
        stored = find_checkpoint(self._bucket.client, location)
        if stored is None:
            raise _blame_model(
                f"model={reference.text!r}: {path} was recorded, but does not exist; restore it"
            )
        if stored.sha256 != sha256:
            raise _blame_model(
                f"model={reference.text!r}: {path} has SHA-256 {stored.sha256 or 'unknown'}, but {sha256} "
                "was recorded: the file has been replaced since then; restore it, or use another model"
            )
        return InitialWeights(path=path, sha256=sha256, job_id=job_id)
