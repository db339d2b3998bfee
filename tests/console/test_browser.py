"""The console in a real browser: with and without scripts, accessibility (axe-core), narrow and wide screens.

A page fails its test when it logs an error, cannot load a file, requests another host, or is wider than the screen.
"""

from __future__ import annotations

import base64
import http.client
import re
from contextlib import closing, contextmanager
from email import message_from_bytes
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support.images import image_of
from tests.support.programs import require
from tests.support.server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

PASSWORD = "correct horse battery"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WEB = "/projects/demo/repositories/web/"
APP = f"{WEB}app/"
PAGES = (
    *(
        "/?all=1",
        "/search?q=app",
        "/profile",
        "/profile/keys",
        "/profile/keys/new",
        "/profile/sessions",
        "/profile/password",
    ),
    *("/organizations/acme/keys", "/organizations/acme/audit-log", "/projects/demo/keys", "/profile/activity"),
    *("/organizations/acme/", "/organizations/acme/projects/new", "/projects/demo/", "/projects/demo/repositories/"),
    *(
        "/projects/demo/repositories/new",
        "/projects/demo/audit-log",
        "/projects/demo/undo",
        "/projects/demo/recovery",
    ),
    *(
        "/projects/demo/garbage-collection",
        "/projects/demo/members",
        "/projects/demo/members/add",
        "/projects/demo/members/remove?email=mina@acme.test",
        "/organizations/acme/person?email=mina@acme.test",
        "/organizations/acme/remove?email=mina@acme.test",
        "/projects/demo/notifications",
        "/projects/demo/notifications/new?channel=events",
        "/projects/demo/usage",
        "/projects/demo/settings",
    ),
    *(f"{WEB}-/images/delete?image=app", f"{WEB}-/permissions?who=reader@acme.test"),
    *(WEB, f"{WEB}-/commands", f"{WEB}-/audit-log", f"{WEB}-/recovery", f"{WEB}-/cleanup", f"{WEB}-/permissions"),
    *(f"{WEB}-/settings", f"{WEB}-/delete", APP, f"{APP}-/untagged", f"{APP}-/tag-history", f"{APP}-/audit-log"),
    *(f"{APP}-/recovery", f"{APP}-/commands", f"{APP}-/settings", f"{APP}-/tags/add", f"{APP}-/tags/delete?tag=1"),
    f"{APP}-/tags/add?tag=1&digest=2",
    *(f"{APP}-/manifests/1", f"{APP}-/manifests/1/delete", "/projects/nothing/"),
    *("/projects/demo/images", "/projects/demo/scans", "/projects/demo/scans/log", "/projects/demo/scans/acceptances"),
    *(f"{APP}-/manifests/1/vulnerabilities", f"{APP}-/manifests/1/vulnerabilities?view=layers"),
    *(f"{APP}-/manifests/1/compare", f"{APP}-/manifests/2/vulnerabilities"),
    f"{APP}-/manifests/1/vulnerabilities/accept?vulnerability=CVE-2026-1&package=openssl",
    *("/cves/CVE-2026-1", "/search?q=openssl", "/search?q=1&in=demo", "/profile/uploads"),
    *(
        f"{place}{page}"
        for place in ("/projects/demo/service-accounts/", "/organizations/acme/service-accounts/")
        for page in ("", "-/new", "ci", "ci/edit", "ci/delete", "ci/keys/new", "ci/trust-rules", "ci/ci")
    ),
    *("/projects/demo/service-accounts/ci/trust-rules/new/1", "/organizations/acme/issuers"),
    *("/organizations/acme/issuers/new", "/organizations/acme/issuers/1/keys"),
    *("/projects/demo/tag-rules", "/projects/demo/tag-rules/new", "/projects/demo/tag-rules/1", f"{WEB}-/tag-rules"),
    *("/projects/demo/notifications/new", f"{WEB}-/notifications", f"{WEB}-/notifications/new"),
)


