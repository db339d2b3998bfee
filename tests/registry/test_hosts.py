"""Names and hosts: the meaning of the Host header and of paths, and forged headers."""

from __future__ import annotations

import re
from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from registry import hosts
from registry.errors import NameInvalid, PathUnknown
from registry.hosts import BARE, Host
from registry.middleware import RequestMiddleware
from registry.oci.names import ImageName
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient

SUFFIX = ".kr-central-2.kcr.localhost"


@pytest.mark.parametrize(
    ("header", "project"),
    [
        ("localhost:8080", ""),
        ("localhost", ""),
        ("127.0.0.1:8080", ""),
        ("[::1]:8080", ""),
        ("[::1]", ""),
        ("registry.example.com", ""),
        (f"demo{SUFFIX}", "demo"),
        (f"demo{SUFFIX}:8080", "demo"),
        (f"demo{SUFFIX}:443", "demo"),
        (f"DEMO{SUFFIX.upper()}:8080", "demo"),
        (f"demo{SUFFIX}.", "demo"),
        (f"my-shop-2{SUFFIX}", "my-shop-2"),
        ("demo.kr-central-1.kcr.localhost", ""),  # another region is none of the project hosts
    ],
)
def test_host_header_is_the_bare_host_or_a_project(header, project):
    assert hosts.of_header(header) == Host(project)


@pytest.mark.parametrize(
    "project", ["a", "ab", "1shop", "-shop", "shop-", "a.demo", "xn--80ak6aa92e", "x" * 41, "de_mo"]
)
def test_invalid_project_name_has_no_host(project):
    with pytest.raises(PathUnknown):
        hosts.of_header(f"{project}{SUFFIX}")
    assert hosts.of_service(f"{project}{SUFFIX}:8080") is None


def test_services_and_hosts_convert_into_each_other():
    for host in (BARE, Host("demo"), Host("my-shop-2")):
        assert hosts.of_service(host.service) == host
        assert hosts.of_header(host.service) == host
    assert BARE.service == BARE_HOST
    assert Host("demo").service == PROJECT_HOST


@pytest.mark.parametrize(
    ("url", "bare", "project"),
    [
        ("http://localhost:8080", "localhost:8080", f"demo{SUFFIX}:8080"),
        ("https://registry.example.com", "registry.example.com", f"demo{SUFFIX}"),
        ("https://registry.example.com:8443", "registry.example.com:8443", f"demo{SUFFIX}:8443"),
    ],
)
def test_service_accepts_the_spellings_of_clients(settings, url, bare, project):
    settings.PUBLIC = urlsplit(url)
    assert (BARE.service, Host("demo").service) == (bare, project)
    assert hosts.of_service(bare) == BARE
    assert hosts.of_service(project) == Host("demo")


@pytest.mark.parametrize(
    ("host", "wire_name", "means"),
    [
        (Host("demo"), "web/app", ImageName("demo", "web", "app")),
        (Host("demo"), "web/team/app", ImageName("demo", "web", "team/app")),
        (BARE, "demo/web/app", ImageName("demo", "web", "app")),
        (BARE, "demo/web/team/app", ImageName("demo", "web", "team/app")),
        (Host("demo"), "demo/web/app", ImageName("demo", "demo", "web/app")),
    ],
)
def test_name_is_parsed_and_written_by_its_host(host, wire_name, means):
    assert host.parse(wire_name) == host.find(wire_name) == means
    assert host.spell(means) == wire_name
    assert host.uri(means) == f"{host.service}/{wire_name}"


@pytest.mark.parametrize("host", [BARE, Host("demo")], ids=lambda host: host.service)
@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "/",
            "web",
            "web/",
            "/web/app",
            "web//app",
            "web/app/",
            "WEB/app",
            "web/App",
            "w/app",
            "web/.app",
            "web/a..b",
        ),
        *(
            "../web/app",
            "web/../fixed/app",
            "web/app\n",
            "web/app\0",
            "wéb/app",
            "web/٣",
            "web app/x",
            "web/" + "a" * 250,
        ),
        *("web/app:1", "localhost:8080/web/app", "w" * 65 + "/app"),
    ],
)
def test_invalid_name_is_refused_with_the_expected_form(host, name):
    wire_name = name if host.project else f"demo/{name}"
    with pytest.raises(NameInvalid) as refused:
        host.parse(wire_name)
    form = "repository/image" if host.project else "project/repository/image"
    assert refused.value.message.startswith(f"{form} is the form")
    assert host.find(wire_name) is None


component = st.from_regex(re.compile(r"[a-z0-9]{2,5}((\.|_|__|-)[a-z0-9]{1,4}){0,2}", re.ASCII), fullmatch=True)
project = st.from_regex(re.compile(r"[a-wyz][a-z0-9-]{1,10}[a-z0-9]", re.ASCII), fullmatch=True)


@hypothesis_settings(max_examples=200, deadline=None, database=None)
@given(project=project, repository=component, image=st.lists(component, min_size=1, max_size=4))
def test_any_name_is_written_and_parsed_unchanged_on_both_hosts(project, repository, image):
    name = ImageName(project, repository, "/".join(image))
    for host in (BARE, Host(project)):
        assert host.parse(host.spell(name)) == name
        assert hosts.of_service(host.service) == host


def test_the_bare_host_can_be_turned_off(settings, docker):
    docker("member").push("web/app", "1.0")
    settings.BARE_HOST_NAMES = False
    client = docker("member", BARE_HOST)
    for path in ("/v2/", "/v2/_catalog", "/v2/demo/web/app/tags/list"):
        answer = client.raw("GET", path, headers=client.basic())
        assert answer.status == 404
        assert "project hosts only" in answer.message
    assert client.token_answer().status == 400
    assert client.token_answer(service=PROJECT_HOST).status == 200  # the realm stays at the bare host
    assert docker("member").tags("web/app") == ["1.0"]


