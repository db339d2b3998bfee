"""Large contents are not read for many rows at once, and related rows are checked under one lock."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import ProjectRole, RepositoryRole
from registry import members, repositories, trash, undo
from registry.models import Deletion, Event
from registry.models import Image as StoredImage
from registry.oci.names import ImageName
from tests.support.images import Image

pytestmark = pytest.mark.django_db
NAME = ImageName("demo", "web", "app")


def heavy(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements that read the content or annotations of manifests."""
    said = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    return [sql for sql in said if '"registry_manifest"."content"' in sql or '"registry_manifest"."annotations"' in sql]


def test_undo_and_recovery_of_tags_read_no_manifest_contents(docker, world):
    image = Image()
    for number in range(3):
        docker("pusher").push("web/app", f"t{number}", image)
    owner, web = world.owner.actor, world.repository("web")
    with CaptureQueriesContext(connection) as queries:
        undo.preview(owner, Event.objects.filter(user=world.pusher.user))
        deletion = trash.delete_references(owner, web, NAME, ["t0", "t1"])
        trash.restore(owner, [deletion.pk])
        deletion = trash.delete_references(owner, web, NAME, [image.digest])
        trash.restore(owner, [deletion.pk])
    assert [sql[-400:] for sql in heavy(queries)] == []
    assert not Deletion.objects.exists()
    assert StoredImage.objects.live().filter(path=str(NAME)).exists()


@pytest.mark.parametrize("where", ["repository", "project"])
def test_role_is_set_under_the_lock_of_its_membership(world, where):
    """Otherwise a user removed from the organization at the same time would keep the role."""
    demo, web, stranger = world.projects["demo"], world.repository("web"), world.stranger.user
    with CaptureQueriesContext(connection) as queries:
        if where == "repository":
            repositories.set_role(world.admin.actor, web, stranger, RepositoryRole.VIEWER)
        else:
            members.set_role(world.admin.actor, demo, stranger, ProjectRole.READER)
    said = [query["sql"] for query in queries]
    begun = next(number for number, sql in enumerate(said) if sql.startswith("SAVEPOINT"))
    asked = [number for number, sql in enumerate(said) if 'FROM "accounts_organizationmembership"' in sql]
    given = next(number for number, sql in enumerate(said) if number > begun and sql.startswith("INSERT"))
    assert begun < asked[0] < given
    if connection.features.has_select_for_update:
        assert "FOR NO KEY UPDATE" in said[asked[0]]