class Console(LiveServer):
    """A server with people who can sign in, and an image."""

    def people(self) -> Console:
        """Create the users."""
        super().people()
        self.step("people")
        self.push("1")
        self.push("2")
        self.step("scans")
        return self

    def step(self, *arguments: str) -> None:
        """Run a step of tests.console.world."""
        self.run_module("tests.console.world", *arguments)

    def link_to(self, email: str) -> str:
        """Send the invitation of this address as a worker does. Return its link."""
        self.step("invitation", email)
        for letter in sorted((self.data / "mail").iterdir()):
            said = message_from_bytes(letter.read_bytes())
            if said["To"] == email:
                return re.search(r"http\S+/invitations/\w+", said.get_payload(0).get_payload(decode=True).decode())[0]
        raise AssertionError(f"no mail to {email}")

    def push(self, tag: str) -> None:
        """Push an image of a config and two layers."""
        api, image = self.api(), image_of(tag)
        assert all(api.push_blob(part) == 201 for part in image.parts[:-1])
        assert api.ask("PUT", f"manifests/{tag}", image.manifest, Content_Type=image.media_type).status == 201


@pytest.fixture(scope="module")
def server() -> Iterator[Console]:
    """One server for all stories of this module."""
    require("chromium")
    with Console() as running:
        running.people()
        yield running
        assert '"level": "error"' not in running.said(lines=100_000), running.said(lines=100_000)[-4000:]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=require("chromium"), args=list(QUIET))
        yield started
        started.close()


@contextmanager
def visit(browser: Browser, server: Console, person: str, *, scripts: bool = True, **options: object) -> Iterator[Page]:
    """Open a signed-in browser that fails on errors of a page."""
    wrong: list[str] = []
    settings = {"locale": "en-US", "java_script_enabled": scripts} | options
    context = browser.new_context(base_url=server.url, **settings)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on(
        "console",
        lambda said: wrong.append(said.text) if said.type == "error" and "status of 4" not in said.text else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "requestfailed",
        lambda request: (
            wrong.append(f"{request.url}: {request.failure}") if "ERR_ABORTED" not in str(request.failure) else None
        ),
    )
    page.on(
        "request",
        lambda request: wrong.append(request.url) if urlsplit(request.url).netloc not in {server.host, ""} else None,
    )
    page.goto("/sign-in")
    page.locator("#id_email").fill(f"{person}@acme.test")
    page.locator("#id_password").fill(PASSWORD)
    page.locator("main button").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)
    yield page
    context.close()
    assert wrong == []


both = pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])


@both
def test_repository_is_created_deleted_and_recovered(browser, server, scripts):
    name = f"shop{'js' if scripts else ''}"
    with visit(browser, server, "admin", scripts=scripts) as page:
        page.goto("/projects/demo/repositories/")
        page.get_by_role("link", name="Create repository").first.click()
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name="Create repository").click()
        expect(page.get_by_role("heading", name="Waiting for your first push")).to_be_visible()
        command = f"docker push {server.host}/demo/{name}/IMAGE:TAG"
        expect(page.get_by_text(command, exact=True)).to_be_visible()
        if scripts:
            page.locator(f'[data-copy="{command}"]').click()
            assert page.evaluate("navigator.clipboard.readText()") == command
        page.get_by_role("link", name="Permissions").click()
        page.get_by_role("link", name="Grant access").click()
        page.get_by_label("E-mail", exact=True).fill("viewer@acme.test")
        page.get_by_role("button", name="Grant access").click()
        expect(page.get_by_role("status")).to_contain_text("viewer@acme.test is now Viewer.")
        page.get_by_role("link", name="Settings").last.click()
        page.get_by_role("radio", name="Public").check()
        page.get_by_role("button", name="Save settings").click()
        expect(page.get_by_text("Public", exact=True).first).to_be_visible()
        page.get_by_role("link", name="Delete repository").click()
        page.get_by_label(f"Type {name} to confirm").fill(name)
        page.get_by_role("button", name="Delete repository").click()
        expect(page.get_by_role("status")).to_contain_text("has been deleted")
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_role("status")).to_contain_text(f"Recovered: demo/{name}")
        page.goto(f"/projects/demo/repositories/{name}/")
        expect(page.get_by_role("heading", name=name).first).to_be_visible()


