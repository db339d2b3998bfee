"""Risk acceptances: create, withdraw, export as OpenVEX 0.2.0."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Project
from registry import audit
from registry.errors import RequestInvalid
from registry.models import Event, Repository
from registry.models.manifests import undeleted

from . import findings, sboms
from .models import Acceptance, Finding, Report

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from django.db.models import QuerySet

    from accounts.actors import Actor

MAX_REASON = 500


def accept(
    actor: Actor,
    where: Project | Repository,
    vulnerability: str,
    *,
    reason: str,
    package: str = "",
    justification: str = "",
    covers_fixed: bool = False,
    expires_at: datetime | None = None,
) -> Acceptance:
    """Accept a vulnerability in a repository or a whole project, in one package or ("") in all packages.

    It covers findings without a fixed version; with ``covers_fixed`` also those that have one. Raises RequestInvalid
    without a reason, for a time that has passed, and if it would cover no finding. If the same person has already
    accepted the same with the same reason, that acceptance is returned.
    """
    repository = where if isinstance(where, Repository) else None
    project = where.project if isinstance(where, Repository) else where
    now = timezone.now()
    if not reason.strip() or len(reason) > MAX_REASON:
        raise RequestInvalid(_("say why, in at most %(count)s characters") % {"count": MAX_REASON})
    if expires_at is not None and expires_at <= now:
        raise RequestInvalid(_("the end of the acceptance has already passed"))
    covered = _findings(project, repository, vulnerability, package).filter(undeleted("manifest__"))
    if not (covered if covers_fixed else covered.filter(fixed_version="")).exists():
        raise RequestInvalid(
            _("%(vulnerability)s was found nowhere in %(where)s") % {"vulnerability": vulnerability, "where": where}
        )
    said: dict[str, Any] = {
        "project": project,
        "repository": repository,
        "vulnerability": vulnerability,
        "package": package,
        "justification": justification,
        "reason": reason.strip(),
        "covers_fixed": covers_fixed,
        "accepted_by": actor.label[:254],
        "user_id": actor.user_id,
        "expires_at": expires_at,
    }
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)  # the same form may arrive twice at once
        again = Acceptance.objects.active(now).filter(**said).first()
        if again is not None:
            return again
        made = Acceptance.objects.create(accepted_at=now, **said)
        _record(actor, made, Event.Action.VULNERABILITY_ACCEPT)
        _have_counted(made)
    findings.recount_due(project)
    return made


def withdraw(actor: Actor, acceptance: Acceptance, *, undoes: Collection[int] = ()) -> Event | None:
    """End an acceptance now. Returns the event; None if it was withdrawn already."""
    now = timezone.now()
    with transaction.atomic():
        active = Acceptance.objects.filter(pk=acceptance.pk, withdrawn_at=None)
        if not active.update(withdrawn_at=now, withdrawn_by=actor.label[:254]):
            return None
        event = _record(actor, acceptance, Event.Action.VULNERABILITY_WITHDRAW, undoes)
        _have_counted(acceptance)
    findings.recount_due(acceptance.project)
    return event


def restore(actor: Actor, acceptance: Acceptance, *, undoes: Collection[int] = ()) -> None:
    """Undo a withdrawal: the acceptance holds until its end, as before. Raises RequestInvalid after its end."""
    with transaction.atomic():
        withdrawn = Acceptance.objects.exclude(withdrawn_at=None).exclude(expires_at__lte=timezone.now())
        if not withdrawn.filter(pk=acceptance.pk).update(withdrawn_at=None, withdrawn_by=""):
            raise RequestInvalid(_("the acceptance holds already, or has reached its end"))
        _record(actor, acceptance, Event.Action.VULNERABILITY_ACCEPT, undoes)
        _have_counted(acceptance)
    findings.recount_due(acceptance.project)


def openvex(project: Project, repository: Repository | None = None) -> dict[str, Any]:
    """The acceptances as an OpenVEX document.

    One statement for each acceptance that stands, about the images in which the vulnerability was found. A risk that is
    taken is "affected" with what is done about it; the rest is "not_affected" with its justification.
    """
    now = timezone.now()
    active = Acceptance.objects.active(now).filter(project=project).select_related("repository__project")
    if repository is not None:
        active = active.filter(Q(repository=None) | Q(repository=repository))
    where = repository or project
    found = _products(project, active)
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": f"{settings.PUBLIC_URL}/projects/{where}/vex/{int(now.timestamp())}",
        "author": settings.PUBLIC_URL,
        "timestamp": now.isoformat(),
        "version": 1,
        "statements": [_statement(each, repository, found) for each in active.order_by("pk")],
    }


def _products(project: Project, active: QuerySet[Acceptance]) -> dict[str, list[tuple[Any, ...]]]:
    """Findings of accepted vulnerabilities, by name: package, fixed version, repository id, image path, digest."""
    named = active.order_by().values("vulnerability")
    found = Finding.objects.current().in_project(project).filter(vulnerability__name__in=named)
    what = ("vulnerability__name", "package__name", "fixed_version")
    where = ("manifest__image__repository", "manifest__image__path", "manifest__digest")
    products: dict[str, list[tuple[Any, ...]]] = {}
    for name, *place in found.values_list(*what, *where).distinct():
        products.setdefault(name, []).append(tuple(place))
    return products


def _statement(
    acceptance: Acceptance, repository: Repository | None, found: dict[str, list[tuple[Any, ...]]]
) -> dict[str, Any]:
    where = acceptance.repository_id or (repository.pk if repository else None)
    products = {
        sboms.package_url(path, digest)
        for package, fix, home, path, digest in found.get(acceptance.vulnerability, ())
        if acceptance.package in {"", package} and where in {None, home} and (acceptance.covers_fixed or not fix)
    }
    said: dict[str, Any] = {
        "vulnerability": {"name": acceptance.vulnerability},
        "timestamp": acceptance.accepted_at.isoformat(),
        "products": [{"@id": purl} for purl in sorted(products)],
    }
    if acceptance.justification:
        said |= {"status": "not_affected", "justification": acceptance.justification}
        said["impact_statement"] = acceptance.reason
    else:
        said |= {"status": "affected", "action_statement": acceptance.reason}
    return said


def _findings(project: Project, repository: Repository | None, vulnerability: str, package: str) -> QuerySet[Finding]:
    """The current findings, in deleted manifests as well."""
    found = Finding.objects.current().filter(
        vulnerability__name=vulnerability, manifest__image__repository__project=project
    )
    if repository is not None:
        found = found.filter(manifest__image__repository=repository)
    return found.filter(package__name=package) if package else found


def _have_counted(acceptance: Acceptance) -> None:
    """Make the reports due whose counts depend on the acceptance. Call it in the transaction that changes it."""
    found = _findings(acceptance.project, acceptance.repository, acceptance.vulnerability, acceptance.package)
    reports = Report.objects.filter(manifest__in=found.values("manifest"))
    locked = reports.select_for_update(no_key=True).order_by("pk")  # in one order, so that two changes do not deadlock
    Report.objects.filter(pk__in=locked.values("pk")).update(recount_at=timezone.now())


def _record(actor: Actor, acceptance: Acceptance, action: Event.Action, undoes: Collection[int] = ()) -> Event:
    return audit.record(
        actor,
        action,
        acceptance.repository or acceptance.project,
        undoes=undoes,
        acceptance=acceptance.pk,
        vulnerability=acceptance.vulnerability,
        package=acceptance.package,
        reason=acceptance.reason,
        until=acceptance.expires_at.isoformat() if acceptance.expires_at else "",
    )


def as_file(document: dict[str, Any]) -> bytes:
    """The document in the bytes of a download."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode()
