"""A registry with many rows, in seconds: SQL copies existing rows, with other names and digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

from registry.models import Event, Image, Manifest, ManifestBlob, Repository, Tag

if TYPE_CHECKING:
    from django.db.models import Model

TAG = 1_000_000  # the first number in the names of tags: all have the same length, so that their keys can be written


def grow(manifest: Manifest, images: int, own: int, each: int = 2) -> None:
    """Add rows to the project of a manifest that has the tag "latest" and an event.

    ``images``: half of them in its repository, each other one in a repository of its own. Each has 90 manifests, the first
    of them with the same digest, blobs, and tags "latest" and "1.0". ``own``: so many tags, referrers and events
    more in the manifest's own image.
    """
    image = Image.objects.select_related("repository__project").get(pk=manifest.image_id)
    latest = Tag.objects.get(image=image, name="latest", ended_at=None)
    blob = ManifestBlob.objects.filter(manifest=manifest).first()
    before = {model: _last(model) for model in (Repository, Image, Manifest)}
    start = before[Manifest]
    project = image.repository.project.name
    _copy(image.repository, images // 2, name=f"'grown-' || ({start} + n)")
    path = f"'{image.repository}/crowd/' || ({start} + n)"
    _copy(image, images - images // 2, name=f"'crowd/' || ({start} + n)", path=path)
    _copy(
        image,
        1,
        f"registry_repository AS other WHERE other.id > {before[Repository]}",
        repository_id="other.id",
        path=f"'{project}/' || other.name || '/{image.name}'",
    )
    others = f"registry_image AS other WHERE other.id > {before[Image]}"
    digest = f"CASE n WHEN 0 THEN copied.digest ELSE {_digest('other.id * 1000 + n')} END"
    _copy(manifest, each, others, image_id="other.id", digest=digest)
    made = (
        f"registry_manifest AS other JOIN registry_image AS image ON image.id = other.image_id WHERE other.id > {start}"
    )
    same = f"{made} AND other.digest = '{manifest.digest}'"
    for name, key in (("'latest'", "'latest$'"), ("'1.0'", "'0011.$'")):
        _copy(latest, 1, same, image_id="image.id", manifest_id="other.id", name=name, natural_name=key)
    if blob is not None:
        _copy(blob, 1, made, manifest_id="other.id", repository_id="image.repository_id")
    number = f"({TAG} + {start} + n)"
    _copy(latest, own, name=f"'v' || {number}", natural_name=f"'v007' || {number} || '$'")
    subject = f"'{manifest.digest}'"
    _copy(manifest, own, digest=_digest(f"-1 - {start} - n"), subject=subject)
    _copy(Event.objects.filter(image=image).latest("pk"), own, tag=f"'v' || {number}")


def _last(model: type[Model]) -> int:
    return int(model._default_manager.order_by("-pk").values_list("pk", flat=True).first() or 0)


def _digest(number: str) -> str:
    """SQL for a digest that has a number in it."""
    if connection.vendor == "sqlite":
        return f"printf('sha256:%064x', {number})"
    return f"'sha256:' || lpad(to_hex(({number})::bigint), 64, '0')"


def _copy(row: Model, times: int, source: str = "", **columns: str) -> None:
    """Copy a row for each row of ``source`` and each ``n`` from 0 to ``times`` - 1; SQL for the columns that differ."""
    meta = row._meta
    names = [str(field.column) for field in meta.concrete_fields if not field.primary_key]
    values = [columns.get(name, f"copied.{name}") for name in names]
    source, _, where = source.partition(" WHERE ")
    if times:
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {meta.db_table} ({', '.join(names)})"
                f" WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {times - 1})"
                f" SELECT {', '.join(values)} FROM {f'{source} CROSS JOIN ' if source else ''}numbers"
                f" CROSS JOIN {meta.db_table} AS copied WHERE copied.id = {row.pk} {f'AND {where}' if where else ''}"
            )
