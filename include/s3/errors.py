"""Errors of S3, with messages written for readers of a task's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.errors import AttemptError, FinalError, OwnershipLost, ProjectError, TransientError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

    from include.s3.location import S3Location

_NOT_ALLOWED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "401"}
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch"}
_PLAIN_404 = "404"
"""botocore's code for a 404 without an S3 error code, from a HEAD or from a proxy whose server is down."""
_DELETIONS = {"DeleteObject", "DeleteObjects"}


class StoreError(ProjectError):
    """A request to S3 failed."""


class StoreUnavailable(StoreError, TransientError):
    """S3 cannot serve the request now; a retry may succeed."""


class StoreUnreachable(StoreUnavailable):
    """The endpoint does not respond, or closed the connection."""


class BytesRefused(StoreUnavailable):
    """The server received bytes that do not match the checksum sent with them."""


class ConditionFailed(StoreUnavailable):
    """The condition of the request did not hold, or a concurrent write made it impossible to check."""


class MultipartUploadEnded(ConditionFailed):
    """The multipart upload has been completed or aborted."""


class RangeNotSatisfiable(StoreUnavailable):
    """The requested bytes lie beyond the end of the object."""


class RequestNotSupported(StoreUnavailable):
    """The server does not support the request or one of its arguments."""


class StoreBusy(StoreUnavailable):
    """Another request was writing or replacing the same object at the same time."""


class UploadGivenUp(StoreUnavailable):
    """The upload did not finish by its deadline. A HEAD request shows whether S3 stored the object anyway."""


class RefusedForNow(StoreUnavailable):
    """A setting for S3 is wrong. Requests are retried until it is corrected, so that no state is lost."""


class StoreRefusal(StoreError, FinalError):
    """A retry does not help until the settings or the contents of S3 have been changed."""


class StoreMisconfigured(StoreRefusal):
    """The keys, a clock or the bucket is wrong. Once the mistake is corrected, the same request succeeds."""


class BucketMissing(StoreMisconfigured):
    """The bucket does not exist at the endpoint."""


class StoreAccessDenied(StoreMisconfigured):
    """The credentials of `training_s3` are missing, wrong, or insufficient for the request."""


class ClockSkew(StoreMisconfigured):
    """The machine's clock differs too much from the server's for a signature to be valid."""


class ObjectNotFound(StoreRefusal):
    """There is no object at this URI."""


class ForeignObject(StoreRefusal):
    """The object does not have our metadata: this project did not write it."""


class CorruptObject(StoreRefusal):
    """The bytes differ from what was stored or expected."""


class ObjectTooLarge(StoreRefusal):
    """The object is larger than the caller accepts."""

    def __init__(self, uri: str, size: int, largest: int) -> None:
        super().__init__(f"{uri} has {size:,} bytes, more than the limit of {largest:,}")
        self.size = size


class ConditionsNotHonoured(StoreRefusal):
    """The server accepts writes whose conditions do not hold, or whose bytes do not match their checksum."""


class FencedOut(StoreRefusal, OwnershipLost):
    """The checkpoint has changed since this attempt read it, usually because the job has a new owner."""


class SourceChanged(FencedOut):
    """The source of a copy was replaced or deleted in the meantime."""


class LocalFileMissing(StoreRefusal):
    """The checkpoint is neither on this machine nor in S3."""


class LocalFileChanged(StoreRefusal):
    """The local file has changed since training handed it over for upload."""


class LocalDiskError(StoreError, AttemptError):
    """A download could not be written to this machine's disk."""


