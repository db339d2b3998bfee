"""Races of tests/registry/test_races_of_tags.py."""

from __future__ import annotations

from functools import partial
from typing import Any

from accounts.actors import SYSTEM
from registry import cleanup, errors, manifests, repositories, trash
from registry.cleanup import policies
from registry.models import CleanupLine, CleanupRun, Event, Manifest, Tag
from registry.oci.names import ImageName
from tests.support.threads import at_once

NAME = ImageName("demo", "web", "app")


def move_in_seven_threads() -> dict[str, Any]:
    """Add the tag "race", and move it in seven threads that have all seen the same digest."""
    digests = _digests()
    _point("race", digests[0], "")
    answers = at_once(*(partial(_point, "race", digest, digests[0]) for digest in digests[1:]))
    ended = list(Tag.objects.filter(name="race").order_by("pk").values_list("ended_at", flat=True))
    return {"answers": answers, "live": [at is None for at in ended]}


def push_a_write_once_tag_in_seven_threads() -> dict[str, Any]:
    """Point one new write-once tag to seven digests at once; then delete it, and do so again."""
    digests, web = _digests(), repositories.find("demo/web")
    repositories.update(SYSTEM, web, tag_rules=[{"patterns": ["once"], "mode": "write-once"}])
    pushes = [partial(_push, "once", digest) for digest in digests[:7]]
    answers = at_once(*pushes)
    trash.delete_references(SYSTEM, web, NAME, ["once"])
    again = at_once(*pushes)
    named = Tag.objects.filter(name="once").values_list("manifest__digest", flat=True)
    return {"answers": answers, "again": again, "named": sorted(set(named))}


def run_policy_in_four_threads() -> dict[str, Any]:
    """Add 120 tags, run one policy in four threads, and move the tag old-060 in a fifth thread."""
    digests, web = _digests(), repositories.find("demo/web")
    for number in range(120):
        _point(f"old-{number:03}", digests[number % 8], "")
    policy = policies.set_policy(SYSTEM, web, keep_last=1, keep_patterns=["t*", "race", "once"], most_percent=100)
    moved, *ran = at_once(partial(_point, "old-060", digests[0], digests[4]), *[partial(_run, policy.pk)] * 4)
    deleted = CleanupLine.objects.filter(outcome="deleted").values_list("tag_version", flat=True)
    return {
        "moved": moved,
        "ran": sorted(set(ran)),
        "runs": sorted(CleanupRun.objects.values_list("pk", flat=True)),
        "states": sorted(set(CleanupRun.objects.values_list("state", flat=True))),
        "counted": sum(CleanupRun.objects.values_list("deleted", flat=True)),
        "lines": len(deleted),
        "intervals": len(set(deleted)),
        "events": Event.objects.filter(action="tag.delete", tag__startswith="old-").count(),
        "live": sorted(Tag.objects.live().filter(name__startswith="old-").values_list("name", flat=True)),
    }


def _run(policy_id: int) -> int:
    run = cleanup.run(policy_id)
    assert run is not None
    return run.pk


def _digests() -> list[str]:
    found = Manifest.objects.filter(image__path=str(NAME)).order_by("pk")
    return list(found.values_list("digest", flat=True))


def _push(tag: str, digest: str) -> str:
    """Push a known digest under the tag. Return the digest, or the name of the error."""
    manifest = Manifest.objects.get(image__path=str(NAME), digest=digest)
    web, content = repositories.find("demo/web"), bytes(manifest.content)
    try:
        manifests.push(SYSTEM, web, NAME, tag, content, content_type=manifest.media_type)
    except errors.RegistryError as error:
        return type(error).__name__
    return digest


def _point(tag: str, digest: str, seen: str) -> bool | str:
    """Move the tag. Return the result, or the name of the error."""
    try:
        return manifests.point_tag(SYSTEM, repositories.find("demo/web"), NAME, tag, digest, seen=seen)
    except errors.RegistryError as error:
        return type(error).__name__
