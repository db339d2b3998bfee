"""Whether the rules of tags allow what a door asks for.

The functions that open and close tags ask: ``tags.point`` and ``tags.push``, ``trash.delete_references``,
``delete_images``, ``delete_repository`` and ``restore``. So a push, the console, undo, a cleanup, Recovery and commands
are all bound. Attached tags (``registry.attachments``) are exempt.

Under the lock of the image, so of two pushes of a tag the second sees what the first wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef, Q, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.actors import Actor
from registry import access, attachments
from registry.errors import Denied
from registry.models import Image, PurgedTag, Tag
from registry.oci import names
from registry.tag_rules.rules import ADMINS, LAST, Mode, Rule, effective, find

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from django.db.models import QuerySet

    from registry.models import Manifest, Repository

SHOWN = 5  # tags that a refusal names
ROWS = 1_000  # read or written in one statement
SHORT = 19  # characters of a digest: sha256: and twelve more


def check_point(actor: Actor, image: Image, name: str, manifest: Manifest, current: Tag | None) -> None:
    """Raise Denied if the rules do not allow the actor to point the tag to this manifest.

    ``current``: the live tag with its manifest, another one; None if the tag is new. A tag that was write-once costs
    one query, and so does a rule for admins.
    """
    rule = find(effective(image.repository), name)
    if not rule.restricts or _is_exempt(image, name, manifest, current):
        return
    if rule.pushers and not _is_pusher(actor, image.repository, rule):
        raise _denied(
            rule,
            _("%(tag)s may be pushed by %(who)s alone (%(rule)s): push another tag, or ask them"),
            tag=f"{image.path}:{name}",
            who=", ".join(_("admins of the project") if each == ADMINS else each for each in rule.pushers),
        )
    if current is not None and rule.mode != Mode.MOVABLE:
        raise _immutable(rule, image, name, current)
    if current is None and rule.mode == Mode.WRITE_ONCE:
        _check_first(rule, image, name, manifest)


def _is_exempt(image: Image, name: str, manifest: Manifest, current: Tag | None) -> bool:
    """Whether the tag is attached, and was if it exists: a tag that names its own digest is an ordinary one."""
    subject = names.tag_subject(name)
    names_itself = current is not None and bool(subject) and current.manifest.digest.startswith(subject)
    return not names_itself and attachments.is_attached(image, name, manifest)


def _is_pusher(actor: Actor, repository: Repository, rule: Rule) -> bool:
    if actor.is_system or (actor.user_id is not None and actor.label in rule.pushers):
        return True
    # The role of the user counts, not the limits of the key: the door has asked whether the key may push.
    user = Actor(user_id=actor.user_id)
    return ADMINS in rule.pushers and access.may(user, access.Action.ADMINISTER, repository.project)


def _immutable(rule: Rule, image: Image, name: str, current: Tag) -> Denied:
    if rule.number == LAST:
        return _denied(
            rule,
            _(
                "%(tag)s exists, and %(of)s does not allow tags to be overwritten: push another tag, or allow it in the"
                " tag rules of the repository"
            ),
            tag=f"{image.path}:{name}",
        )
    return _denied(
        rule,
        _("%(tag)s points to %(digest)s since %(day)s, and may not be moved (%(rule)s): push another tag"),
        tag=f"{image.path}:{name}",
        digest=current.manifest.digest[:SHORT],
        day=f"{current.started_at:%Y-%m-%d}",
    )


def _check_first(rule: Rule, image: Image, name: str, manifest: Manifest) -> None:
    """Raise Denied if the name pointed to another digest before, in this image or a deleted one of the same path."""
    deleted = Image.objects.filter(path=image.path, deletion__isnull=False)
    versions = Tag.objects.filter(Q(image=image.pk) | Q(image__in=deleted.values("pk")), name=name).order_by("-pk")
    purged = PurgedTag.objects.filter(path=image.path, name=name).order_by("-version")
    newest = Image.objects.filter(pk=image.pk).values_list(
        Subquery(versions.values("pk")[:1]),
        Subquery(versions.values("manifest__digest")[:1]),
        Subquery(purged.values("version")[:1]),
        Subquery(purged.values("digest")[:1]),
    )
    version, digest, purged_version, purged_digest = newest[0]
    last = digest if (version or 0) > (purged_version or 0) else purged_digest
    if last is not None and last != manifest.digest:
        raise _denied(
            rule,
            _("%(tag)s pointed to %(digest)s before, and never points to another digest (%(rule)s): push another tag"),
            tag=f"{image.path}:{name}",
            digest=last[:SHORT],
        )


def check_deletion(repository: Repository, tags: Iterable[Tag] | QuerySet[Tag]) -> None:
    """Raise Denied if a rule keeps one of these live tags, which have their images."""
    rules = effective(repository)
    if not any(rule.keep for rule in rules):
        return
    kept = [(tag, rule) for tag in tags if (rule := find(rules, tag.name)).keep]
    attached = _attached([tag for tag, _rule in kept if tag.subject])
    kept = [(tag, rule) for tag, rule in kept if tag.pk not in attached]
    if kept:
        rule = kept[0][1]
        listed = ", ".join(f"{tag.image.name}:{tag.name}" for tag, _rule in kept[:SHOWN])
        words = ngettext(
            "a tag cannot be deleted: %(tags)s. A rule keeps it (%(rule)s): change the rule first",
            "%(count)s tags cannot be deleted: %(tags)s. Rules keep them (%(rule)s): change the rules first",
            len(kept),
        )
        raise _denied(rule, words, count=f"{len(kept):,}", tags=listed + (", …" if len(kept) > SHOWN else ""))


def _attached(tags: Collection[Tag]) -> set[int]:
    if not tags:
        return set()
    return set(Tag.objects.attached().filter(pk__in=[tag.pk for tag in tags]).values_list("pk", flat=True))


def check_reopening(repository: Repository, closed: QuerySet[Tag]) -> None:
    """Raise Denied if one of these closed tags is write-once, and its name pointed to another digest afterwards.

    For the tags of deleted images, whose paths have no live image. At most one query.
    """
    rules = effective(repository)
    if not any(rule.mode == Mode.WRITE_ONCE for rule in rules):
        return
    of_path = Tag.objects.filter(image__path=OuterRef("image__path"), image__deletion__isnull=False)
    later = of_path.filter(name=OuterRef("name"), pk__gt=OuterRef("pk")).exclude(
        manifest__digest=OuterRef("manifest__digest")
    )
    purged = PurgedTag.objects.filter(
        path=OuterRef("image__path"), name=OuterRef("name"), version__gt=OuterRef("pk")
    ).exclude(digest=OuterRef("manifest__digest"))
    for tag in closed.filter(Exists(later) | Exists(purged)).select_related("image").order_by("pk"):
        rule = find(rules, tag.name)
        if rule.mode == Mode.WRITE_ONCE:
            raise _denied(
                rule,
                _("%(tag)s pointed to another digest afterwards, and never changes (%(rule)s): change the rule first"),
                tag=f"{tag.image.path}:{tag.name}",
            )


def remember(tags: QuerySet[Tag]) -> None:
    """Keep what write-once tags pointed to, before the rows of these tags are purged. The caller locks their images."""
    related = tags.select_related("image__repository__project", "manifest").only(
        *("name", "manifest__digest", "image__path", "image__repository__name", "image__repository__tag_rules"),
        *("image__repository__tag_overwrite", "image__repository__project__name"),
        "image__repository__project__tag_rules",
    )
    rules: dict[int, tuple[Rule, ...]] = {}
    rows = []
    for tag in related.iterator(ROWS):
        repository = tag.image.repository
        of_repository = rules.setdefault(repository.pk, effective(repository))
        if find(of_repository, tag.name).mode == Mode.WRITE_ONCE:
            rows.append(PurgedTag(path=tag.image.path, name=tag.name, digest=tag.manifest.digest, version=tag.pk))
    PurgedTag.objects.bulk_create(rows, batch_size=ROWS, ignore_conflicts=True)


def protects(repository: Repository, tags: Iterable[Any]) -> Iterator[tuple[Any, Rule]]:
    """Yield those of these unattached tags that a rule restricts, with the rule. No query."""
    rules = effective(repository)
    for tag in tags:
        rule = find(rules, tag.name)
        if rule.restricts:
            yield tag, rule


def _denied(rule: Rule, words: str, **said: str) -> Denied:
    name = _("tag overwrite of %(of)s") if rule.number == LAST else _("rule %(number)s of %(of)s: %(patterns)s")
    of = {"number": rule.number, "of": rule.of, "patterns": ", ".join(rule.patterns)}
    return Denied(words % (said | {"of": rule.of, "rule": name % of}), detail={"rule": rule.number, "of": rule.of})