def test_a_registry_may_live_inside_its_own_domain(settings):
    """KCR_PUBLIC_URL=https://registry.kr-central-2.kcr.localhost is the bare host, not a project called registry."""
    settings.PUBLIC = urlsplit(f"https://registry{SUFFIX}")
    assert hosts.of_header(f"registry{SUFFIX}") == BARE
    assert hosts.of_header(f"demo{SUFFIX}") == Host("demo")


# ── Over HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "localhost.example.com", "kcr.localhost.example.com", "demo.kr-central-1.kcr.localhost"),
        *(
            "localhost:8080@example.com",
            "localhost:port",
            "localhost:8080, example.com",
            "demo\n.localhost",
            "",
            "[::1",
            "a b",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/web/app/tags/list", f"/token?service={BARE_HOST}"])
def test_unknown_host_is_answered_with_400(world, host, path):
    response = Client().get(path, headers={"host": host}, SERVER_NAME="evil.example.com")
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "NAME_INVALID"
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert "example.com" not in response.content.decode()


@pytest.mark.parametrize(
    "host", [f"a.demo{SUFFIX}", f"xn--80ak6aa92e{SUFFIX}", f"de_mo{SUFFIX}", f"ab{SUFFIX}", SUFFIX.removeprefix(".")]
)
def test_host_of_an_invalid_project_has_no_registry(world, host):
    client = DockerClient(world.member, host)
    for path in ("/v2/", "/v2/web/app/tags/list"):
        for headers in ({}, client.basic(), {"Authorization": "Bearer x"}):
            answer = client.raw("GET", path, headers=headers)
            assert answer.status in {400, 404}
            assert "there is no registry at this host" in answer.message or answer.codes == ["NAME_INVALID"]


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-Host": "lab.kr-central-2.kcr.localhost:8080"},
        {"X-Forwarded-Host": "evil.example.com"},
        {"X-Original-Host": "evil.example.com"},
        {"Forwarded": "host=evil.example.com;proto=https"},
        {"X-Forwarded-Port": "1"},
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Prefix": "/evil"},
        {"X-Script-Name": "/evil"},
        {"X-Original-Url": "/v2/lab/secret/app/tags/list"},
        {"X-Rewrite-Url": "/v2/lab/secret/app/tags/list"},
        {"X-Http-Method-Override": "DELETE"},
    ],
    ids=lambda header: next(iter(header)),
)
def test_forwarding_headers_do_not_change_host_or_path(docker, header):
    docker("member").push("web/app", "1.0")
    client = docker("member")
    challenge = client.raw("GET", "/v2/web/app/tags/list", headers=header).headers["WWW-Authenticate"]
    assert challenge == (
        f'Bearer realm="http://localhost:8080/token",service="{PROJECT_HOST}",scope="repository:web/app:pull"'
    )
    listed = client.raw("GET", "/v2/web/app/tags/list", headers=client.basic() | header)
    assert listed.json() == {"name": "web/app", "tags": ["1.0"]}
    location = client.raw("POST", "/v2/web/app/blobs/uploads/", headers=client.basic() | header).headers["Location"]
    assert location.startswith("/v2/web/app/blobs/uploads/")


@pytest.mark.parametrize(
    ("address", "trusted", "secure"),
    [
        ("10.8.0.1", ["10.8.0.0/24"], True),
        ("::ffff:10.8.0.1", ["10.8.0.0/24"], True),
        ("192.0.2.1", ["10.8.0.0/24"], False),
        ("10.8.0.1", [], False),
    ],
)
def test_x_forwarded_proto_is_believed_from_trusted_proxies_only(settings, address, trusted, secure):
    """docs/reference/settings.md: X-Forwarded-For and -Proto are believed from the networks of KCR_TRUSTED_PROXIES."""
    settings.TRUSTED_PROXIES = [ip_network(network) for network in trusted]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if trusted else None
    seen = []
    middleware = RequestMiddleware(
        lambda request: seen.append((request.is_secure(), request.META["REMOTE_ADDR"])) or HttpResponse()
    )
    headers = {"host": BARE_HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}
    middleware(RequestFactory().get("/", headers=headers, REMOTE_ADDR=address))
    assert seen == [(secure, "198.51.100.1" if secure else address)]


def test_locations_and_links_are_relative(docker):
    """A wrong scheme or Host can neither break nor poison them."""
    client = docker("member")
    image = client.push("web/app", "1.0")
    client.push("web/app", "2.0", image)
    location = client.start("web/app").headers["Location"]
    assert location.startswith("/v2/")
    assert (
        client.push_manifest("web/app", "3.0", image.manifest).headers["Location"].startswith("/v2/web/app/manifests/")
    )
    assert client.get("web/app/tags/list?n=1", 200).headers["Link"].startswith("</v2/web/app/tags/list?")


def test_both_hosts_share_everything_but_tokens(docker):
    """This includes a tag, a deletion and an upload that were written through one of them."""
    here, bare = docker("member"), docker("member", BARE_HOST)
    image = bare.push("demo/web/app", "1.0")
    assert here.tags("web/app") == ["1.0"]
    upload = bare.start("demo/web/app").headers["Location"].rpartition("/")[2]
    here.get(f"web/app/blobs/uploads/{upload}", 204)
    here.delete(f"web/app/manifests/{image.digest}", 202)
    assert bare.tags("demo/web/app") == []
    bare.get("web/app/tags/list", 404)  # project, repository, image: one is missing here
