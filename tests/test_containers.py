"""The image and docker-compose.yml: privileges and base images of containers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.images import sha256
from tests.support.programs import RedisServer, environment_for, require, run, unavailable
from tests.support.server import LiveServer

SOURCE = Path(__file__).resolve().parents[1]
COMPOSE = (SOURCE / "docker-compose.yml").read_text()
DOCKERFILE = (SOURCE / "Dockerfile").read_text()
DIGEST = r"@sha256:[0-9a-f]{64}$"
#: A line of a block that is indented by at least so many spaces, comments and empty lines left out.
_ENTRY = r"((?:(?: {%d}.*)?\n)+)"


def _blocks(text: str, indent: int) -> dict[str, str]:
    """Return the lines below every mapping of this indent by name."""
    lines = "".join(line for line in text.splitlines(keepends=True) if not re.match(r"\s*(#|$)", line))
    return dict(re.findall(rf"^ {{{indent}}}([\w-]+):(?: &\w+)?\n{_ENTRY % (indent + 2)}", lines, re.MULTILINE))


TOP = _blocks(COMPOSE, 0)
#: Each service with its lines and those of its ``x-`` blocks.
SERVICES = {
    name: text + (TOP["x-kcr"] if "<<: *kcr\n" in text else "") + (TOP["x-hardened"] if "<<: *" in text else "")
    for name, text in _blocks(TOP["services"], 2).items()
}
#: Root there gives each run of Trivy its own user. The service has no network and no settings.
RUNS_AS_ROOT = {"trivy": {"CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETPCAP", "SETUID"}}
FOREIGN = [name for name, text in SERVICES.items() if "    build:" not in text and "  build:" not in text]


def said(name: str, key: str) -> list[str]:
    """Return the value or list of a key of a service."""
    found = re.search(rf"^ +{key}: ?(?:&\w+)?(.*)\n((?: +- .*\n)*)", SERVICES[name], re.MULTILINE)
    assert found, f"{name} says nothing of {key}"
    return [found[1]] if found[1] else re.findall(r"- (.*)", found[2])


def test_all_services_were_read():
    assert {"web", "worker", "beat", "postgres", "redis"} < set(SERVICES)
    assert {"postgres", "redis"} == set(FOREIGN)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privileges(name):
    assert said(name, "cap_drop") == ["ALL"]
    assert "no-new-privileges:true" in said(name, "security_opt")
    assert not re.search(r"privileged: true|pid:|ipc:|devices:|network_mode: *host|unconfined", SERVICES[name])
    if "cap_add:" in SERVICES[name]:
        assert set(said(name, "cap_add")) <= RUNS_AS_ROOT[name]


@pytest.mark.parametrize("name", SERVICES)
def test_service_writes_only_to_its_volumes_and_to_memory(name):
    assert said(name, "read_only") == ["true"]
    assert any(place.partition(":")[0] == "/tmp" for place in said(name, "tmpfs"))
    for volume in said(name, "volumes"):
        assert f"  {volume.partition(':')[0]}:\n" in TOP["volumes"], "no folder of the machine"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_not_run_by_root(name):
    if name in RUNS_AS_ROOT:
        assert said(name, "network_mode") == ["none"]
        assert not re.search(r"environment:|KCR_|PASSWORD", SERVICES[name])
        return
    users = said(name, "user") if "user:" in SERVICES[name] else re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert all(re.fullmatch(r"postgres|redis|[1-9]\d*:[1-9]\d*", user) for user in users)


@pytest.mark.parametrize("name", FOREIGN)
def test_external_image_is_named_by_digest(name):
    assert re.search(DIGEST, said(name, "image")[0])


def test_the_base_image_is_named_by_digest():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert bases
    assert all(re.search(DIGEST, base) for base in bases)


def test_only_the_web_server_has_a_port_and_only_on_loopback():
    assert [name for name, text in SERVICES.items() if "ports:" in text] == ["web"]
    assert said("web", "ports") == ['"127.0.0.1:8080:8080"']


@pytest.mark.parametrize("name", ["web", "postgres", "redis"])
def test_service_that_others_wait_for_has_a_health_check(name):
    assert "healthcheck:" in SERVICES[name]


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────
class ComposedRedis(RedisServer):
    """Debian's Redis, started by the command of docker-compose.yml."""

    password = "secretofredis"

    def start(self) -> None:
        """Start the server; only its port and folder are those of this test."""
        script = re.search(r"- \|\n((?: {8}.*\n)+)", COMPOSE.partition("\n  redis:\n")[2])[1]
        script = re.sub(r"^ {8}", "", script, flags=re.MULTILINE).replace("$$", "$")
        script = script.replace("<<END\n", f"<<END\nport {self.port}\nbind 127.0.0.1\ndir {self.folder}\n")
        require("redis-server")
        self.launch(["sh", "-c", script], self.environment)
        assert self.await_ready(lambda: run(self.check, environment=self.environment, succeeds=None).status == 0)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the service."""
        assert "REDISCLI_AUTH: ${REDIS_PASSWORD:?" in SERVICES["redis"]
        return environment_for(self.folder, REDISCLI_AUTH=self.password)

    @property
    def check(self) -> list[str]:
        """The health check of the service."""
        command = re.search(r'test: \["CMD-SHELL", "(.*)"\]', SERVICES["redis"])[1]
        return ["sh", "-c", command.replace("redis-cli ", f"redis-cli -p {self.port} ")]


@pytest.mark.real
def test_no_command_line_shows_the_password_of_redis():
    with ComposedRedis() as redis:
        shown = Path(f"/proc/{redis.process.pid}/cmdline").read_bytes()
        assert b"redis-server" in shown
        assert b"END" not in shown
        assert redis.password.encode() not in shown
        assert not any("AUTH" in word or redis.password in word for word in redis.check)
        assert "NOAUTH" in run([require("redis-cli"), "-p", str(redis.port), "ping"], succeeds=None).text
        assert redis.stop() == 0


# ── Read-only file system ────────────────────────────────────────────────────────────────────────────────────────────
class ConfinedServer(LiveServer):
    """A server with the write access of a container of docker-compose.yml: its data folder, and /tmp in memory."""

    #: In a separate mount namespace: mounts the data, then makes everything else read-only. A copy of the source below
    #: /tmp stays readable.
    SCRIPT = (
        'mount --bind "$1" /mnt && mount --bind "$2" /media && mount --options remount,bind,ro /media'
        " && mount --options remount,bind,ro / && mount --types tmpfs tmpfs /tmp"
        ' && { [ -e "$2" ] || { mkdir --parents "$2" && mount --bind /media "$2"'
        ' && mount --options remount,bind,ro "$2"; }; }'
        ' && cd "$2" && shift 2 && exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"'
    )

    def command(self, *arguments: str) -> list[str]:
        """The command line of ``manage.py``, confined."""
        script = ["sh", "-c", self.SCRIPT, "confined", str(self.data), str(SOURCE)]
        return [*UNSHARE, *script, *super().command(*arguments)]

    @property
    def environment(self) -> dict[str, str]:
        """The environment with the mounted data folder."""
        return super().environment | {"KCR_DATA_DIR": "/mnt", "HOME": "/mnt", "PYTHONDONTWRITEBYTECODE": "1"}


UNSHARE = ["unshare", "--mount", "--propagation=private"]


@pytest.mark.real
@pytest.mark.sqlite_only
def test_the_server_needs_no_other_place_to_write():
    require("setpriv")
    if run([*UNSHARE, "mount", "--types", "tmpfs", "tmpfs", "/mnt"], succeeds=None).status:
        unavailable("this test needs the right to mount")
    with ConfinedServer("confined") as server:
        api = server.people().api()
        data = b"the bytes of a layer"
        assert api.push_blob(data) == 201
        assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data
        touched = run(
            [*UNSHARE, "sh", "-c", server.SCRIPT, "confined", str(server.data), str(SOURCE), "touch", "/var/tmp/x"],
            succeeds=None,
        )
        assert "Read-only file system" in touched.errors
