"""Access: permissions of each role, agreement of lists and single checks, and checks at every request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts import keys, limits
from accounts.actors import ANONYMOUS, SYSTEM, Actor
from accounts.models import (
    AccessKey,
    OrganizationMembership,
    OrganizationRole,
    ProjectMembership,
    ProjectRole,
    RepositoryRole,
    User,
)
from registry import access, errors, members, repositories, trash
from registry.access import Action
from registry.models import Deletion, Image, Repository
from registry.oci.names import ImageName
from registry.v2.base import RegistryView
from tests.support import images
from tests.support.database import rolled_back
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient
from tests.support.images import sha256
from tests.support.personas import Persona, World, make_key

LETTERS = {
    "P": Action.PULL,
    "U": Action.PUSH,
    "D": Action.DELETE,
    "V": Action.VIEW,
    "M": Action.MANAGE,
    "A": Action.ADMINISTER,
}
REPOSITORIES = {
    "web": ImageName("demo", "web", "app"),
    "public": ImageName("demo", "public", "app"),
    "fixed": ImageName("demo", "fixed", "app"),
    "secret": ImageName("lab", "secret", "app"),
    "rivals": ImageName("rival", "rivals", "app"),
}

# docs/reference/roles.md: Pull, pUsh, Delete by the registry API, View in the console, Manage, Administer members.
TABLE = """
who                              web     public  fixed   secret  rivals
anonymous                        -       P       -       -       -
owner                            PUDVMA  PUDVMA  PUDVMA  PUDVMA  -
admin                            PUDVMA  PUDVMA  PUDVMA  -       -
member                           PUDVM   PUDVM   PUDVM   -       -
reader                           PV      PV      PV      -       -
pusher                           PU      P       -       -       -
viewer                           P       P       -       -       -
stranger                         -       P       -       -       -
outsider                         -       P       -       -       PUDVM
system                           P       P       P       P       P
owner,actions=pull               P       P       P       P       -
pusher,actions=pull              P       P       -       -       -
stranger,actions=pull            -       P       -       -       -
owner,project=lab                -       P       -       PUDVMA  -
owner,project=demo               PUDVMA  PUDVMA  PUDVMA  -       -
owner,project=demo,actions=pull  P       P       P       -       -
owner,actions=push+delete        UD      UD      UD      UD      -
reader,actions=pull+push         P       P       P       -       -
owner,repositories=demo/web      PUDVMA  P       -       -       -
owner,repositories=demo/*b*      PUDVMA  PUDVMA  -       -       -
owner,repositories=*/secret      -       P       -       PUDVMA  -
member,repositories=lab/*        -       P       -       -       -
pusher,project=demo              PU      P       -       -       -
pusher,project=lab               -       P       -       -       -
viewer,project=rival             -       P       -       -       -
member,expired                   -       -       -       -       -
member,revoked                   -       -       -       -       -
member,inactive                  -       -       -       -       -
"""
HEADER, *ROWS = [line.split() for line in TABLE.split("\n") if line]


def persona_of(world: World, words: str) -> Persona | None:
    """``owner,project=lab`` is the owner with a key limited to lab. None is anonymous."""
    name, *conditions = words.split(",")
    given = {}
    for condition in conditions:
        word, _, value = condition.partition("=")
        values = {"project": world.projects.get(value), "actions": value.split("+"), "repositories": value}
        given |= {word: values.get(word, True)}
    ended = {word for word in ("expired", "revoked", "inactive") if given.pop(word, False)}
    persona = make_key(world.people[name].user, "limited", **given) if given else world.people.get(name)
    if "expired" in ended:
        AccessKey.objects.filter(pk=persona.key.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    if "revoked" in ended:
        keys.revoke(persona.key)
    if "inactive" in ended:
        User.objects.filter(pk=persona.user.pk).update(is_active=False)
    return persona


def actor_of(world: World, words: str) -> Actor:
    if words == "system":
        return SYSTEM
    persona = persona_of(world, words)
    return persona.actor if persona else ANONYMOUS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_roles_and_key_limits_match_the_table(world, row):
    actor = actor_of(world, row[0])
    given = {}
    for name in HEADER[1:]:
        repository = world.repository(name)
        letters = [letter for letter, action in LETTERS.items() if access.may(actor, action, repository)]
        given[name] = "".join(letters) or "-"
    assert given == dict(zip(HEADER[1:], row[1:], strict=True))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_list_of_visible_repositories_agrees_with_each_single_check(world, row):
    actor = actor_of(world, row[0])
    every = list(Repository.objects.live().filter(pk__in=[one.pk for one in world.repositories.values()]))
    Image.objects.bulk_create(Image(repository=one, name="app", path=f"{one}/app") for one in every)
    for action in Action:
        may = {one.name for one in every if access.may(actor, action, one)}
        assert {one.name for one in access.permitted(Repository.objects.all(), actor, action)} == may
        images = access.permitted(Image.objects.all(), actor, action, "repository")
        assert {image.repository.name for image in images} == may
        for name, path in REPOSITORIES.items() if action in {Action.PULL, Action.PUSH} else ():
            if name in may:
                assert access.require(actor, action, path).pk == world.repository(name).pk
            else:
                with pytest.raises((errors.NameUnknown, errors.Denied, errors.Unauthorized)):
                    access.require(actor, action, path)
    for name, path in REPOSITORIES.items():
        actions, identifier = access.allowed_actions(actor, path)[path]
        assert actions == {action for action in Action if access.may(actor, action, world.repository(name))}
        assert identifier == world.repository(name).pk


@pytest.mark.parametrize(
    ("who", "project", "expected"),
    [
        ("anonymous", "demo", ""),
        ("owner", "demo", "PUDVMA"),
        ("owner", "lab", "PUDVMA"),
        ("owner", "rival", ""),
        ("admin", "demo", "PUDVMA"),
        ("member", "demo", "PUDVM"),
        ("reader", "demo", "PV"),
        ("pusher", "demo", ""),
        ("viewer", "demo", ""),
        ("stranger", "demo", ""),
        ("outsider", "demo", ""),
        ("outsider", "rival", "PUDVM"),
        ("admin,actions=pull", "demo", "P"),
        ("admin,repositories=demo/web", "demo", ""),
        ("owner,project=lab", "demo", ""),
        ("owner,project=lab", "lab", "PUDVMA"),
        ("admin,revoked", "demo", ""),
    ],
)
def test_roles_in_a_project(world, who, project, expected):
    """A role on a repository gives no permission in its project: the project pages are not found."""
    actor = actor_of(world, who)
    given = [letter for letter, action in LETTERS.items() if access.may(actor, action, world.projects[project])]
    assert "".join(given) == expected


# ── Any mixture ──────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Mixture:
    """Roles of a user, and the limits of the key and the token."""

    is_owner: bool
    in_demo: ProjectRole | None
    on_web: RepositoryRole | None
    on_public: RepositoryRole | None
    on_secret: RepositoryRole | None
    web_is_public: bool
    actions: frozenset[Action] | None
    limited_to: str | None
    repositories: str
    ended: str
    scope: dict[str, frozenset[Action]] | None

    def expected(self, name: str) -> set[Action]:
        """Return the permissions by docs/reference/roles.md, implemented independently of registry.access."""
        project = {"web": "demo", "public": "demo", "fixed": "demo", "secret": "lab", "rivals": "rival"}[name]
        if self.ended:
            return set()
        letters = "P" if name == "public" or (name == "web" and self.web_is_public) else ""
        if self.limited_to in {None, project} and (not self.repositories or fits(self.repositories, project, name)):
            if self.is_owner and project != "rival":
                letters += "PUDVMA"
            if project == "demo":
                letters += {ProjectRole.ADMIN: "PUDVMA", ProjectRole.MEMBER: "PUDVM", ProjectRole.READER: "PV"}.get(
                    self.in_demo, ""
                )
            role = {"web": self.on_web, "public": self.on_public, "secret": self.on_secret}.get(name)
            letters += {RepositoryRole.MEMBER: "PU", RepositoryRole.VIEWER: "P"}.get(role, "")
        actions = {LETTERS[letter] for letter in letters}
        actions &= set(Action) if self.actions is None else self.actions
        return actions if self.scope is None else actions & self.scope.get(name, frozenset())


def fits(repositories: str, project: str, name: str) -> bool:
    return any(fnmatchcase(f"{project}/{name}", pattern) for pattern in repositories.split())


mixtures = st.builds(
    Mixture,
    is_owner=st.booleans(),
    in_demo=st.none() | st.sampled_from(list(ProjectRole)),
    on_web=st.none() | st.sampled_from(list(RepositoryRole)),
    on_public=st.none() | st.sampled_from(list(RepositoryRole)),
    on_secret=st.none() | st.sampled_from(list(RepositoryRole)),
    web_is_public=st.booleans(),
    actions=st.none()
    | st.frozensets(st.sampled_from([Action.PULL, Action.PUSH, Action.DELETE]), min_size=1, max_size=2),
    repositories=st.sampled_from(["", "", "demo/*", "demo/web lab/s*t", "*/public", "*/*"]),
    limited_to=st.none() | st.sampled_from(["demo", "lab", "rival"]),
    ended=st.sampled_from(["", "", "", "", "revoked", "expired", "inactive"]),
    scope=st.none()
    | st.dictionaries(st.sampled_from(sorted(REPOSITORIES)), st.frozensets(st.sampled_from(list(Action)))),
)


@hypothesis_settings(max_examples=40, deadline=None, database=None)
@given(mixture=mixtures)
def test_any_mixture_of_roles_and_limits_matches_the_policy(world, mixture):
    """The catalog must list exactly the images that may be pulled."""
    with rolled_back():
        actor = make_actor(world, mixture)
        Image.objects.bulk_create(
            Image(repository=one, name="app", path=f"{one}/app") for one in world.repositories.values()
        )
        for action in Action:
            expected = {name for name in REPOSITORIES if action in mixture.expected(name)}
            assert {one.name for one in access.permitted(Repository.objects.all(), actor, action)} == expected
            images = access.permitted(Image.objects.all(), actor, action, "repository")
            assert {image.repository.name for image in images} == expected
        for name in ("web", "secret"):
            for action in (Action.PULL, Action.PUSH):
                assert access.may(actor, action, world.repository(name)) == (action in mixture.expected(name))
            path = REPOSITORIES[name]
            actions, _ = access.allowed_actions(replace(actor, scope=None), path)[path]
            assert actions == replace(mixture, scope=None).expected(name)


def make_actor(world: World, mixture: Mixture) -> Actor:
    user = world.stranger.user
    if mixture.is_owner:
        OrganizationMembership.objects.filter(user=user).update(role=OrganizationRole.OWNER)
    for name, role in (("web", mixture.on_web), ("public", mixture.on_public), ("secret", mixture.on_secret)):
        repositories.set_role(SYSTEM, world.repository(name), user, role)
    if mixture.in_demo:  # keeps roles on repositories, which members.set_role would end
        ProjectMembership.objects.create(project=world.projects["demo"], user=user, role=mixture.in_demo)
    Repository.objects.filter(pk=world.repository("web").pk).update(is_public=mixture.web_is_public)
    limit = world.projects[mixture.limited_to] if mixture.limited_to else None
    actions = mixture.actions or limits.ACTIONS
    names = mixture.repositories
    persona = make_key(user, "mixture", actions=actions, repositories=names, project=limit)
    now = timezone.now()
    if mixture.ended == "revoked":
        AccessKey.objects.filter(pk=persona.key.pk).update(revoked_at=now)
    elif mixture.ended == "expired":
        AccessKey.objects.filter(pk=persona.key.pk).update(expires_at=now - timedelta(seconds=1))
    elif mixture.ended == "inactive":
        User.objects.filter(pk=user.pk).update(is_active=False)
    scope = None
    if mixture.scope is not None:
        scope = {world.repository(name).pk: actions for name, actions in mixture.scope.items()}
    return replace(persona.actor, scope=scope)


# ── The catalog ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if not {"system", "expired", "revoked", "inactive"} & set(row[0].split(","))],
    ids=lambda row: row[0],
)
def test_catalog_lists_only_pullable_images(world, docker, row):
    who, *allowed = row
    for repository in world.repositories.values():
        Image.objects.create(repository=repository, name="app", path=f"{repository}/app")
    pullable = [REPOSITORIES[name] for name, letters in zip(HEADER[1:], allowed, strict=True) if "P" in letters]
    persona = persona_of(world, who)
    bare = DockerClient(persona, BARE_HOST).get("_catalog", 200).json()["repositories"]
    assert bare == sorted(str(path) for path in pullable)
    here = DockerClient(persona, PROJECT_HOST).get("_catalog", 200).json()["repositories"]
    assert here == sorted(f"{path.repository}/{path.image}" for path in pullable if path.project == "demo")


# ── Permissions are checked at each request ──────────────────────────────────────────────────────────────────────────
READ = {
    "HEAD manifest by tag": ("HEAD", "manifests/1.0"),
    "GET manifest by tag": ("GET", "manifests/1.0"),
    "GET manifest by digest": ("GET", "manifests/{digest}"),
    "HEAD blob": ("HEAD", "blobs/{layer}"),
    "GET blob": ("GET", "blobs/{layer}"),
    "GET tags": ("GET", "tags/list"),
    "GET referrers": ("GET", "referrers/{digest}"),
}
WRITE = {
    "POST upload": ("POST", "blobs/uploads/"),
    "mount": ("POST", "blobs/uploads/?mount={layer}&from={name}"),
    "GET upload": ("GET", "blobs/uploads/{upload}"),
    "PATCH upload": ("PATCH", "blobs/uploads/{upload}"),
    "PUT upload": ("PUT", "blobs/uploads/{upload}?digest={nothing}"),
    "DELETE upload": ("DELETE", "blobs/uploads/{upload}"),
    "PUT manifest": ("PUT", "manifests/1.0"),
}
DELETE = {"DELETE manifest": ("DELETE", "manifests/1.0")}


class Visitor:
    """A client whose token was issued before a permission was removed."""

    def __init__(self, client: DockerClient, name: str, image: images.Image, *, may_push: bool) -> None:
        self.client, self.name, self.image = client, name, image
        self.bearer = {"Authorization": f"Bearer {client.token(f'repository:{name}:pull,push,delete')}"}
        self.upload = ""
        if may_push:
            location = client.raw("POST", f"/v2/{name}/blobs/uploads/", headers=self.bearer).headers["Location"]
            self.upload = location.rpartition("/")[2]

    def statuses(self, requests: dict[str, tuple[str, str]], headers: dict[str, str] | None = None) -> dict[str, int]:
        """Return the status of each request. The changes are rolled back."""
        found = {}
        for words, (method, path) in requests.items():
            whole = f"/v2/{self.name}/" + path.format(
                name=self.name,
                digest=self.image.digest,
                layer=sha256(self.image.layers[0]),
                upload=self.upload or "00000000-0000-4000-8000-000000000000",
                nothing=sha256(b""),
            )
            body, more = b"", {}
            if words == "PUT manifest":
                body, more = self.image.manifest, {"Content-Type": self.image.media_type}
            with rolled_back():
                answer = self.client.raw(method, whole, body=body, headers=(headers or self.bearer) | more)
            found[words] = answer.status
        return found


def _remove_grant(world: World, name: str) -> None:
    repositories.set_role(SYSTEM, world.repository("web"), world.people[name].user, None)


def _make_viewer(world: World, name: str) -> None:
    repositories.set_role(SYSTEM, world.repository("web"), world.people[name].user, RepositoryRole.VIEWER)


def _make_reader(world: World, name: str) -> None:
    members.set_role(SYSTEM, world.projects["demo"], world.people[name].user, ProjectRole.READER)


def _leave_project(world: World, name: str) -> None:
    members.set_role(SYSTEM, world.projects["demo"], world.people[name].user, None)


def _leave_organization(world: World, name: str) -> None:
    OrganizationMembership.objects.filter(user=world.people[name].user).update(role=OrganizationRole.MEMBER)


def _revoke_key(world: World, name: str) -> None:
    keys.revoke(world.people[name].key)


def _expire_key(world: World, name: str) -> None:
    AccessKey.objects.filter(pk=world.people[name].key.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


def _delete_key(world: World, name: str) -> None:
    AccessKey.objects.filter(pk=world.people[name].key.pk).delete()


def _deactivate(world: World, name: str) -> None:
    User.objects.filter(pk=world.people[name].user.pk).update(is_active=False)


def _delete_user(world: World, name: str) -> None:
    User.objects.filter(pk=world.people[name].user.pk).delete()


OK = "2xx"
TAKEN_AWAY = [
    # persona, change, expected statuses of reads, of pushes and deletions
    ("pusher", _remove_grant, 404, 404),
    ("viewer", _remove_grant, 404, 404),
    ("pusher", _make_viewer, OK, 403),
    ("member", _make_reader, OK, 403),
    ("member", _leave_project, 404, 404),
    ("reader", _leave_project, 404, 404),
    ("owner", _leave_organization, 404, 404),
    ("pusher", _revoke_key, 401, 401),
    ("member", _revoke_key, 401, 401),
    ("member", _expire_key, 401, 401),
    ("member", _delete_key, 401, 401),
    ("member", _deactivate, 401, 401),
    ("member", _delete_user, 401, 401),
]


@pytest.mark.parametrize(
    ("name", "take_away", "reading", "writing"), TAKEN_AWAY, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_revoked_permission_ends_at_the_next_request(world, docker, name, take_away, reading, writing):
    """A token that has not expired is refused too (docs/design/security.md 8, 9), and so is Basic."""
    image = docker("member").push("web/app", "1.0")
    pushes, deletes = name not in {"viewer", "reader"}, name in {"owner", "admin", "member"}
    visitor = Visitor(docker(name), "web/app", image, may_push=pushes)
    may = READ | (WRITE if pushes else {}) | (DELETE if deletes else {})
    before = visitor.statuses(may)
    assert {words for words, status in before.items() if status >= 300} == set(), before
    take_away(world, name)
    for headers in (visitor.bearer, docker(name).basic()):
        after = visitor.statuses(READ, headers)
        assert set(after.values()) == {200} if reading == OK else set(after.values()) == {reading}, after
        if pushes:
            after = visitor.statuses(WRITE | DELETE, headers)
            assert set(after.values()) == {writing}, after


@pytest.mark.parametrize("take_away", [_revoke_key, _expire_key, _delete_key, _deactivate, _delete_user])
@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/public/app/tags/list", "/v2/missing/app/tags/list"])
def test_token_of_an_ended_key_is_refused_everywhere(world, docker, take_away, path):
    docker("member").push("public/app", "1.0")
    client = docker("member")
    token = client.token("registry:catalog:* repository:public/app:pull repository:missing/app:pull")
    take_away(world, "member")
    answer = client.raw("GET", path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_anonymous_tokens_lose_a_repository_made_private(world, docker):
    image = docker("member").push("public/app", "1.0")
    anonymous = Visitor(docker(None), "public/app", image, may_push=False)
    stranger = Visitor(docker("stranger"), "public/app", image, may_push=False)
    reader = Visitor(docker("reader"), "public/app", image, may_push=False)
    for visitor in (anonymous, stranger, reader):
        assert set(visitor.statuses(READ).values()) == {200}
    Repository.objects.filter(pk=world.repository("public").pk).update(is_public=False)
    assert set(anonymous.statuses(READ).values()) == {401}
    assert set(stranger.statuses(READ).values()) == {404}
    assert set(reader.statuses(READ).values()) == {200}
    catalog = docker(None).get("_catalog", 200).json()
    assert catalog == {"repositories": []}


def delete_repository(repository: Repository, *, with_images: bool) -> None:
    """Delete the repository as the console does, or only its row."""
    if with_images:
        trash.delete_repository(SYSTEM, repository)
        return
    deletion = Deletion.objects.create(
        kind=Deletion.Kind.REPOSITORY,
        project=repository.project,
        repository=repository,
        path=str(repository),
        purge_after=timezone.now(),
    )
    Repository.objects.filter(pk=repository.pk).update(deletion=deletion)


@pytest.mark.parametrize("with_images", [True, False], ids=["with its images", "its row alone"])
@pytest.mark.parametrize("name", ["member", "pusher", "viewer", "stranger", None])
def test_old_tokens_read_nothing_of_a_deleted_repository(world, docker, name, with_images):
    where = "web" if name in {"pusher", "viewer"} else "public"
    image = docker("member").push(f"{where}/app", "1.0")
    pushes = name in {"member", "pusher"}
    visitor = Visitor(docker(name), f"{where}/app", image, may_push=pushes)
    assert set(visitor.statuses(READ).values()) == {200}
    delete_repository(world.repository(where), with_images=with_images)
    requests = READ | WRITE | DELETE
    if name == "member":  # a user who may read the future repository gets an empty list of referrers
        requests.pop("GET referrers")
    after = visitor.statuses(requests)
    assert set(after.values()) == {401 if name is None else 404}, after
    for catalog in (docker(name).get("_catalog", 200), docker(name, BARE_HOST).get("_catalog", 200)):
        assert f"{where}/app" not in str(catalog.json())


@pytest.mark.parametrize(
    ("name", "status"), [("owner", 401), ("member", 401), ("reader", 401), ("pusher", 404), ("viewer", 404)]
)
def test_repository_recreated_under_its_name_honours_no_old_token(world, docker, name, status):
    """A user with a role on the new repository needs a new token. Roles on the old repository do not apply."""
    pushes = name in {"owner", "member", "pusher"}
    old = docker("member").push("web/app", "1.0", images.Image(layers=[b"old"]))
    visitor = Visitor(docker(name), "web/app", old, may_push=pushes)
    assert set(visitor.statuses(READ).values()) == {200}
    delete_repository(world.repository("web"), with_images=True)
    repositories.create(SYSTEM, world.projects["demo"], "web")
    new = docker("member").push("web/app", "1.0", images.Image(layers=[b"new"]))
    for image in (old, new):
        visitor.image = image
        after = visitor.statuses(READ)
        assert set(after.values()) == {status}, after
        if pushes:
            after = visitor.statuses(WRITE)
            assert set(after.values()) == {status}, after
    if status == 401:
        assert docker(name).pull("web/app", "1.0")[0] == new.manifest


def test_token_issued_before_creation_does_not_grant_the_new_repository(world, docker):
    client = docker("member")
    token = client.token("repository:later/app:pull,push")
    repositories.create(SYSTEM, world.projects["demo"], "later")
    bearer = {"Authorization": f"Bearer {token}"}
    assert client.raw("POST", "/v2/later/app/blobs/uploads/", headers=bearer).status == 401
    docker("member").push("later/app", "1.0")


# ── Every view declares its action ───────────────────────────────────────────────────────────────────────────────────
class Forgetful(RegistryView):
    """A view that declares no action for its methods."""

    def get(self, request):
        return HttpResponse("everything")

    def delete(self, request):
        return HttpResponse("gone")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_view_that_declares_no_action_is_refused(docker, method):
    headers = {"host": PROJECT_HOST, **docker("owner").basic()}
    request = RequestFactory().generic(method, "/v2/", headers=headers)
    assert Forgetful.as_view()(request).status_code == 405
