"""Repositories: creation, settings and roles. Deletion is in ``registry.trash``."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from guardian.shortcuts import assign_perm, remove_perm

from accounts import audit as accounts_audit
from accounts import organizations
from accounts.models import Project, ProjectMembership, RepositoryRole, User
from registry import access, audit, edits, quotas, tag_rules
from registry.errors import Denied, NameInvalid, NameUnknown
from registry.models import Event, Readme, Repository, RepositoryUserPermission
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Collection

    from accounts.actors import Actor
    from registry.models.audit import EventQuerySet

MAX_DESCRIPTION = 100
MAX_README = 10_000  # characters
PERMISSIONS = {
    RepositoryRole.MEMBER: ("pull_repository", "push_repository"),
    RepositoryRole.VIEWER: ("pull_repository",),
}
SETTINGS = (
    *("description", "is_public", "tag_rules", "tag_overwrite", "auto_scan", "block_severity"),
    "unscanned_grace_hours",
)


def create(
    actor: Actor,
    project: Project,
    name: str,
    *,
    description: str = "",
    is_public: bool = False,
    tag_overwrite: bool = True,
    auto_scan: bool = True,
    by_push: bool = False,
) -> tuple[Repository, bool]:
    """Return the live repository of this name, and True if it was created. An existing one is not changed.

    ``by_push``: the event says that a push created it.
    Raises NameInvalid, Denied (the project has its quota of repositories).
    """
    if not names.is_repository(name):
        raise NameInvalid(
            _("a repository's name has 2 to 64 lower-case letters and digits, separated by single . _ or -")
        )
    _check_description(description)
    with transaction.atomic():
        project = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        existing = Repository.objects.live().select_related("project").filter(project=project, name=name).first()
        if existing:
            return existing, False
        quotas.check_repositories(project)
        repository = Repository.objects.create(
            project=project,
            name=name,
            description=description,
            is_public=is_public,
            tag_overwrite=tag_overwrite,
            auto_scan=auto_scan,
            created_by_id=actor.user_id,
        )
        detail: dict[str, Any] = {"public": is_public, "tag_overwrite": tag_overwrite, "auto_scan": auto_scan}
        if by_push:
            detail["by_push"] = True
        audit.record(actor, Event.Action.REPOSITORY_CREATE, repository, **detail)
    return repository, True


def create_by_push(actor: Actor, name: names.ImageName) -> bool:
    """Create the repository of this name if a push of the actor may (``Project.create_on_push``).

    Returns whether there is a repository of the name now: another push may have created it meanwhile. Raises
    NameInvalid, Denied (the project has its quota of repositories).
    """
    project = access.project_to_create_in(actor, name)
    if project is None:
        return False
    create(
        actor,
        project,
        name.repository,
        is_public=project.new_is_public,
        tag_overwrite=project.new_tag_overwrite,
        auto_scan=project.new_auto_scan,
        by_push=True,
    )
    return True


def was_just_made(repository: Repository, actor: Actor, wanted: dict[str, Any]) -> bool:
    """Whether the same actor created it with these settings in the last minute: the form was sent twice."""
    is_fresh = timezone.now() - repository.created_at < timedelta(minutes=1)
    return is_fresh and repository.created_by_id == actor.user_id and wanted.items() <= settings_of(repository).items()


def settings_of(repository: Repository) -> dict[str, Any]:
    """Return the present SETTINGS."""
    return {name: getattr(repository, name) for name in SETTINGS}


def readme_of(repository: Repository) -> str:
    """Return the Markdown of the readme, "" if there is none. One query."""
    return Readme.objects.filter(repository=repository).values_list("text", flat=True).first() or ""


def fingerprint(readme: str) -> str:
    """Return the value of a readme in ``seen``: short, since forms carry it."""
    return hashlib.sha256(readme.encode()).hexdigest()


def update(
    actor: Actor,
    repository: Repository,
    *,
    seen: dict[str, Any] | None = None,
    undoes: Collection[int] = (),
    readme: str | None = None,
    **wanted: Any,
) -> Event | None:
    """Change settings of a live repository (SETTINGS) and its readme; return the event, None if nothing changed.

    Records one event with the settings before and after; of the readme it says only that it changed. ``readme``: None
    leaves it, "" removes it. ``seen``: the settings on the submitted page, and the ``fingerprint`` of its readme.
    Raises NameUnknown (the repository is deleted), NameInvalid (the description or the readme is too long),
    RequestInvalid (``tag_rules``), Changed (the settings or the readme differ from ``seen``).
    """
    if unknown := wanted.keys() - set(SETTINGS):
        raise TypeError(f"a repository has no setting {', '.join(sorted(unknown))}")
    _check_description(str(wanted.get("description", "")))
    if readme is not None and len(readme) > MAX_README:
        raise NameInvalid(_("a readme has at most %(count)s characters") % {"count": MAX_README})
    if "tag_rules" in wanted:
        wanted["tag_rules"] = tag_rules.checked(wanted["tag_rules"], in_project=False)
    with transaction.atomic():
        live = Repository.objects.live().select_related("project")
        locked = live.select_for_update(of=("self",), no_key=True).filter(pk=repository.pk).first()
        if locked is None:
            raise NameUnknown(_("there is no repository %(repository)s any more") % {"repository": repository})
        past = Event.objects.filter(repository=locked, action=Event.Action.REPOSITORY_UPDATE)
        before, after = edits.alter(locked, wanted, seen, past)
        is_rewritten = readme is not None and _write_readme(locked, readme, seen, past)
        if not after and not is_rewritten:
            return None
        rewritten = {"readme": "changed"} if is_rewritten else {}
        locked.updated_at = timezone.now()
        locked.save(update_fields=[*after, "updated_at"])
        event = audit.record(
            actor, Event.Action.REPOSITORY_UPDATE, locked, undoes=undoes, before=before, after=after, **rewritten
        )
    for name, value in after.items():
        setattr(repository, name, value)
    return event


def _write_readme(repository: Repository, text: str, seen: dict[str, Any] | None, past: EventQuerySet) -> bool:
    """Return whether the text is another one. The caller holds the lock of the repository."""
    now = readme_of(repository)
    if text == now:
        return False
    if seen is not None and seen.get("readme") != fingerprint(now):
        raise edits.changed(repository, past)
    if text:
        Readme(repository=repository, text=text).save()
    else:
        Readme.objects.filter(repository=repository).delete()
    return True


def _check_description(description: str) -> None:
    if len(description) > MAX_DESCRIPTION:
        raise NameInvalid(_("a description has at most %(count)s characters") % {"count": MAX_DESCRIPTION})


def find(path: str) -> Repository:
    """Return the live repository of the path ``project/repository``. Raises NameUnknown."""
    project, _slash, name = path.partition("/")
    repository = Repository.objects.live().filter(project__name=project, name=name).select_related("project").first()
    if repository is None:
        raise NameUnknown(f"there is no repository {path}")
    return repository


def role_of(repository: Repository, user: User) -> RepositoryRole | None:
    """Return the user's role on this repository, without roles in the project."""
    held = RepositoryUserPermission.objects.filter(content_object=repository, user=user)
    codenames = set(held.values_list("permission__codename", flat=True))
    if "push_repository" in codenames:
        return RepositoryRole.MEMBER
    return RepositoryRole.VIEWER if "pull_repository" in codenames else None


