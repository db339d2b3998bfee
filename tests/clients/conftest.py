"""One server with its people, two machines with Docker, and homes for podman, buildah and skopeo."""

import contextlib
import os
import signal
import socket
from collections.abc import Generator, Iterator

import pytest

from tests.support.images import Image
from tests.support.programs import ContainersHome, DockerDaemon, PostgresServer, RedisServer, unavailable
from tests.support.server import People, Server


@pytest.fixture(scope="session", autouse=True)
def stopping_cleans_up() -> None:
    """SIGTERM ends the run as Ctrl-C does, so that no daemon and no mount stays behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def registry_server() -> Iterator[Server]:
    """A running KCR without people; see ``people``.

    It runs as it comes, on SQLite; with ``KCR_TEST_DATABASE=postgresql`` on PostgreSQL and Redis.
    """
    with contextlib.ExitStack() as parts:
        settings = {}
        if os.environ.get("KCR_TEST_DATABASE") == "postgresql":
            settings["KCR_DATABASE_URL"] = parts.enter_context(PostgresServer()).url
            settings["KCR_REDIS_URL"] = parts.enter_context(RedisServer()).url
        yield parts.enter_context(Server("clients", settings))


@pytest.fixture(scope="session")
def people(registry_server: Server) -> People:
    """The people of the server, its project and its repositories."""
    return People(registry_server)


@pytest.fixture(scope="session")
def project_host(registry_server: Server) -> str:
    """The host of the project ``demo``, where this machine finds it."""
    host = registry_server.project_host()
    name = host.partition(":")[0]
    try:
        socket.getaddrinfo(name, registry_server.port)
    except socket.gaierror:
        unavailable(f"this machine does not know {name}: add the line '127.0.0.1 {name}' to /etc/hosts")
    return host


@pytest.fixture(scope="session")
def docker() -> Iterator[DockerDaemon]:
    """A machine with Docker."""
    with DockerDaemon("docker") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def other_docker() -> Iterator[DockerDaemon]:
    """Another machine with Docker, which has none of the first one's images."""
    with DockerDaemon("other-docker") as daemon:
        yield daemon


@pytest.fixture
def home() -> Iterator[ContainersHome]:
    """A machine with podman, buildah and skopeo, on which nobody has done anything yet."""
    with ContainersHome("home") as made:
        yield made


@pytest.fixture
def other_home() -> Iterator[ContainersHome]:
    """Another such machine."""
    with ContainersHome("other-home") as made:
        yield made


@pytest.fixture
def image(request: pytest.FixtureRequest) -> Image:
    """A small image that no other test has."""
    return Image.random(request.node.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the server's log with a test that failed."""
    report = yield
    server = getattr(item, "funcargs", {}).get("registry_server")
    if report.failed and server is not None:
        report.sections.append(("log of the server", server.said()))
    return report