@both
def test_tags_are_added_deleted_and_recovered(browser, server, scripts):
    tag = f"stable{'js' if scripts else ''}"
    server.push(f"of-{tag}")
    with visit(browser, server, "admin", scripts=scripts) as page:
        page.goto("/projects/demo/repositories/")
        page.get_by_role("link", name="web", exact=True).click()
        page.get_by_role("link", name="app", exact=True).click()
        page.get_by_role("link", name=f"of-{tag}", exact=True).click()
        expect(page.get_by_text(f"docker pull {server.host}/demo/web/app:of-{tag}", exact=True)).to_be_visible()
        page.get_by_role("link", name="Add tag").click()
        page.get_by_label("Tag", exact=True).fill(tag)
        page.get_by_role("button", name="Set tag").click()
        expect(page.get_by_role("link", name=tag, exact=True)).to_be_visible()
        page.get_by_role("checkbox", name=tag, exact=True).check()
        page.get_by_role("button", name="Delete checked tags").click()
        page.get_by_role("button", name="Delete 1 tag").click()
        expect(page.get_by_role("link", name=tag, exact=True)).to_have_count(0)
        page.get_by_role("button", name="Undo").click()
        page.goto(APP)
        expect(page.get_by_role("link", name=tag, exact=True)).to_be_visible()
        page.goto(f"{APP}-/tag-history?tag={tag}")
        expect(page.get_by_role("row")).to_have_count(3)


@both
def test_existing_tag_is_moved_after_a_preview_and_moved_back(browser, server, scripts):
    tag = f"moved{'js' if scripts else ''}"
    server.push(tag)
    with visit(browser, server, "mina", scripts=scripts) as page:
        page.goto(f"{APP}-/manifests/2")
        page.get_by_role("link", name="Add tag").click()
        page.get_by_label("Tag", exact=True).fill(tag)
        page.get_by_role("button", name="Set tag").click()
        expect(page.get_by_role("heading", name=f"Move {tag}?")).to_be_visible()
        page.get_by_role("button", name=f"Move {tag}").click()
        expect(page.get_by_role("status")).to_contain_text(f"{tag} now points to 2 (")
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_role("status")).to_contain_text(f"{tag} now points to")
        page.goto(f"{APP}-/tag-history?tag={tag}")
        expect(page.get_by_role("row")).to_have_count(4)
        page.get_by_role("link", name="Restore").click()
        page.get_by_role("button", name=f"Move {tag}").click()
        expect(page.get_by_role("status")).to_contain_text(f"{tag} now points to 2 (")


@both
def test_access_key_is_created_used_and_revoked(browser, server, scripts):
    with visit(browser, server, "admin", scripts=scripts) as page:
        page.goto("/profile/keys/new")
        page.get_by_label("Name").fill(f"laptop {scripts}")
        page.get_by_role("button", name="Create access key").click()
        expect(page.get_by_role("link", name="I have copied the secret")).to_be_visible()
        words = page.locator("main").inner_text()
        identifier, secret = re.search(r"KCRK\w+", words)[0], re.search(r"kcrs_\w+", words)[0]
        basic = (identifier, secret)
        assert server_says(server, basic) == 200
        page.get_by_role("link", name="I have copied the secret").click()
        row = page.get_by_role("row").filter(has_text=f"laptop {scripts}")
        row.get_by_role("link", name="Revoke").click()
        page.get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("status")).to_contain_text("has been revoked")
        assert server_says(server, basic) == 401


