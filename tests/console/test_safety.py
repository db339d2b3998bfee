"""Safety of every page: escaped texts, no foreign files, no change by GET, CSRF tokens."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from registry import images, repositories
from registry.models import Event, Image, Manifest, Tag
from scanning import acceptances
from scanning.models import DatabaseRefresh, Report, Scan
from tests.console.test_matrix import PAGES
from tests.support.factories import found, make_report
from tests.support.images import Image as Pushed
from tests.support.images import descriptor, image_of, sha256
from tests.support.pages import dangers

MADE = {"deletion", "run", "uid", "subscription"}  # arguments of objects that these tests do not create
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>javascript:alert(1)"


PARTS = 4  # the pages are checked in so many parts, side by side


def pages_of(part: int, *, left_out: frozenset[str] | set[str] = frozenset(), posted: bool = False) -> list[str]:
    """Return a part of the pages; without ``posted`` only those that answer GET."""
    wanted = (name for name, row in PAGES.items() if name not in left_out and (posted or not MADE & row[1].keys()))
    return sorted(wanted)[part::PARTS]


@pytest.fixture
def hostile(docker, pushed, world):
    """Every text that users can choose is hostile."""
    evil = image_of(EVIL, Labels={EVIL: EVIL}, Env=[EVIL], User=EVIL, Entrypoint=[EVIL])
    subject = {"subject": descriptor(evil.manifest, evil.media_type), "artifactType": "application/x"}
    evil = Pushed(evil.config, evil.layers, {"annotations": {EVIL: EVIL}})
    docker("member").push("web/app", "evil", evil)
    referrer = image_of("referrer")
    referrer = Pushed(referrer.config, referrer.layers, subject | {"annotations": {EVIL: EVIL}})
    docker("member").push("web/app", referrer.digest, referrer)
    web = world.repository("web")
    repositories.update(
        world.member.actor,
        web,
        description=EVIL[:100],
        readme=f"{EVIL}\n\n[x](javascript:x) ![x](http://evil.test/x.png)",
    )
    images.update(world.member.actor, Image.objects.get(path="demo/web/app"), description=EVIL[:100])
    for person in world.people.values():
        person.user.name = EVIL[:100]
        person.user.save()
    project = world.projects["demo"]
    project.display_name, project.description = EVIL[:100], EVIL
    project.save()
    Event.objects.update(actor=EVIL, client=EVIL, address="<b>")
    manifest = Manifest.objects.get(digest=evil.digest)
    more = {"title": EVIL, "path": EVIL, "layer": sha256(evil.layers[0]), "kind": EVIL[:50]}
    bad = found(EVIL[:100], EVIL, EVIL, fixed=EVIL, **more, url="javascript:alert(1)")
    make_report(manifest, [bad], system=EVIL[:100])
    make_report(manifest, [bad, found("CVE-1", EVIL, url="https://evil.test/")], system=EVIL[:100])
    acceptances.accept(world.member.actor, project, EVIL[:100], reason=EVIL, covers_fixed=True)
    Scan.objects.update(requested_by=EVIL, detail=EVIL)
    referred = Manifest.objects.get(digest=referrer.digest)
    Report.objects.create(manifest=referred, state="failed", problem="other", detail=EVIL)
    DatabaseRefresh.objects.create(source=EVIL, problem=EVIL, updated_at=timezone.now() - timedelta(days=9))
    return pushed


@pytest.mark.parametrize("part", range(PARTS))
def test_user_texts_are_escaped_on_every_page(console, hostile, subtests, part):
    browser = console("owner")
    words = {"q": EVIL, "image": EVIL, "tag": EVIL, "who": EVIL, "digest": EVIL, "seen": EVIL}
    words |= {"vulnerability": EVIL[:100], "package": EVIL, "with": EVIL}
    for page in pages_of(part, left_out={name for name in PAGES if "csv" in name}):
        with subtests.test(page):
            reference = {"reference": "evil"} if "reference" in PAGES[page][1] else {}
            answer = browser.get(reverse(f"console:{page}", kwargs=PAGES[page][1] | reference), words)
            if "text/html" in answer.headers.get("Content-Type", ""):
                assert dangers(answer.content.decode()) == []
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["Cache-Control"] == "no-store"


def test_parser_detects_dangerous_markup():
    """Control."""
    page = "<a href='javascript:x'>a</a><p onclick=x style=y></p><script>z</script><img src='//evil.test/x'>"
    assert dangers(page) == ["a javascript:x", "p onclick", "p style", "script", "img //evil.test/x"]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_post_needs_its_token(console, pushed, subtests, part):
    browser = console("owner", enforce_csrf_checks=True)
    for page in pages_of(part, left_out={"unsubscribe"}, posted=True):  # mail programs have no token (RFC 8058)
        with subtests.test(page):
            words = {name: value or 1 for name, value in PAGES[page][1].items()}
            assert browser.post(reverse(f"console:{page}", kwargs=words)).status_code == 403


@pytest.mark.parametrize("part", range(PARTS))
def test_a_get_changes_nothing(console, pushed, subtests, part):
    def counts():
        return Event.objects.count(), Tag.objects.live().count(), Image.objects.live().count()

    browser, before = console("owner"), counts()
    for page in pages_of(part):
        with subtests.test(page):
            address = reverse(f"console:{page}", kwargs=PAGES[page][1])
            answer = browser.get(address, {"sure": "yes", "typed": "web", "act": "run"})
            list(getattr(answer, "streaming_content", ()))
            assert counts() == before


def test_registry_ignores_console_sessions(console, pushed):
    assert console("owner").get("/v2/demo/web/app/manifests/1.0").status_code == 401


REGION = "kr-central-2.kcr.localhost"


@pytest.mark.parametrize(
    "host",
    [
        *(f"demo.{REGION}:8080", f"DEMO.{REGION}", f"lab.{REGION}", f"nobody.{REGION}:8080"),
        *(f"x.y.{REGION}", f"ab.{REGION}", f"-.{REGION}", f"xn--80ak6aa92e.{REGION}", REGION, f"{REGION}:8080"),
    ],
)
@pytest.mark.parametrize("bare", [True, False])
def test_every_other_host_sends_browsers_to_the_console(console, world, settings, host, bare):
    settings.BARE_HOST_NAMES = bare
    settings.FURTHER_HOSTS = [*settings.FURTHER_HOSTS, "*", ".localhost"]
    answer = console("owner").get("/projects/demo/?a=b", headers={"host": host})
    assert (answer.status_code, answer.url) == (302, "http://localhost:8080/projects/demo/?a=b")


@pytest.mark.parametrize("host", ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", f"registry.{REGION}"])
def test_the_console_is_at_the_bare_hosts(console, world, settings, host):
    settings.FURTHER_HOSTS = [*settings.FURTHER_HOSTS, f"registry.{REGION}"]
    assert console("owner").get("/projects/demo/", headers={"host": host}).status_code == 200


NONSENSE = (
    "?sort=user__password",
    "?sort=-id",
    "?after=W10",
    "?after=WyJhIiwgImIiXQ",
    "?after=WzEsIDFd",
    "?before=WyJhIiwgMV0",
    "?page=99999999999",
)
NUL = ("?before=%00", "?q=%00")


@pytest.mark.parametrize(
    "page",
    [
        *("repositories", "repository", "image", "untagged", "tag_history", "recovery", "scans_log", "acceptances"),
        *("vulnerabilities", "compare", "search"),
    ],
)
def test_invalid_query_parameters_are_ignored(console, pushed, subtests, page):
    browser, address = console("member"), reverse(f"console:{page}", kwargs=PAGES[page][1])
    for query in (*NONSENSE, *NUL):
        with subtests.test(query):
            assert browser.get(address + query).status_code == (400 if query in NUL else 200)


def test_ended_session_is_signed_out(console, world):
    browser = console("member")
    assert browser.get("/profile").status_code == 200
    world.member.user.sessions.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert browser.get("/profile").status_code == 302
