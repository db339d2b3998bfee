"""Rows about manifests: which are in given repositories and in use, and the tags that name a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import BigIntegerField, Exists, OuterRef, Q

from registry.database.prepared import ListOf, prepare
from registry.models import Tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from registry.models import Manifest


def in_reach(rows: Any, repositories: Any) -> Any:
    """Rows about manifests that are live, in live images of these repositories."""
    return rows.filter(
        manifest__deletion=None, manifest__image__deletion=None, manifest__image__repository__in=repositories
    )


def in_use(manifest: str = "manifest") -> Q:
    """Of what a live tag names, itself or as a platform of an index."""
    named = Tag.objects.live().filter(manifest=OuterRef(manifest))
    as_part = Tag.objects.live().filter(manifest__child_references__child=OuterRef(manifest))
    return Q(Exists(named)) | Q(Exists(as_part))


def name_tags(manifests: Iterable[Manifest]) -> None:
    """Give each manifest, as ``tag_names``, the tags that name it or the index that it is a platform of. One query."""
    found = list(manifests)
    names: dict[int, set[str]] = {}
    for pk, name in _names.all(manifests={each.pk for each in found}):
        names.setdefault(pk, set()).add(name)
    for manifest in found:
        manifest.tag_names = sorted(names.get(manifest.pk, ()))  # type: ignore[attr-defined]


@prepare(tuple, manifests=ListOf(BigIntegerField()))
def _names(_actor: Actor, manifests: Any) -> QuerySet[Any, Any]:
    live = Tag.objects.live().order_by()
    own = live.filter(manifest__in=manifests).values_list("manifest", "name")
    of_parts = live.filter(manifest__child_references__child__in=manifests)
    return own.union(of_parts.values_list("manifest__child_references__child", "name"))