def server_says(server: Console, basic: tuple[str, str]) -> int:
    """Return the answer of /v2/ to a login."""
    word = base64.b64encode(":".join(basic).encode()).decode()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request("GET", "/v2/", headers={"Host": server.host, "Authorization": f"Basic {word}"})
        with connection.getresponse() as answer:
            return answer.status


@both
def test_people_of_project_and_organization(browser, server, scripts):
    with visit(browser, server, "owner", scripts=scripts) as page:
        page.goto("/organizations/acme/")
        email = f"new{scripts}@acme.test".lower()
        page.get_by_role("link", name="Invite a person").click()
        expect(page.get_by_role("dialog")).to_have_count(int(scripts))
        page.get_by_label("E-mail").fill(email)
        page.get_by_role("button", name="Send invitation").click()
        expect(page.get_by_role("row").filter(has_text=email).get_by_role("button", name="Withdraw")).to_be_visible()
        link = server.link_to(email)
        with closing(browser.new_context(java_script_enabled=scripts, locale="en-US")) as context:
            theirs = context.new_page()
            theirs.goto(link)
            expect(theirs.get_by_text("owner@acme.test invites you to the organization acme.")).to_be_visible()
            theirs.get_by_label("New password", exact=True).fill(PASSWORD)
            theirs.get_by_label("New password, again").fill(PASSWORD)
            theirs.get_by_role("button", name="Set password and accept").click()
            expect(theirs.get_by_role("status")).to_contain_text("You belong to acme now.")
        page.goto("/organizations/acme/audit-log")
        expect(page.get_by_text(f"Added {email} to acme")).to_be_visible()
        page.goto("/projects/demo/members")
        page.get_by_role("link", name="Add member").click()
        expect(page.get_by_label("E-mail")).to_be_focused()
        page.get_by_label("E-mail").fill(email)
        page.get_by_role("button", name="Add member").click()
        expect(page.get_by_role("status")).to_contain_text(f"{email} has been added to demo as Member.")
        row = page.get_by_role("row").filter(has_text=email)
        page.get_by_label(f"Role of {email}").select_option("reader")
        if not scripts:
            row.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_contain_text(f"{email} is now Reader.")
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_label(f"Role of {email}")).to_have_value("member")
        row.get_by_label(f"Actions for {email}").click()
        row.get_by_role("link", name="Remove …").click()
        expect(page.get_by_role("heading", name=f"Remove {email} from demo?")).to_be_visible()
        page.get_by_role("link", name="Cancel").click()
        expect(row).to_have_count(1)
        row.get_by_label(f"Actions for {email}").click()
        row.get_by_role("link", name="Remove …").click()
        page.get_by_role("button", name="Remove").click()
        expect(row).to_have_count(0)


@both
def test_a_member_works_in_korean_and_in_the_dark(browser, server, scripts):
    name = f"korean{'js' if scripts else ''}"
    with visit(browser, server, "mina", scripts=scripts, color_scheme="dark", locale="ko-KR") as page:
        page.goto("/projects/demo/")
        page.get_by_role("link", name="리포지토리 생성").first.click()
        page.get_by_label("이름").fill(name)
        page.get_by_role("radio", name="공개 로그인하지 않아도").check()
        page.get_by_role("button", name="리포지토리 생성").click()
        expect(page.get_by_role("heading", name="첫 push를 기다리는 중")).to_be_visible()
        page.get_by_role("link", name="설정").last.click()
        page.get_by_label("설명").fill("한국어 설명")
        page.get_by_role("button", name="설정 저장").click()
        expect(page.get_by_text("한국어 설명").first).to_be_visible()
        page.goto("/projects/demo/audit-log?action=update")
        expect(page.get_by_text("리포지토리를 생성함").first).to_be_visible()


