"""Rows about manifests: which are in given repositories and in use, and the tags that name a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef, Q

from registry.models import Tag

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    pks = {each.pk for each in found}
    live = Tag.objects.live().order_by()
    own = live.filter(manifest__in=pks).values_list("manifest", "name")
    of_parts = live.filter(manifest__child_references__child__in=pks)
    names: dict[int, set[str]] = {}
    for pk, name in own.union(of_parts.values_list("manifest__child_references__child", "name")):
        names.setdefault(pk, set()).add(name)
    for manifest in found:
        manifest.tag_names = sorted(names.get(manifest.pk, ()))  # type: ignore[attr-defined]
