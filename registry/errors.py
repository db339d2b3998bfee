"""Errors of the registry, one class for each code of the OCI distribution specification 1.1 ("Error Codes").

Raise them anywhere with a sentence for the person who reads it; ``registry.v2.errors`` alone turns them into HTTP.
Sentences that the console shows go through gettext: its pages are in the person's language, the API speaks English.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.utils.translation import gettext, gettext_noop


class RegistryError(Exception):
    """What the registry answers instead of doing it.

    ``message``: what happened and what to do, in words. ``detail``: facts for programs, as JSON.
    """

    code: ClassVar[str] = "UNSUPPORTED"
    status: ClassVar[int] = 400
    message: str = "the request cannot be carried out"

    def __init__(self, message: str = "", *, detail: dict[str, Any] | None = None) -> None:
        self.message = message or gettext(self.message)
        super().__init__(self.message)
        self.detail = detail or {}


class BlobUnknown(RegistryError):
    code = "BLOB_UNKNOWN"
    status = 404
    message = "this repository has no such blob"


class BlobUploadInvalid(RegistryError):
    code = "BLOB_UPLOAD_INVALID"
    message = "the upload cannot go on like this"


class RangeInvalid(BlobUploadInvalid):
    """A chunk that does not continue the upload; ``detail["offset"]`` says where it stands, in bytes."""

    status = 416
    message = "the chunk does not start where the upload stands"


class BlobUploadUnknown(RegistryError):
    code = "BLOB_UPLOAD_UNKNOWN"
    status = 404
    message = "there is no such upload: it ended, expired, or belongs to somebody else"


class DigestInvalid(RegistryError):
    code = "DIGEST_INVALID"
    message = gettext_noop("the digest does not match the content")


class ManifestBlobUnknown(RegistryError):
    """``detail["digests"]`` lists everything that is missing; each becomes an error of its own."""

    code = "MANIFEST_BLOB_UNKNOWN"
    message = "the manifest names content that this repository does not have"


class ManifestInvalid(RegistryError):
    code = "MANIFEST_INVALID"
    message = "the manifest is not valid"


class ManifestTooLarge(ManifestInvalid):
    status = 413
    message = "a manifest may have at most 4 MiB"


class TooManyTags(ManifestInvalid):
    status = 414
    message = "one push may set at most 16 tags"


class ManifestUnknown(RegistryError):
    code = "MANIFEST_UNKNOWN"
    status = 404
    message = gettext_noop("this image has no such tag or digest")


class NameInvalid(RegistryError):
    code = "NAME_INVALID"
    message = gettext_noop("the name is not valid")


class NameUnknown(RegistryError):
    code = "NAME_UNKNOWN"
    status = 404
    message = gettext_noop("there is no such repository, or you may not see it")


class SizeInvalid(RegistryError):
    code = "SIZE_INVALID"
    message = "the body is not as long as it was said to be"


class BlobTooLarge(SizeInvalid):
    status = 413
    message = "the blob is larger than this installation accepts"


class Unauthorized(RegistryError):
    """Not signed in. ``reason`` is the ``error`` of the challenge (RFC 6750), "" when nothing was offered."""

    code = "UNAUTHORIZED"
    status = 401
    message = "log in first: docker login with an access key ID and its secret"
    reason: ClassVar[str] = ""


class TokenInvalid(Unauthorized):
    message = "the token is not valid here, or not any more"
    reason = "invalid_token"


class ScopeInsufficient(Unauthorized):
    message = "the token was not issued for this: ask for one with the scope of the challenge"
    reason = "insufficient_scope"


class Denied(RegistryError):
    code = "DENIED"
    status = 403
    message = gettext_noop("you may see this, but not do that")


class Changed(Denied):
    """Somebody else was faster: what the caller was looking at is not what is there now."""

    status = 409
    message = gettext_noop("somebody else changed this meanwhile: look again")


class NameTaken(Denied):
    status = 409
    message = gettext_noop("the name is in use again")


class RecoveryGone(RegistryError):
    """What was to be recovered was recovered, or deleted for good, meanwhile."""

    code = "MANIFEST_UNKNOWN"
    status = 410
    message = gettext_noop("this was recovered already, or deleted for good")


class Unsupported(RegistryError):
    code = "UNSUPPORTED"
    status = 405
    message = "this is not supported"


class RequestInvalid(RegistryError):
    """A parameter that cannot be read."""

    code = "UNSUPPORTED"
    status = 400
    message = "a parameter is not valid"


class PathUnknown(RegistryError):
    code = "UNSUPPORTED"
    status = 404
    message = "the registry API has no such path"


class TooManyRequests(RegistryError):
    """``detail["seconds"]`` says how long to wait."""

    code = "TOOMANYREQUESTS"
    status = 429
    message = gettext_noop("too many requests: wait a little")


class Unavailable(RegistryError):
    """A part of the installation does not answer; the same request may succeed later."""

    code = "TOOMANYREQUESTS"
    status = 503
    message = gettext_noop("the registry cannot do this at the moment: try again in a little while")


class StorageFull(Unavailable):
    status = 507
    message = gettext_noop("the registry's storage is full: tell its operator")


class Unexpected(RegistryError):
    """A defect of ours; the log has it under the id of the request."""

    code = "UNKNOWN"
    status = 500
    message = "the registry failed: its log says why, under the request_id of this answer"