def test_lists_filter_without_reload_and_menus_by_keyboard(browser, server):
    with visit(browser, server, "admin") as page:
        page.goto(APP)
        page.evaluate("window.stayed = true")
        page.get_by_label("Filter tags").fill("2")
        expect(page.get_by_role("link", name="1", exact=True)).to_have_count(0)
        assert page.evaluate("window.stayed")
        assert "q=2" in page.url
        page.get_by_role("checkbox", name="2").focus()
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "search"
        account = page.get_by_label("Account")
        account.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="Profile")).to_be_visible()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        expect(page.get_by_role("link", name="Access keys")).to_be_focused()
        page.keyboard.press("Home")
        expect(page.get_by_role("link", name="Profile")).to_be_focused()
        page.keyboard.press("End")
        expect(page.get_by_role("button", name="Sign out")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="Profile")).to_be_hidden()
        page.goto(APP)
        page.emulate_media(reduced_motion="reduce")
        lasts = page.evaluate("getComputedStyle(document.querySelector('.button')).transitionDuration")
        assert set(lasts.split(", ")) == {"0s"}
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_places_are_reached_by_keyboard(browser, server):
    with visit(browser, server, "admin") as page:
        page.goto(APP)
        page.goto("/projects/demo/members")
        page.keyboard.press("Control+k")
        words = page.get_by_role("combobox", name="Project, repository, image, tag or CVE")
        expect(words).to_be_focused()
        places = page.get_by_role("listbox", name="Places").get_by_role("option")
        expect(places.first).to_have_text("demo/web/app")  # the place before this one
        expect(places.first).to_have_attribute("aria-selected", "true")
        words.fill("cve-2026-1")
        expect(places).to_have_text(["CVE-2026-1", "Search for “cve-2026-1”"])
        words.fill("demo/web/app:2")
        expect(places).to_have_text(["demo/web/app:2", "Search for “demo/web/app:2”"])
        page.keyboard.press("ArrowDown")
        expect(places.last).to_have_attribute("aria-selected", "true")
        page.keyboard.press("ArrowDown")
        assert words.get_attribute("aria-activedescendant") == places.first.get_attribute("id")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{APP}-/manifests/2")
        page.keyboard.press("Control+k")
        page.keyboard.press("Escape")
        expect(words).to_be_hidden()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_click_with_shift_checks_all_rows_between(browser, server):
    with visit(browser, server, "admin") as page:
        page.goto(APP)
        boxes = page.locator("tbody").get_by_role("checkbox")
        number = boxes.count()
        assert number >= 2
        boxes.first.click()
        boxes.last.click(modifiers=["Shift"])
        expect(boxes.first).to_be_checked()
        expect(page.locator("[data-checked-count]")).to_have_text(str(number))
        boxes.last.click()
        boxes.first.click(modifiers=["Shift"])
        expect(page.locator("[data-checked-count]")).to_have_text("0")


def test_results_of_actions_and_copies_are_announced_to_screen_readers(browser, server):
    with visit(browser, server, "admin") as page:
        page.goto(APP)
        page.get_by_role("button", name=f"Copy {server.host}/demo/web/app", exact=True).click()
        expect(page.locator("#said")).to_have_text("Copied")
        page.goto(f"{APP}-/settings")
        page.add_init_script(
            "document.addEventListener('DOMContentLoaded', () => new MutationObserver(() => window.added = true)"
            ".observe(document.querySelector('.toasts'), {childList: true}))"
        )
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_contain_text("app has been saved.")
        assert page.evaluate("window.added")


def test_commands_are_shown_for_the_chosen_program(browser, server):
    with visit(browser, server, "reader") as page:
        page.goto(f"{APP}-/commands")
        expect(page.get_by_text("docker login")).to_be_visible()
        page.get_by_role("button", name="podman", exact=True).click()
        expect(page.get_by_text("docker login")).to_be_hidden()
        page.goto(f"{APP}-/manifests/1")
        expect(page.get_by_text("podman pull").first).to_be_visible()
        expect(page.get_by_role("button", name="podman", exact=True)).to_have_attribute("aria-pressed", "true")


