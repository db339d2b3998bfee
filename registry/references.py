"""Read image references as people paste them: from docker, skopeo, Kubernetes, SBOMs, or the console."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from django.conf import settings

_SCHEME = re.compile(r"^(?:[a-z][a-z+.-]*://)+", re.IGNORECASE)
_DIGEST = re.compile(r"(?:sha256|sha512):[0-9a-f]{6,128}")


@dataclass(frozen=True, slots=True)
class Reference:
    """``path``: project/repository/image or the end of it, without the host; ``tag``, ``digest``: "" if not given."""

    path: str = ""
    tag: str = ""
    digest: str = ""


def read(text: str) -> Reference:
    """Read the reference in a text. Never raises; a text without one is a path.

    Understands the hosts of this registry with or without the port, ``docker pull …`` and other commands, ``docker://``
    and other schemes, ``name:tag@sha256:…``, and package URLs (``pkg:oci/…``, ``pkg:docker/…``).
    """
    word = _word(text.split())
    if word.lower().startswith(("pkg:oci/", "pkg:docker/")):
        word = _of_package_url(word)
    path, _at, digest = _without_host(_SCHEME.sub("", word)).partition("@")
    if _DIGEST.fullmatch(path):
        return Reference(digest=path)
    head, colon, tag = path.rpartition(":")
    if colon and "/" not in tag:
        path = head
    else:
        tag = ""
    return Reference(path.strip("/"), tag, digest.lower())


def is_one(text: str) -> bool:
    """Whether the text has marks of a reference that a bare name does not have."""
    word = _word(text.split())
    return len(text.split()) > 1 or "@sha256:" in word or _SCHEME.match(word) is not None or _without_host(word) != word


def _word(words: list[str]) -> str:
    """The word of a command that is the image: with a scheme, else of one of our hosts, else the last."""
    candidates = [word for word in words if not word.startswith(("-", "$"))]
    for word in candidates:
        if _SCHEME.match(word) or word.lower().startswith("pkg:") or _without_host(word) != word:
            return word
    return candidates[-1] if candidates else ""


def _without_host(word: str) -> str:
    """Without a host of this registry; the host of a project becomes the project."""
    host, slash, rest = word.partition("/")
    hostname = host.partition(":")[0].lower()
    if not slash or not hostname:
        return word
    if hostname in {settings.PUBLIC.hostname, *(name.lower() for name in settings.FURTHER_HOSTS)}:
        return rest
    suffix = f".{settings.REGION}.{settings.DOMAIN}"
    return f"{hostname.removesuffix(suffix)}/{rest}" if hostname.endswith(suffix) else word


def _of_package_url(word: str) -> str:
    """``pkg:oci/app@sha256%3A…?repository_url=HOST/demo/web/app&tag=1.0`` as HOST/demo/web/app:1.0@sha256:…"""
    body, _mark, query = word.partition("?")
    said = {key: values[0] for key, values in parse_qs(query.partition("#")[0]).items()}
    name, _at, version = unquote(body.partition("/")[2]).partition("@")
    home = said.get("repository_url", "").strip("/")
    if home and body.lower().startswith("pkg:docker/"):
        name = f"{home}/{name}"
    elif home:
        name = home if home.endswith(f"/{name}") else f"{home}/{name}"
    tag, digest = (said.get("tag", ""), version) if ":" in version else (version or said.get("tag", ""), "")
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
