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
    """End the run on SIGTERM as on Ctrl-C, so that no daemon and no mount remains."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def registry_server() -> Iterator[Server]:
    """A running KCR without people; see ``people``.

    It uses SQLite, or PostgreSQL and Redis with ``KCR_TEST_DATABASE=postgresql``.
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
    """The host of the project ``demo``, under a name that this machine resolves."""
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
    """Another machine with Docker, without the images of the first one."""
    with DockerDaemon("other-docker") as daemon:
        yield daemon


@pytest.fixture
def home() -> Iterator[ContainersHome]:
    """A fresh machine with podman, buildah and skopeo."""
    with ContainersHome("home") as made:
        yield made


@pytest.fixture
def other_home() -> Iterator[ContainersHome]:
    """Another such machine."""
    with ContainersHome("other-home") as made:
        yield made


@pytest.fixture
def image(request: pytest.FixtureRequest) -> Image:
    """A small image that no other test uses."""
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