def _check_who_may_have_one(repository: Repository, user: User, *, belongs: bool) -> None:
    if not belongs:
        raise Denied(
            _("%(user)s is not in the organization %(organization)s")
            % {"user": user, "organization": repository.project.organization.name}
        )
    membership = ProjectMembership.objects.filter(project=repository.project, user=user).first()
    if membership:
        raise Denied(
            _(
                "%(user)s is %(role)s of the project %(project)s and may pull already: change the role in the project"
                " instead"
            )
            % {"user": user, "role": membership.get_role_display(), "project": repository.project.name}
        )


def set_role(
    actor: Actor,
    repository: Repository,
    user: User,
    role: RepositoryRole | None,
    *,
    seen: str | None = None,
    undoes: Collection[int] = (),
) -> Event | None:
    """Give exactly this role on the repository, None for no role. Returns the event, None if nothing changed.

    The only writer of these roles. Raises Denied (the user is not in the organization, or has a role in the project,
    which allows more, or is a service account and the actor may not give it the role), Changed (the role is not the one
    that was ``seen``).
    """
    with transaction.atomic():
        belongs = organizations.belongs(user, repository.project.organization, lock=True)
        if role:
            _check_who_may_have_one(repository, user, belongs=belongs)
            access.require_may_give(actor, user, role, repository)
        before = role_of(repository, user)
        if before == role:
            return None
        edits.compare_role(user, before, seen)
        wanted = PERMISSIONS[role] if role else ()
        for permission in PERMISSIONS[RepositoryRole.MEMBER]:
            change = assign_perm if permission in wanted else remove_perm
            change(permission, user, repository)
        roles = {"before": before or "", "after": role or ""}
        event = audit.record(actor, Event.Action.ROLE_CHANGE, repository, undoes=undoes, user=user.email, **roles)
        accounts_audit.record(
            actor,
            accounts_audit.Action.REPOSITORY_ROLE,
            person=user,
            organizations=[repository.project.organization_id],
            detail={"repository": str(repository), **roles},
        )
    return event
