"""The image, docker-compose.yml and deploy/nginx: privileges, references, and what the settings are."""

from __future__ import annotations

import re
import stat
import sys
from collections import ChainMap
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry import env
from tests.support.documents import blocks
from tests.support.images import sha256
from tests.support.nginx import COMPOSED
from tests.support.programs import RedisServer, environment_for, require, run, search_path, unavailable
from tests.support.server import LiveServer

SOURCE = Path(__file__).resolve().parents[1]
TEXT = (SOURCE / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (SOURCE / "Dockerfile").read_text()
DIGEST = r"@sha256:[0-9a-f]{64}$"
#: Root there gives each run of Trivy its own user. The service has no network and no settings.
RUNS_AS_ROOT = {"trivy": {"CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETPCAP", "SETUID"}}
FOREIGN = [name for name, service in SERVICES.items() if "build" not in service]
OURS = [name for name, service in SERVICES.items() if "build" in service and name not in RUNS_AS_ROOT]
#: Read before there is a container, or by quickstart only.
NOT_OF_CONTAINERS = {"KCR_DATA_DIR", "KCR_LISTEN", "KCR_ADMIN_EMAIL", "KCR_ADMIN_PASSWORD"}


def interpolated(text: str, **values: str) -> str:
    """Replace ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?words}`` as Compose does."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if kind == ":?":
            return values[name]
        return values.get(name) or rest or ""

    return re.sub(r"(?<!\$)\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text).replace("$$", "$")


def test_all_services_were_read():
    assert {"web", "worker", "scanner", "beat", "migrate", "bucket"} == set(OURS)
    assert {"nginx", "postgres", "redis", "seaweedfs"} == set(FOREIGN)


@pytest.mark.real
def test_file_is_valid_for_compose():
    """The schema is that of the Compose specification."""
    checker = [require("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    run([*checker, str(SOURCE / "docker-compose.yml")], environment=environment_for(SOURCE))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privileges(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "pid", "ipc", "devices"} & set(service)
    assert service.get("network_mode", "none") == "none"
    assert set(service.get("cap_add", ())) <= RUNS_AS_ROOT.get(name, set())


@pytest.mark.parametrize("name", SERVICES)
def test_service_writes_only_to_its_volumes_and_to_memory(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert any(place.partition(":")[0] == "/tmp" for place in service["tmpfs"])
    for volume in service["volumes"]:
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or volume.endswith(":ro"), "a folder of the machine"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_not_run_by_root(name):
    service = SERVICES[name]
    if name in RUNS_AS_ROOT:
        assert service["network_mode"] == "none"
        assert "environment" not in service
        return
    users = [service["user"]] if "user" in service else re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert all(re.fullmatch(r"postgres|redis|nginx|[1-9]\d*:[1-9]\d*", user) for user in users)


@pytest.mark.parametrize("name", FOREIGN)
def test_external_image_is_named_by_digest(name):
    assert re.search(DIGEST, SERVICES[name]["image"])


def test_the_base_image_is_named_by_digest():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert bases
    assert all(re.search(DIGEST, base) for base in bases)


def test_only_nginx_has_ports_and_only_on_loopback_unless_settings_say_more():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    published = [interpolated(port) for port in SERVICES["nginx"]["ports"]]
    assert published == ["127.0.0.1:8080:8080", "127.0.0.1:8443:8443", "127.0.0.1:8333:8333"]
    assert interpolated(SERVICES["nginx"]["ports"][1], HTTPS_PORT="443") == "443:8443"


# ── References ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_services_wait_for_services_that_exist_and_can_be_waited_for():
    for name, service in SERVICES.items():
        wanted = service.get("depends_on", {})
        for other in wanted:
            how = wanted[other] if isinstance(wanted, dict) else {}
            assert set(SERVICES[other].get("profiles", ())) <= set(service.get("profiles", ())), f"{name}: {other}"
            condition = how.get("condition", "service_started")
            assert condition != "service_healthy" or "healthcheck" in SERVICES[other], other
            assert condition != "service_completed_successfully" or SERVICES[other]["restart"] == "no", other


def test_nginx_waits_for_web_servers_that_are_healthy():
    """``docker compose up --detach`` ends when KCR answers."""
    assert SERVICES["nginx"]["depends_on"] == {"web": {"condition": "service_healthy"}}
    assert "HEALTHCHECK" in DOCKERFILE
    assert SERVICES["web"]["healthcheck"] == {"disable": False}


def test_postgresql_is_healthy_when_other_containers_can_connect():
    """The image sets up its database with a server that answers at its socket only, and stops it."""
    assert "--host=127.0.0.1" in SERVICES["postgres"]["healthcheck"]["test"]


def test_volumes_are_declared_and_used():
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {source for source in used if not source.startswith((".", "$"))} == set(COMPOSE["volumes"])


def test_addresses_in_settings_and_in_nginx_are_those_of_services():
    settings = SERVICES["web"]["environment"]
    assert re.search(r"@(\w+):5432/", settings["KCR_DATABASE_URL"])[1] in SERVICES
    assert re.search(r"@(\w+):6379/", settings["KCR_REDIS_URL"])[1] in SERVICES
    upstreams = re.findall(r"^ +server (\w+):(\d+) ", (COMPOSED / "nginx.conf").read_text(), re.MULTILINE)
    assert upstreams == [("web", "8080"), ("seaweedfs", "8333")]
    assert re.search(r"KCR_LISTEN=0\.0\.0\.0:8080$", DOCKERFILE, re.MULTILINE)
    assert "-s3.ip.bind=0.0.0.0 -s3.port=8333 " in SERVICES["seaweedfs"]["entrypoint"][2]
    storage = env.storage_at(re.search(r"KCR_STORAGE_URL=(\S+)", TEXT)[1])
    assert storage["OPTIONS"]["endpoint_url"] == "http://seaweedfs:8333"
    assert storage["OPTIONS"]["presign_from"] is None, "clients cannot reach that address"


@pytest.mark.parametrize("kind", ["http", "https"])
def test_nginx_listens_on_the_ports_that_are_published_and_reads_files_that_are_mounted(kind):
    mounted = dict(reversed(interpolated(volume, NGINX=kind).split(":")[:2]) for volume in SERVICES["nginx"]["volumes"])
    assert (SOURCE / mounted["/etc/nginx/server.conf"]).samefile(COMPOSED / f"{kind}.conf")
    assert (SOURCE / mounted["/etc/nginx/kcr"]).samefile(COMPOSED)
    assert "nginx -c /etc/nginx/kcr/nginx.conf " in SERVICES["nginx"]["entrypoint"]
    text = "".join((COMPOSED / name).read_text() for name in ("nginx.conf", f"{kind}.conf"))
    for included in re.findall(r"include (\S+);|ssl_certificate\w* (\S+);", text):
        folder, _, name = "".join(included).rpartition("/")
        assert folder in {*mounted, "/etc/nginx"}
        assert folder != "/etc/nginx/kcr" or (COMPOSED / name).exists()
    inside = {port.rpartition(":")[2] for port in SERVICES["nginx"]["ports"]}
    assert set(re.findall(r"listen (\d+)", text)) == inside - ({"8443"} if kind == "http" else set())


def test_nginx_is_the_proxy_that_kcr_trusts():
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert SERVICES["web"]["environment"]["KCR_TRUSTED_PROXIES"] == network["subnet"]
    assert "networks" not in ChainMap(*SERVICES.values())


def test_nginx_of_containers_serves_as_the_documented_one():
    """Only the lines about Docker differ."""
    same = (COMPOSED / "registry.conf").read_text().partition("\n\n")[2]
    indented = re.sub(r"^(?=.)", "    ", same, flags=re.MULTILINE)
    headers, locations = indented.split("    proxy_send_timeout", 1)
    documented = (SOURCE / "docs" / "operate" / "tls.md").read_text()
    assert headers.replace("    proxy_http_version 1.1;\n", "") in documented
    assert "    proxy_send_timeout" + locations in documented


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_documented_setting_can_be_set_and_no_other():
    documented = set(re.findall(r"^\| `(KCR_\w+)`", (SOURCE / "docs/reference/settings.md").read_text(), re.MULTILINE))
    assert len(documented) > 20
    of_traces = set(re.findall(r"`(OTEL_\w+)", (SOURCE / "docs/operate/monitoring.md").read_text())) - {
        "OTEL_SERVICE_NAME"
    }
    others = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} | of_traces
    for name in OURS:
        assert set(SERVICES[name]["environment"]) == (documented - NOT_OF_CONTAINERS) | others, name


def test_variables_of_the_file_are_those_of_settings_or_told_in_the_documents():
    told = (SOURCE / "docs/operate/install.md").read_text() + (SOURCE / "docs/operate/monitoring.md").read_text()
    for name in set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT)):
        assert name.startswith("KCR_") or re.search(rf"`{name}[`=]", told), name


@pytest.mark.real
def test_documented_env_has_the_variables_of_the_file(tmp_path):
    """docs/operate/install.md, "Containers": its commands, with a docker that writes down its arguments."""
    require("openssl")
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n')
    program.chmod(0o700)
    environment = environment_for(tmp_path, PATH=f"{tmp_path}:{search_path()}")
    chosen = []
    for block in blocks("install.md", "Containers"):
        run(["sh", "-ec", block], environment=environment, directory=tmp_path)
        lines = (tmp_path / ".env").read_text().splitlines()
        chosen.append(dict(line.split("=", 1) for line in lines))
        assert len(lines) == len(chosen[-1]), "a variable is set twice"
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    first, production = chosen
    assert set(first) == set(re.findall(r"(?<!\$)\$\{(\w+):\?", TEXT))
    assert set(production) - {"COMPOSE_PROFILES"} <= set(re.findall(r"\$\{(\w+)", TEXT))
    assert production["COMPOSE_PROFILES"] in SERVICES["seaweedfs"]["profiles"]
    assert (COMPOSED / f"{production['NGINX']}.conf").exists()
    assert env.storage_at(production["KCR_STORAGE_URL"])["OPTIONS"]["endpoint_url"] == "http://seaweedfs:8333"
    calls = (tmp_path / "calls").read_text().splitlines()
    services = [words.split()[2] for words in calls if words.startswith("compose exec ")]
    assert services == ["web"]


def test_seaweedfs_without_keys_does_not_start(tmp_path):
    """It would let strangers in."""
    shell, option, script = SERVICES["seaweedfs"]["entrypoint"]
    environment = environment_for(tmp_path, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="")
    refused = run([shell, option, script.replace("$$", "$")], environment=environment, succeeds=False)
    assert "AWS_SECRET_ACCESS_KEY" in refused.errors
    assert "open for all" in refused.errors


#: Loads what processes of the file load, with the packages of its arguments and no other.
LOADS = """
import re, sys
from importlib.metadata import packages_distributions
owners = packages_distributions()
hidden = {module for module, names in owners.items() if not {re.sub("[-_.]+", "-", name).lower() for name in names} & set(sys.argv)}
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import django
django.setup()
from registry.celery import app
from registry.storage import blob_storage
from registry import wsgi
from registry.management.commands import serve
app.connection_for_read()
blob_storage().client
"""


def test_image_has_the_packages_that_its_processes_load(tmp_path):
    """The development environment has more: a package that is missing in the lock would be missing in the image only."""
    settings = SERVICES["web"]["environment"]
    chosen = {
        name: interpolated(
            settings[name], POSTGRES_PASSWORD="a", REDIS_PASSWORD="b", KCR_STORAGE_URL="s3://kcr?region=x"
        )
        for name in ("KCR_DATABASE_URL", "KCR_REDIS_URL", "KCR_STORAGE_URL")
    }
    environment = environment_for(tmp_path, **chosen, DJANGO_SETTINGS_MODULE="registry.settings")
    locked = re.findall(r"^([\w.-]+)==", (SOURCE / "requirements.txt").read_text(), re.MULTILINE)
    run([sys.executable, "-c", LOADS, *locked], environment=environment, directory=SOURCE)


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────
class ComposedRedis(RedisServer):
    """Debian's Redis, started by the command of docker-compose.yml."""

    password = "secretofredis"

    def start(self) -> None:
        """Start the server; only its port and folder are those of this test."""
        *_, script = SERVICES["redis"]["command"]
        script = script.replace("$$", "$")
        script = script.replace("<<END\n", f"<<END\nport {self.port}\nbind 127.0.0.1\ndir {self.folder}\n")
        require("redis-server")
        self.launch(["sh", "-c", script], self.environment)
        assert self.await_ready(lambda: run(self.check, environment=self.environment, succeeds=None).status == 0)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the service."""
        assert SERVICES["redis"]["environment"]["REDISCLI_AUTH"].startswith("${REDIS_PASSWORD:?")
        return environment_for(self.folder, REDISCLI_AUTH=self.password)

    @property
    def check(self) -> list[str]:
        """The health check of the service."""
        _, command = SERVICES["redis"]["healthcheck"]["test"]
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

    def python(self, *arguments: str) -> list[str]:
        """The command line of the interpreter, confined."""
        script = ["sh", "-c", self.SCRIPT, "confined", str(self.data), str(SOURCE)]
        return [*UNSHARE, *script, *super().python(*arguments)]

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
