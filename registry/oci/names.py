"""Names and tags (distribution-spec 1.1, "Pulling manifests"), and the unique ID of a project.

The pattern for names is that of the specification. It matches in linear time; common shorter forms do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_REPOSITORY = re.compile(_COMPONENT, re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_MOMENT = re.compile(rf"({_TAG.pattern})--at-([0-9]{{8}})t([0-9]{{4}}|[0-9]{{6}})z", re.ASCII | re.IGNORECASE)
_ATTACHED = re.compile(r"(sha256|sha512)-([a-f0-9]{64})(?:\..*)?", re.ASCII)
_PROJECT = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?", re.ASCII)

MAX_NAME = 200
MAX_REPOSITORY = 64
MAX_PROJECT = 40
MAX_TAG = 128
SUBJECT_LENGTH = 71  # an algorithm, ":", and the 64 characters that the referrers tag schema keeps


class InvalidName(ValueError):
    """The text is not a name in the specification's grammar."""


@dataclass(frozen=True, slots=True)
class ImageName:
    """The full name of an image, independent of the host. ``str()`` gives project/repository/image."""

    project: str
    repository: str
    image: str

    def __str__(self) -> str:
        return f"{self.project}/{self.repository}/{self.image}"


def is_name(text: str) -> bool:
    """Whether the text is a name of the specification, of at most 200 characters."""
    return len(text) <= MAX_NAME and follows_specification(text)


def follows_specification(text: str) -> bool:
    """Whether the text is a name of the specification, of any length."""
    return _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether the text is a tag: a word character, then up to 127 of ``a-z A-Z 0-9 . _ -``."""
    return _TAG.fullmatch(text) is not None


def is_past_tag(text: str) -> bool:
    """Whether the text is a tag at a time: ``stable--at-20260901t1200z``."""
    return is_tag(text) and _MOMENT.fullmatch(text) is not None


def past_tag(text: str) -> tuple[str, datetime] | None:
    """``stable--at-20260901t1200z`` (or ``t120000z``): return the tag and the time in UTC; None for other texts.

    Raises InvalidName if date or time is invalid.
    """
    match = _MOMENT.fullmatch(text) if is_tag(text) else None
    if match is None:
        return None
    try:
        return match[1], datetime.strptime(f"{match[2]}{match[3]:0<6}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidName(f"{text} names no moment: it is written tag--at-YYYYMMDDtHHMMz, in UTC") from error


def tag_subject(text: str) -> str:
    """Return the first SUBJECT_LENGTH characters of the digest that a tag such as ``sha256-….sig`` is about.

    "" for tags of other forms. The form is that of the referrers tag schema (distribution-spec 1.1, "Referrers Tag
    Schema"), and with a suffix that of cosign.
    """
    match = _ATTACHED.fullmatch(text)
    return f"{match[1]}:{match[2]}" if match else ""


def is_repository(text: str) -> bool:
    """Whether the text can name a repository: one component of 2 to 64 characters."""
    return 2 <= len(text) <= MAX_REPOSITORY and _REPOSITORY.fullmatch(text) is not None


def is_project(text: str) -> bool:
    """Whether the text can be a project's unique ID: 3 to 40 of ``a-z 0-9 -``; it is a DNS label as well.

    A name that looks like an encoded international domain (``xn--``) is refused.
    """
    return 3 <= len(text) <= MAX_PROJECT and not text.startswith("xn--") and _PROJECT.fullmatch(text) is not None


def image_name(project: str, path: str) -> ImageName:
    """Split ``repository/image`` (the image may hold further slashes). Raises InvalidName."""
    repository, _, image = path.partition("/")
    name = ImageName(project, repository, image)
    if not (is_project(project) and is_repository(repository) and is_name(str(name))):
        raise InvalidName(
            "repository/image is the form of every name here: lower-case letters and digits, separated by single"
            " . _ - or /; the repository has 2 to 64 characters, the whole name at most 200"
        )
    return name
