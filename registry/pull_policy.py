"""The pull policy of a repository: images with known vulnerabilities are not pulled until these are fixed or accepted.

Checked only on GET of a platform manifest. HEAD and indexes are skipped. Users who may push are exempt, so that they
can copy, tag or replace a bad image.

An image whose operating system the vulnerability database does not cover is treated like one that has not been scanned;
what was found in its other packages counts as well. A system at its end of life is judged by what is known of it:
otherwise all pulls of an unchanged image would be refused from one day to the next.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from registry import access, errors, runnable
from registry.models import Manifest, Severity
from registry.oci import media_types

if TYPE_CHECKING:
    from accounts.actors import Actor

# Pulls that ``check`` has to look at. The query that finds the manifest asks for it, so other pulls need no second one.
NEEDS_CHECK = Q(image__repository__block_severity__gt=Severity.NONE, media_type__in=sorted(media_types.MANIFESTS)) & (
    Q(worst_severity__gte=F("image__repository__block_severity"))
    | Q(worst_severity=None) & (Q(image__repository__unscanned_grace_hours__isnull=False) | ~Q(risk_summary={}))
)


def check(actor: Actor, manifest_id: int) -> None:
    """Raises Denied, with the reason, when the policy of the manifest's repository refuses the pull to this actor."""
    manifest = Manifest.objects.select_related("image__repository__project").get(pk=manifest_id)
    repository = manifest.image.repository
    why = _why(manifest)
    if not why or access.may(replace(actor, scope=None), access.Action.PUSH, repository):
        return
    raise errors.Denied(
        f"{manifest.image.path}@{manifest.digest} is not pulled from here: {why}, and {repository} refuses"
        f" {Severity(repository.block_severity).name.lower()} and worse; {_found(manifest)}{_page(manifest)}"
    )


def _why(manifest: Manifest) -> str:
    """Why the policy refuses the manifest; "" if it does not."""
    repository, summary = manifest.image.repository, manifest.risk_summary
    worst = summary.get("worst_severity", 0) if manifest.worst_severity is None else manifest.worst_severity
    if Severity.NONE < repository.block_severity <= worst:
        return f"it has vulnerabilities of severity {Severity(worst).name.lower()}"
    if manifest.worst_severity is not None or not _is_overdue(manifest):
        return ""
    if "uncovered" in summary:
        system = summary["uncovered"] or "not recognised"
        return f"the vulnerability database does not cover its operating system ({system})"
    return f"it has not been scanned within {repository.unscanned_grace_hours} h of its push"


def _is_overdue(manifest: Manifest) -> bool:
    """Whether the grace period is over; a manifest that no client can run needs no scan."""
    hours = manifest.image.repository.unscanned_grace_hours
    if hours is None or timezone.now() - manifest.pushed_at < timedelta(hours=hours):
        return False
    return runnable.is_image(manifest)


def _found(manifest: Manifest) -> str:
    """The worst vulnerabilities by name, and what to do, for the message."""
    names, total = manifest.risk_summary.get("vulnerabilities", []), manifest.risk_summary.get("total", 0)
    if not names:
        return "see "
    more = f" and {total - len(names)} more" if total > len(names) else ""
    return f"{', '.join(names)}{more}: fix or accept them at "


def _page(manifest: Manifest) -> str:
    """The address of the console's page about the manifest's vulnerabilities."""
    image = manifest.image
    names = {"project": image.repository.project.name, "repository": image.repository.name, "image": image.name}
    return settings.PUBLIC_URL + reverse("console:vulnerabilities", kwargs=names | {"reference": manifest.digest})
