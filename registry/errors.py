"""The refusals of the registry. Most have a code of the OCI distribution specification 1.1 ("Error Codes").

Raise them anywhere with a sentence for the person who reads it. ``registry.v2.errors`` has the table of codes and HTTP
statuses. Sentences that the console shows go through gettext; the API speaks English.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.utils.translation import gettext_noop

from accounts.errors import Refusal

if TYPE_CHECKING:
    from accounts.actors import Actor


class RegistryError(Refusal):
    """A refusal of the registry."""


# ── The API answers these ────────────────────────────────────────────────────────────────────────────────────────────
class BlobUnknown(RegistryError):
    message = "this repository has no such blob"


class BlobUploadInvalid(RegistryError):
    message = "the upload cannot go on like this"


class RangeInvalid(BlobUploadInvalid):
    """A chunk does not continue the upload; ``detail["offset"]`` is the number of bytes that have arrived."""

    message = "the chunk does not start where the upload stands"


class BlobUploadUnknown(RegistryError):
    message = "there is no such upload: it ended, expired, or belongs to another user"


class DigestInvalid(RegistryError):
    message = gettext_noop("the digest does not match the content")


class ManifestBlobUnknown(RegistryError):
    """``detail["digests"]`` lists everything that is missing; each becomes an error of its own."""

    message = "the manifest names content that this repository does not have"


class ManifestInvalid(RegistryError):
    message = "the manifest is not valid"


class ManifestTooLarge(ManifestInvalid):
    message = "a manifest may have at most 4 MiB"


class TooManyTags(ManifestInvalid):
    message = "one push may set at most 16 tags"


class ManifestUnknown(RegistryError):
    message = gettext_noop("this image has no such tag or digest")


class NameInvalid(RegistryError):
    message = gettext_noop("the name is not valid")


class NameUnknown(RegistryError):
    message = gettext_noop("there is no such repository, or you may not see it")


class SizeInvalid(RegistryError):
    message = "the body is not as long as it was said to be"


class BlobTooLarge(SizeInvalid):
    message = "the blob is larger than this installation accepts"


class Unauthorized(RegistryError):
    """Not signed in. ``reason`` is the ``error`` of the challenge (RFC 6750), "" when no credentials were sent."""

    message = "log in first: docker login with an access key ID and its secret"
    reason: ClassVar[str] = ""


class TokenInvalid(Unauthorized):
    message = "the token is not valid here, or not any more"
    reason = "invalid_token"


class ScopeInsufficient(Unauthorized):
    message = "the token was not issued for this: ask for one with the scope of the challenge"
    reason = "insufficient_scope"


class Denied(RegistryError):
    message = gettext_noop("you may see this, but not do that")


class KeyLimited(Denied):
    """A limit of the actor's access key refuses the request: ``limit`` is actions, repositories or networks.

    The door writes it to the audit log.
    """

    def __init__(self, message: str, *, actor: Actor, limit: str) -> None:
        super().__init__(message, detail={"limit": limit})
        self.actor, self.limit = actor, limit


class Unsupported(RegistryError):
    message = "this is not supported"


class RequestInvalid(RegistryError):
    """A parameter of an API request cannot be read."""

    message = "a parameter is not valid"


class PathUnknown(RegistryError):
    message = "the registry API has no such path"


class TooManyRequests(RegistryError):
    """``detail["seconds"]`` says how long to wait."""

    message = gettext_noop("too many requests: wait a little")


class Unavailable(RegistryError):
    """A part of the installation does not answer; the same request may succeed later."""

    message = gettext_noop("the registry cannot do this at the moment: try again in a little while")


class StorageFull(Unavailable):
    message = gettext_noop("the registry's storage is full: tell its operator")


class Unexpected(RegistryError):
    """A defect of the registry. The log has the exception under the id of the request."""

    message = "the registry failed: its log says why, under the request_id of this answer"


# ── Only the console and commands can meet these: they have no OCI code ──────────────────────────────────────────────
class Changed(RegistryError):
    """The thing is no longer as the caller saw it."""

    message = gettext_noop("this was changed meanwhile: look again")


class NameTaken(RegistryError):
    """A deleted thing cannot be restored: its name is in use."""

    message = gettext_noop("the name is in use again")


class RecoveryGone(RegistryError):
    """The deleted thing was restored or purged already."""

    message = gettext_noop("this was recovered already, or deleted for good")
