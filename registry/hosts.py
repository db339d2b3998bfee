"""Image names on the wire and in the registry: the only module that knows both forms.

    project host   {project}.{region}.{domain}   /v2/{repository}/{image}/…
    shared host    the host of KCR_PUBLIC_URL     /v2/{project}/{repository}/{image}/…

Both name the same image. A token is for one of them: its audience is ``Host.service``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings

from registry.errors import NameInvalid, PathUnknown
from registry.oci import names

if TYPE_CHECKING:
    from urllib.parse import SplitResult


@dataclass(frozen=True, slots=True)
class Host:
    """One host name of the registry. ``project`` is "" for the shared host."""

    project: str = ""

    @property
    def service(self) -> str:
        """The host as clients write it, port included: the ``service`` of challenges and the audience of tokens."""
        hostname, port = _public(settings.PUBLIC)
        return f"{self.project}.{settings.REGION}.{settings.DOMAIN}{port}" if self.project else f"{hostname}{port}"

    def parse(self, wire_name: str) -> names.ImageName:
        """The image that a name means on this host. Raises NameInvalid; its message begins with the form of a name."""
        try:
            if self.project:
                return names.image_name(self.project, wire_name)
            project, _, path = wire_name.partition("/")
            return names.image_name(project, path)
        except names.InvalidName as error:
            raise NameInvalid(str(error) if self.project else f"project/{error}") from error

    def find(self, wire_name: str) -> names.ImageName | None:
        """The image that a name means on this host, or None when the name is not valid."""
        try:
            return self.parse(wire_name)
        except NameInvalid:
            return None

    def spell(self, name: names.ImageName | str) -> str:
        """The name (or full path) of an image as it is written on this host."""
        return str(name).removeprefix(f"{self.project}/") if self.project else str(name)

    def uri(self, name: names.ImageName | str) -> str:
        """The image reference for docker, without tag: host and name."""
        return f"{self.service}/{self.spell(name)}"


BARE = Host()


@lru_cache(maxsize=1)
def _public(url: SplitResult) -> tuple[str, str]:
    """The host name of KCR_PUBLIC_URL, and its port with a colon before it, or ""."""
    return url.hostname or "", f":{url.port}" if url.port else ""


def of_header(header: str) -> Host:
    """The host that a Host header (already allowed by ALLOWED_HOSTS) names. Raises PathUnknown."""
    suffix = f".{settings.REGION}.{settings.DOMAIN}"
    if not is_bare(header):
        project = _hostname(header).removesuffix(suffix)
        if names.is_project(project):
            return Host(project)
        raise PathUnknown("there is no registry at this host: project hosts are {project}" + suffix)
    if not settings.BARE_HOST_NAMES:
        raise PathUnknown(f"names are served at project hosts only: {{project}}{suffix}")
    return BARE


def is_bare(header: str) -> bool:
    """Whether a Host header (already allowed by ALLOWED_HOSTS) names the shared host.

    A name below the region is a project's, unless it is KCR_PUBLIC_URL's or is written out in KCR_ALLOWED_HOSTS.
    """
    hostname = _hostname(header)
    is_below = f".{hostname}".endswith(f".{settings.REGION}.{settings.DOMAIN}")
    return not is_below or hostname in {settings.PUBLIC.hostname, *(name.lower() for name in settings.FURTHER_HOSTS)}


def _hostname(header: str) -> str:
    hostname = header.rsplit(":", 1)[0] if not header.endswith("]") else header
    return hostname.lower().rstrip(".")


def of_service(service: str) -> Host | None:
    """The host with this ``service``; None for any other text."""
    if service == BARE.service:
        return BARE if settings.BARE_HOST_NAMES else None
    project = service.partition(".")[0]
    host = Host(project)
    return host if names.is_project(project) and service == host.service else None