_UNAVAILABLE: dict[type[StoreUnavailable], set[str]] = {
    MultipartUploadEnded: {"NoSuchUpload"},
    ConditionFailed: {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"},
    BytesRefused: {
        "BadDigest",
        "InvalidDigest",
        "XAmzContentChecksumMismatch",  # MinIO
        "XAmzContentSHA256Mismatch",
    },
    RangeNotSatisfiable: {"InvalidRange", "416"},
    RequestNotSupported: {"NotImplemented", "InvalidArgument", "InvalidRequest", "501"},
}
"""S3's codes for the subclasses of StoreUnavailable; any other code becomes StoreUnavailable itself."""


def list_interruptions() -> tuple[type[Exception], ...]:
    """Return the exceptions for a connection that failed or broke, also while a response was read.

    botocore passes on an SSLError of urllib3 while a response is read, as after a damaged packet.
    """
    from botocore import exceptions as boto
    from urllib3.exceptions import HTTPError

    return boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, HTTPError


def is_about_region(error: ValueError) -> bool:
    """Return whether botocore refused the region of a new client, rather than its endpoint."""
    from botocore.exceptions import InvalidRegionError

    return isinstance(error, InvalidRegionError)


@contextmanager
def translate_s3_errors(client: S3Client, location: S3Location) -> Iterator[None]:
    """Turn the exceptions of boto3 in the block into StoreErrors about `location` that say what to do."""
    from botocore import exceptions as boto

    endpoint = client.meta.endpoint_url
    try:
        yield
    except boto.ClientError as error:
        raise _explain(error, endpoint, location) from error
    except boto.FlexibleChecksumError as error:
        raise CorruptObject(f"{location.uri} is damaged in S3: {error}") from error
    except list_interruptions() as error:
        raise StoreUnreachable(
            f"S3 at {endpoint} does not respond, or the connection was interrupted ({error}); check that S3 "
            "is running, and that the endpoint_url of connection training_s3 is right"
        ) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise StoreAccessDenied(
            f"There are no credentials for S3 at {endpoint}; set the login (access key) and password (secret "
            "key) of connection training_s3, or give this machine a role, and check its metadata service"
        ) from error
    except boto.ParamValidationError as error:
        raise StoreRefusal(f"{location.uri} is not a valid S3 address: {error}") from error
    except boto.BotoCoreError as error:
        raise StoreUnavailable(
            f"The request to S3 at {endpoint} for {location.uri} failed: {error}"
        ) from error


def _explain(error: ClientError, endpoint: str, location: S3Location) -> StoreError:
    reported = error.response.get("Error", {})
    code, message = reported.get("Code", ""), reported.get("Message", "").rstrip(".")
    if code == "NoSuchBucket":
        return BucketMissing(
            f"Bucket {location.bucket!r} does not exist at {endpoint}; create it, or set CHECKPOINT_BUCKET "
            "to one that exists"
        )
    if code == "RequestTimeTooSkewed":
        return ClockSkew(
            f"S3 at {endpoint} refuses requests from this machine because its clock differs too much from "
            "the server's; synchronise it (NTP)"
        )
    if code in _WRONG_KEYS:
        return StoreAccessDenied(
            f"S3 at {endpoint} does not accept the keys of connection training_s3 ({code}); fix the login "
            "(access key) and password (secret key) there"
        )
    if code in _NOT_ALLOWED and error.operation_name in _DELETIONS:
        return StoreAccessDenied(
            f"S3 at {endpoint} does not allow {error.operation_name} on {location.uri}; "
            "according to config/s3-policies, the keys of connection training_s3 may delete only pictures "
            "(workers) or uploads (API server); only those of training_s3_maintenance may delete the rest"
        )
    if code in _NOT_ALLOWED:
        return StoreAccessDenied(
            f"S3 at {endpoint} does not allow {error.operation_name} on {location.uri}; grant s3:GetObject "
            "and s3:PutObject on it, and s3:ListBucket on the bucket, to the keys of connection training_s3"
        )
    if code == "NoSuchKey":
        return ObjectNotFound(f"{location.uri} does not exist at {endpoint}")
    if code == _PLAIN_404:
        return StoreUnavailable(
            f"{endpoint} responded to {error.operation_name} on {location.uri} with 404, but without S3's "
            "error code, as a proxy does while its server is down; check both the proxy and the server"
        )
    refusal = next((kind for kind, codes in _UNAVAILABLE.items() if code in codes), StoreUnavailable)
    return refusal(
        f"S3 at {endpoint} refused {error.operation_name} on {location.uri}: {code} {message}".rstrip()
    )