@both
def test_pages_of_the_project_fit_a_phone(browser, server, scripts):
    with visit(browser, server, "reader", scripts=scripts, viewport={"width": 360, "height": 800}) as page:
        page.goto(WEB)
        members = page.get_by_role("link", name="Members", exact=True)
        expect(members).to_be_hidden()
        page.get_by_role("button", name="Pages of the project").press("Enter")
        members.click()
        expect(page.get_by_role("heading", name="Members")).to_be_visible()


@both
def test_vulnerability_is_accepted_and_the_acceptance_withdrawn(browser, server, scripts):
    with visit(browser, server, "mina", scripts=scripts) as page:
        page.goto(f"{APP}-/manifests/1/vulnerabilities")
        critical = page.locator("#scan-state .severity.critical")
        expect(critical).to_contain_text("Critical 1")
        page.get_by_label("Filter by CVE or package").fill("openssl")
        if not scripts:
            page.get_by_role("button", name="Filter").click()
        expect(page.get_by_role("link", name="CVE-2026-2")).to_have_count(0)
        page.locator("summary[aria-label='Actions for CVE-2026-1']").click()
        page.get_by_role("link", name="Accept", exact=True).click()
        page.get_by_label("Reason").fill("nobody calls it")
        page.get_by_role("button", name="Accept vulnerability").click()
        expect(page.get_by_role("status").first).to_contain_text("CVE-2026-1 has been accepted.")
        expect(page.get_by_text("nobody calls it")).to_be_visible()
        expect(critical).to_have_count(0)
        page.goto("/projects/demo/scans/acceptances")
        page.get_by_role("link", name="Withdraw").click()
        page.get_by_role("button", name="Withdraw", exact=True).click()
        expect(page.get_by_role("heading", name="Nothing is accepted")).to_be_visible()
        page.goto("/search?q=cve-2026-1")
        expect(page.get_by_role("link", name="1", exact=True)).to_be_visible()


def test_reader_and_outsider_see_their_pages(browser, server):
    with visit(browser, server, "reader") as page:
        page.goto("/projects/demo/repositories/")
        expect(page.get_by_role("link", name="Create repository")).to_have_count(0)
        assert page.goto("/projects/demo/repositories/new").status == 403
        expect(page.get_by_role("heading", name="Your role does not allow this")).to_be_visible()
    with visit(browser, server, "viewer") as page:
        for address in ("/projects/demo/", WEB, APP):
            assert page.goto(address).status == 404


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_have_no_accessibility_violations(browser, server, theme):
    """axe-core: WCAG 2.2 AA."""
    from axe_playwright_python.sync_playwright import Axe

    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
    found = {}
    # axe is put into the page as a script, which the page's own policy would refuse.
    with visit(browser, server, "owner", color_scheme=theme, bypass_csp=True) as page:
        for address in ("/sign-in", *PAGES):
            page.goto(address)
            result = Axe().run(page, options=rules)
            violations = result.response["violations"]
            if violations:
                found[address] = [f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in violations]
    assert found == {}


SHIFTS = """
    new Promise((resolve) => new PerformanceObserver((list) => resolve(list.getEntries().length))
        .observe({type: "layout-shift", buffered: true}) || setTimeout(() => resolve(0), 50))
"""


@pytest.mark.parametrize("width", [360, 1280])
def test_pages_fit_the_screen_and_do_not_shift_while_loading(browser, server, width):
    """The connection is so slow that a page arrives in pieces, as on a busy machine."""
    with visit(browser, server, "owner", viewport={"width": width, "height": 800}) as page:
        line = {"offline": False, "latency": 0, "uploadThroughput": -1, "downloadThroughput": 96 * 1024}
        page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", line)
        wrong = []
        for address in PAGES:
            page.goto(address)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wrong.append(f"{address} is too wide")
            if page.evaluate(SHIFTS):
                wrong.append(f"{address} moves")
        assert wrong == []


