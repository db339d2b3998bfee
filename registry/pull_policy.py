"""A repository's gate: images with known vulnerabilities are not pulled, until they are mended or accepted.

Only a GET of the manifest that is really pulled is judged: never HEAD, never an index (its platforms are judged one by
one), never somebody who may push, who has to be able to copy, tag and replace what is bad.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import F, Q
from django.utils import timezone

from registry import access, errors, runnable
from registry.models import Manifest, Severity
from registry.oci import media_types
from registry.signals import pull_refused

if TYPE_CHECKING:
    from accounts.actors import Actor

# What ``check`` has to look at: most pulls are told apart here, within the query that they cost anyway.
JUDGED = Q(image__repository__gate__gt=Severity.NONE, media_type__in=sorted(media_types.MANIFESTS)) & (
    Q(risk__gte=F("image__repository__gate")) | Q(risk=None, image__repository__gate_hours__isnull=False)
)


def check(actor: Actor, manifest_id: int) -> None:
    """Raises Denied, with the reason, when the gate of the manifest's repository is shut for the actor."""
    manifest = Manifest.objects.select_related("image__repository__project").get(pk=manifest_id)
    repository = manifest.image.repository
    if manifest.risk is None and not _is_overdue(manifest):
        return
    if access.may(replace(actor, scope=None), access.Action.PUSH, repository):
        return
    if manifest.risk is None:
        why = f"it has not been scanned within {repository.gate_hours} h of its push"
    else:
        why = f"it has vulnerabilities of severity {Severity(manifest.risk).label.lower()}"
    answers = pull_refused.send_robust(Manifest, manifest_id=manifest.pk)
    more = [words for _, words in answers if words and isinstance(words, str)]
    raise errors.Denied(
        f"{manifest.image.path}@{manifest.digest} is not pulled from here: {why}, and {repository} refuses"
        f" {Severity(repository.gate).label.lower()} and worse" + "".join(f"; {words}" for words in more)
    )


def _is_overdue(manifest: Manifest) -> bool:
    """Whether it should have been scanned already; what no client could run needs no scan."""
    hours = manifest.image.repository.gate_hours
    if hours is None or timezone.now() - manifest.pushed_at < timedelta(hours=hours):
        return False
    return runnable.is_image(manifest)
