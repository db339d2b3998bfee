"""Shared fixtures: a database for this process, an empty storage for each test, the world of personas."""

from __future__ import annotations

import os
from copy import deepcopy
from typing import TYPE_CHECKING

import hypothesis
import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.cache import cache

from accounts import keys, tokens
from accounts.models import Organization
from registry.statistics.pulls import counter
from tests.support.docker_client import PROJECT_HOST, DockerClient
from tests.support.logs import lines_with_secrets, no_secret_is_logged  # noqa: F401  fixtures
from tests.support.network import loopback_only, mail_server, receiver, resolver  # noqa: F401  fixtures
from tests.support.personas import World, make_world
from tests.support.s3 import bucket, seaweed, swift  # noqa: F401  fixtures
from tests.support.server import empty_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from accounts.models import Project
    from registry.models import Repository


# No test depends on the speed of the machine.
hypothesis.settings.register_profile(
    "kcr",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("kcr")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Use SQLite in a file, as in production: in-memory databases have no WAL and no other processes."""
    from django.conf import settings

    database = settings.DATABASES["default"]
    asked_for = os.environ.get("KCR_TEST_DATABASE", "sqlite")
    assert database["ENGINE"].endswith(asked_for), f"the tests were to use {asked_for}, and use {database['ENGINE']}"
    if database["ENGINE"].endswith("sqlite"):
        file = settings.DATA_DIR / "test.sqlite3"
        file.write_bytes(empty_database())
        database["TEST"]["NAME"] = str(file)


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Keep the copy of a migrated SQLite database. On PostgreSQL, each test process migrates."""
    from django.conf import settings

    return str(settings.DATABASES["default"]["ENGINE"]).endswith("sqlite")


@pytest.fixture(autouse=True, scope="session")
def columns_have_a_length() -> Iterator[None]:
    """Refuse texts longer than their column on SQLite too, as PostgreSQL does."""
    from django.db.models import CharField

    def prepared(field: CharField, value: object, connection: object) -> object:
        assert not isinstance(value, str) or len(value) <= (field.max_length or len(value)), (
            f"{field}: at most {field.max_length} characters, these are {len(value)}"
        )
        return as_ever(field, value, connection)

    as_ever = CharField.get_db_prep_save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CharField, "get_db_prep_save", prepared)
        yield


@pytest.fixture(autouse=True, scope="session")
def cheap_password_hashes() -> Iterator[None]:
    """Hash passwords with Argon2 at its lowest cost: the hundreds of hashes of a run would take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, cost in {"time_cost": 1, "memory_cost": 8, "parallelism": 1}.items():
            patch.setattr(Argon2PasswordHasher, name, cost)
        yield


@pytest.fixture(autouse=True, scope="session")
def both_ways() -> Iterator[None]:
    """Let every test client ask as registry.wsgi does."""
    from tests.support.both_ways import BothWays

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.test.client.ClientHandler", BothWays)
        yield


@pytest.fixture(autouse=True)
def memory_of_the_process() -> None:
    """Clear the caches of this process before each test."""
    tokens.forget_keys()
    keys.last_used.clear()
    counter.clear()
    cache.clear()


@pytest.fixture(autouse=True)
def storage_folder(settings: object, tmp_path: Path) -> Path:
    """Give each test its own folder for blobs."""
    folder = tmp_path / "storage"
    settings.STORAGES = settings.STORAGES | {  # type: ignore[attr-defined]
        "blobs": {
            "BACKEND": "registry.storage.filesystem.FileSystemBlobStorage",
            "OPTIONS": {"location": folder},
        },
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    return folder


@pytest.fixture(scope="session")
def made_world(django_db_setup: None, django_db_blocker: object) -> World:
    """Create the world once. Changes of each test are rolled back."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        return make_world()


@pytest.fixture
def world(made_world: World, db: None) -> World:
    """The people, projects and repositories of tests.support.personas."""
    if not Organization.objects.exists():  # a transactional test has emptied the database
        return make_world()
    return deepcopy(made_world)


@pytest.fixture
def project(world: World) -> Project:
    """The project demo."""
    return world.projects["demo"]


@pytest.fixture
def web(world: World) -> Repository:
    """The repository demo/web."""
    return world.repository("web")


@pytest.fixture
def docker(world: World) -> Callable[..., DockerClient]:
    """``docker("viewer")`` is the client of that persona, ``docker(None)`` an anonymous client."""

    def make(name: str | None, host: str = PROJECT_HOST) -> DockerClient:
        return DockerClient(world.people[name] if name else None, host)

    return make
