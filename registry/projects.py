"""Projects: create, change settings and quotas."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import organizations
from accounts.errors import Refusal
from accounts.models import Organization, Project, ProjectRole, User
from registry import audit, edits, errors, members, quotas, tag_rules
from registry.models import Event
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Collection

    from accounts.actors import Actor


SETTINGS = (
    *("display_name", "description", "tag_rules"),
    *("create_on_push", "new_is_public", "new_auto_scan", "new_tag_overwrite"),
)


def create(
    actor: Actor,
    organization: Organization,
    name: str,
    *,
    display_name: str = "",
    description: str = "",
    **settings: bool,
) -> tuple[Project, bool]:
    """Return the organization's project of this name, and whether it was made now. An existing one stays as it is.

    ``settings``: ``create_on_push`` and what belongs to it. The user who makes it becomes its first admin. Raises
    NameInvalid, Refusal (another organization has a project of this name, or the display name is too long).
    """
    organizations.check_display_name(display_name)
    if not names.is_project(name):
        raise errors.NameInvalid(
            _(
                "a project's ID has 3 to 40 lower-case letters, digits and -, a letter first, no - at the end, no xn--"
                " in front"
            )
        )
    with transaction.atomic():
        project, created = Project.objects.get_or_create(
            name=name,
            defaults={
                "organization": organization,
                "display_name": display_name,
                "description": description,
                **settings,
            },
        )
        if project.organization_id != organization.pk:
            raise Refusal(
                _("the project ID %(name)s is taken: IDs are unique in the whole installation") % {"name": name}
            )
        if created:
            audit.record(actor, Event.Action.PROJECT_CREATE, project)
            if actor.user_id is not None:
                members.set_role(actor, project, User.objects.get(pk=actor.user_id), ProjectRole.ADMIN)
    return project, created


def was_just_made(project: Project, actor: Actor) -> bool:
    """Whether this user made the project within the last minute, as when a form is sent twice."""
    lately = timezone.now() - timedelta(minutes=1)
    made = Event.objects.filter(project=project, action=Event.Action.PROJECT_CREATE, at__gte=lately)
    return made.filter(user=actor.user_id).exists()


def settings_of(project: Project) -> dict[str, Any]:
    """The current settings."""
    return {name: getattr(project, name) for name in SETTINGS}


def update(
    actor: Actor,
    project: Project,
    *,
    seen: dict[str, Any] | None = None,
    undoes: Collection[int] = (),
    **wanted: Any,
) -> Event | None:
    """Change settings (SETTINGS) or quotas (fields of ``quotas.LIMITS``). Returns the event, None if nothing changed.

    ``seen``: the settings when the user decided. Raises Changed (they are different now), RequestInvalid
    (``tag_rules``).
    """
    if unknown := wanted.keys() - {*SETTINGS, *quotas.LIMITS.values()}:
        raise TypeError(f"a project has no setting {', '.join(sorted(unknown))}")
    if "tag_rules" in wanted:
        wanted["tag_rules"] = tag_rules.checked(wanted["tag_rules"], in_project=True)
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        past = Event.objects.filter(project=locked, action=Event.Action.PROJECT_UPDATE)
        before, after = edits.alter(locked, wanted, seen, past)
        if not after:
            return None
        locked.save(update_fields=list(after))
        event = audit.record(actor, Event.Action.PROJECT_UPDATE, locked, undoes=undoes, before=before, after=after)
    for name, value in after.items():
        setattr(project, name, value)
    return event
