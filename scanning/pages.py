"""Addresses of console pages that messages and refusals link to.

Only this module names URLs of the console; the rest of scanning calls these functions. Each returns an absolute URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.urls import reverse

if TYPE_CHECKING:
    from accounts.models import Project
    from registry.models import Image, Repository


def project(project: Project) -> str:
    """The overview of a project."""
    return _absolute("overview", project=project.name)


def repository(repository: Repository) -> str:
    """A repository's images."""
    return _absolute("repository", project=repository.project.name, repository=repository.name)


def vulnerabilities(image: Image, digest: str) -> str:
    """The findings of one digest."""
    home = image.repository
    return _absolute(
        "vulnerabilities", project=home.project.name, repository=home.name, image=image.name, reference=digest
    )


def unsubscribe(token: str) -> str:
    """Where a recipient leaves a subscription."""
    return _absolute("unsubscribe", token=token)


def confirm(token: str) -> str:
    """Where an address outside the organization agrees to get mails, or declines."""
    return _absolute("confirm_notifications", token=token)


def _absolute(name: str, **parts: str) -> str:
    return settings.PUBLIC_URL + reverse(f"console:{name}", kwargs=parts)