# The elements that end to the right of the page's column, without those in a box that scrolls or cuts.
OUTSIDE = """
    () => {
        const main = document.querySelector("main");
        const end = main.getBoundingClientRect().right - parseFloat(getComputedStyle(main).paddingRight) + 1;
        const isCut = (element) => element !== main
            && (getComputedStyle(element).overflowX !== "visible" || isCut(element.parentElement));
        return [...main.querySelectorAll(":not(svg *, .sheet, .sheet *, .visually-hidden)")]
            .filter((each) => each.getBoundingClientRect().right > end && !isCut(each.parentElement))
            .map((each) => `${each.tagName}.${each.className}`);
    }
"""
SIZES = (360, 768, 1280, 1440, 1920)
A4 = 717  # the width of a page with the margins of Chromium


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_pages_stay_in_their_column_at_all_widths_and_on_paper(browser, server, locale):
    with visit(browser, server, "owner", locale=locale) as page:
        wrong = {}
        for address in PAGES:
            page.goto(address)
            for width, media in (*((size, "screen") for size in SIZES), (A4, "print")):
                page.emulate_media(media=media)
                page.set_viewport_size({"width": width, "height": 800})
                if found := page.evaluate(OUTSIDE):
                    wrong[address, width, media] = found[:3]
        assert wrong == {}


def test_a_full_row_stays_in_its_column(browser, server):
    server.step("wide")
    try:
        with visit(browser, server, "owner", viewport={"width": 1280, "height": 800}) as page:
            wrong = {}
            lists = ("/projects/demo/images", "/projects/demo/repositories/", "/projects/demo/scans")
            for address in (f"{APP}?q=1", WEB, *lists):  # other tests add tags with long names
                page.goto(address)
                if found := page.evaluate(OUTSIDE):
                    wrong[address] = found[:3]
            assert wrong == {}
            page.goto(APP)
            assert page.get_by_role("row").filter(has_text="Out of date").count() == 1
    finally:
        server.step("scans")


def test_print_hides_navigation_and_controls(browser, server):
    with visit(browser, server, "owner", color_scheme="dark") as page:
        page.goto(APP)
        page.emulate_media(media="print")
        for selector in (".top", ".side", ".tools", ".copy", ".button", "input", ".tabs a:not([aria-current])"):
            for each in page.locator(selector).all():
                expect(each).to_be_hidden()
        expect(page.get_by_role("heading", name="app")).to_be_visible()
        expect(page.get_by_role("row")).not_to_have_count(0)
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


@pytest.mark.parametrize(
    ("selector", "edge"),
    [(".side a", "borderLeftColor"), (".tabs a", "borderBottomColor"), (".chips a", "borderLeftColor")],
)
def test_forced_colours_mark_the_current_page_and_tab(browser, server, selector, edge):
    with visit(browser, server, "owner", forced_colors="active") as page:
        page.goto(f"{WEB}-/audit-log")
        assert page.evaluate("matchMedia('(forced-colors: active)').matches")
        colour = f"(each) => getComputedStyle(each).{edge}"
        current = page.locator(f"{selector}[aria-current]").evaluate(colour)
        others = page.locator(f"{selector}:not([aria-current])").evaluate_all(f"(all) => all.map({colour})")
        assert others
        assert current not in others


def test_layout_observers_detect_a_shift_and_a_wide_table(browser, server):
    """Control."""
    with visit(browser, server, "reader") as page:
        page.goto(APP)
        assert page.evaluate(OUTSIDE) == []
        page.evaluate("document.querySelector('main table').style.width = '101%'")
        assert page.evaluate(OUTSIDE) != []
        page.evaluate("document.querySelector('main').prepend(document.createElement('pre'), '1\\n2\\n3')")
        page.evaluate("document.querySelector('main').style.paddingTop = '300px'")
        page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        assert page.evaluate(SHIFTS) > 0
