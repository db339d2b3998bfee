"""Notifications in the console: creation, permissions, tests, delivery log and unsubscribing."""

from __future__ import annotations

import json
import re

import pytest

from registry import projects, repositories
from registry.models import Event
from registry.quota_warnings import Fill
from scanning import tasks
from scanning.models import Delivery, Subscription
from scanning.notifications import deliveries, quota_messages, recipients
from scanning.notifications.channels import webhook
from tests.support.chats import DiscordService, SlackService, TeamsService
from tests.support.factories import agree, subscribe
from tests.support.pages import see, text

DEMO = "/projects/demo/notifications"
WEB = "/projects/demo/repositories/web/-/notifications"
MAIL = {"recipients": "mina@acme.test\njoon@acme.test", "min_severity": "4", "frequency": "new", "language": "en"}
HOOK = {"min_severity": "4", "frequency": "each", "url": ""}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Run tasks immediately."""
    monkeypatch.setattr(tasks.deliver, "delay", tasks.deliver)


def the_event() -> Event:
    return Event.objects.filter(action="notice.change").latest("pk")


# ── Creating and changing ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("place", "person"), [(DEMO, "admin"), (DEMO, "owner"), (WEB, "member"), (WEB, "admin"), (WEB, "owner")]
)
def test_mail_notification_is_created_tested_changed_and_deleted(console, world, mail_server, place, person):
    agree(world.projects["demo"], "mina@acme.test", "joon@acme.test", "new@acme.test")
    browser = console(person)
    assert "No notification yet" in text(browser.get(place))
    answer = browser.post(f"{place}/new?channel=mail", MAIL)
    made = Subscription.objects.get()
    assert answer.url == f"{place}/{made.pk}"
    assert (made.recipients, made.min_severity, made.frequency, made.language) == (
        ["mina@acme.test", "joon@acme.test"],
        4,
        "new",
        "en",
    )
    assert (made.repository is None, made.created_by) == (place == DEMO, world.people[person].user)
    assert the_event().detail["after"]["recipients"] == ["mina@acme.test", "joon@acme.test"]
    assert "mina@acme.test, joon@acme.test" in text(browser.get(place))

    browser.post(answer.url, {"act": "test"})
    assert mail_server.recipients == [["mina@acme.test"], ["joon@acme.test"]]
    assert "This is a test." in mail_server.part(0, "plain")
    page = text(browser.get(answer.url))
    assert "A test is on its way." in page
    assert re.search(r"badge good.*sent", page, re.DOTALL)
    delivery = Delivery.objects.get()
    log = text(browser.get(f"{answer.url}/{delivery.pk}"))
    assert "Subject: [KCR] Test notification for" in log

    browser.post(f"{answer.url}/edit", MAIL | {"recipients": "joon@acme.test, new@acme.test;", "min_severity": "5"})
    made.refresh_from_db()
    assert (made.recipients, made.min_severity) == (["joon@acme.test", "new@acme.test"], 5)
    detail = the_event().detail
    assert (detail["before"]["min_severity"], detail["after"]["min_severity"]) == ("high", "critical")

    browser.post(answer.url, {"act": "pause"})
    made.refresh_from_db()
    assert not made.is_active
    assert "paused" in text(browser.get(place))
    browser.post(answer.url, {"act": "resume"})
    made.refresh_from_db()
    assert made.is_active

    gone = see(browser, browser.post(answer.url, {"act": "delete"}).url)
    assert "The notification has been deleted." in gone.text
    *_former, undo = (form for form in gone.forms if form.action.endswith("/undo"))
    assert not Subscription.objects.live().exists()
    assert the_event().detail["after"] == {"channel": None}
    assert browser.get(answer.url).status_code == 404
    words = text(browser.get("/projects/demo/audit-log?action=notice"))
    assert "Deleted a notification of" in words
    assert "minimum severity: High and above → Critical" in words
    undo.submit(browser)
    assert browser.get(answer.url).status_code == 200


def test_a_change_and_a_pause_are_undone_from_the_message_and_the_line(console, project):
    made, browser = subscribe(project), console("admin")
    edit = see(browser, f"{DEMO}/{made.pk}/edit").form("frequency")
    shown = see(browser, edit.submit(browser, frequency="daily", min_severity="5").url)
    assert "The notification has been changed." in shown.text
    next(form for form in shown.forms if form.action.endswith("/undo")).submit(browser)
    made.refresh_from_db()
    assert (made.frequency, made.min_severity) == ("new", 4)
    browser.post(f"{DEMO}/{made.pk}", {"act": "pause"})
    log = see(browser, "/projects/demo/audit-log?action=notice")
    (line,) = [link.href for link in log.links if link.href.endswith(f"/{the_event().pk}/undo")]
    question = see(browser, line)
    assert "demo: active" in question.text
    next(form for form in question.forms if form.action == line).submit(browser)
    made.refresh_from_db()
    assert made.is_active


def test_a_new_secret_asks_first(console, project, monkeypatch):
    hook, browser = (
        subscribe(project, channel="webhook", url="https://hooks.example.com/T0", recipients=[]),
        console("admin"),
    )
    (link,) = [link.href for link in see(browser, f"{DEMO}/{hook.pk}").links if link.href.endswith("/secret")]
    question = see(browser, link)
    assert question.headings == ["Make a new secret for hooks.example.com?"]
    assert "The present secret signs no more messages." in question.text
    hook.refresh_from_db()
    assert hook.secret == "", "looking changes nothing"
    assert "kcrw_" in question.form(act="secret").submit(browser, act="secret").content.decode()
    mails = subscribe(project)
    assert browser.get(f"{DEMO}/{mails.pk}/secret").url == f"{DEMO}/{mails.pk}"


def test_events_are_chosen_sent_and_changed_with_the_pages(console, world, receiver):
    browser, library = console("admin"), world.repository("web")
    page = see(browser, f"{DEMO}/new?channel=events")
    form = page.form("types", "repositories")
    assert not {"min_severity", "frequency", "language"} & form.names
    answer = form.submit(browser, url=receiver.url, types=["tag.added", "repository.updated"], repositories="web, x-*")
    secret = re.search(r"whsec_[\w+/]+=*", text(answer))[0]
    made = Subscription.objects.get()
    assert (made.channel, made.types, made.repositories) == ("events", ["repository.updated", "tag.added"], "web x-*")
    repositories.update(world.admin.actor, library, description="new")
    projects.update(world.admin.actor, world.projects["demo"], description="new")
    tasks.spread_events()
    ((_path, headers, body),) = receiver.requests
    assert json.loads(body)["subject"] == "demo/web"
    shown = see(browser, f"{DEMO}/{made.pk}")
    assert "repository.updated, tag.added" in shown.text
    (row,) = shown.table("When", "What about", "State")
    assert (row["What about"], row["State"]) == ("repository.updated · demo/web", "sent")
    (sent,) = row["When"].links
    detail = see(browser, sent.href)
    assert headers["webhook-id"] in detail.text
    assert secret not in detail.text
    see(browser, sent.href).form().submit(browser)
    assert json.loads(receiver.requests[-1][2]) == json.loads(body)

    edit = see(browser, f"{DEMO}/{made.pk}/edit").form("types")
    assert edit.shown["types"] == ["repository.updated", "tag.added"]
    edit.submit(browser, types=[], repositories="")
    made.refresh_from_db()
    assert (made.types, made.repositories, made.url) == ([], "", receiver.url)
    wrong = edit.submit(browser, repositories="demo/web")
    assert "Write the names of repositories without the project" in text(wrong)
    assert "events: repository.updated, tag.added" in see(browser, "/projects/demo/audit-log?action=notice").text
    assert "at each event" in see(browser, DEMO).text

    question = see(browser, f"{DEMO}/{made.pk}/secret")
    assert "Messages carry two signatures for a day" in question.text
    renewed = re.search(r"whsec_[\w+/]+=*", text(question.form(act="secret").submit(browser, act="secret")))[0]
    assert renewed != secret
    assert "Former secret" in see(browser, f"{DEMO}/{made.pk}").text


def test_a_repository_offers_no_events(console, world):
    browser = console("member")
    assert "Event webhook" not in see(browser, f"{WEB}/new?channel=events").text
    assert "Event webhook" in see(console("admin"), f"{DEMO}/new").text
    subscribe(world.projects["demo"], channel="events", url="https://hooks.test/x", recipients=[])
    assert "hooks.test" not in see(browser, WEB).text


def test_webhook_page_shows_the_secret_once_and_only_the_host(console, world, receiver):
    browser = console("admin")
    answer = browser.post(f"{DEMO}/new?channel=webhook", HOOK | {"url": receiver.url})
    secret = re.search(r"kcrw_\w+", text(answer))[0]
    made = Subscription.objects.get()
    assert webhook.secret_of(made) == secret
    browser.post(f"{DEMO}/{made.pk}", {"act": "test"})
    assert len(receiver.requests) == 1
    delivery = Delivery.objects.get()
    pages = [
        DEMO,
        f"{DEMO}/{made.pk}",
        f"{DEMO}/{made.pk}/edit",
        f"{DEMO}/{made.pk}/{delivery.pk}",
        "/projects/demo/audit-log",
    ]
    for page in pages:
        shown = text(browser.get(page))
        assert secret not in shown, page
        assert "secret=path" not in shown, page
    assert "127.0.0.1" in text(browser.get(DEMO))
    assert "thanks" in text(browser.get(pages[3]))

    browser.post(pages[2], HOOK | {"frequency": "daily"})  # no URL: the same one
    made.refresh_from_db()
    assert (made.url, made.frequency) == (receiver.url, "daily")
    other = receiver.url.replace("/hook", "/other")
    browser.post(pages[2], HOOK | {"url": other})
    made.refresh_from_db()
    assert made.url == other
    assert "/other" not in str(the_event().detail)

    renewed = re.search(r"kcrw_\w+", text(browser.post(f"{DEMO}/{made.pk}", {"act": "secret"})))[0]
    made.refresh_from_db()
    assert renewed != secret
    assert webhook.secret_of(made) == renewed
    assert renewed not in str(the_event().detail)


def test_kakao_work_channel_is_created(console, receiver, world):
    browser = console("admin")
    browser.post(f"{DEMO}/new?channel=kakaowork", HOOK | {"url": receiver.url, "language": "ko"})
    made = Subscription.objects.get()
    assert (made.channel, made.language, made.secret) == ("kakaowork", "ko", "")
    browser.post(f"{DEMO}/{made.pk}", {"act": "test"})
    assert "KCR에서 보기".encode() in receiver.requests[0][2]


@pytest.mark.parametrize("service", [SlackService, TeamsService, DiscordService])
def test_chat_channel_is_created_with_the_form_of_the_page_and_tested(console, receiver, world, service):
    receiver.service, browser = service(), console("admin")
    label = {"slack": "Slack", "teams": "Microsoft Teams", "discord": "Discord"}[service.kind]
    page = see(browser, f"{DEMO}/new")
    assert label in [link.text for link in page.links if link.href.endswith(f"?channel={service.kind}")]
    form = see(browser, f"{DEMO}/new?channel={service.kind}").form("url")
    refused = form.submit(browser, url="https://1.1.1.1/services/T0/B0/x")
    assert f"webhook of {'a workflow' if service.kind == 'teams' else label}: its" in text(refused)
    answer = form.submit(browser, url=receiver.url, language="ko")
    made = Subscription.objects.get()
    assert (made.channel, made.language, made.secret) == (service.kind, "ko", "")
    assert the_event().detail["after"]["host"] == "127.0.0.1"
    assert f"{label} · 127.0.0.1" in text(browser.get(DEMO))
    see(browser, answer.url).form("act", act="test").submit(browser, act="test")
    assert "demo 테스트 알림" in receiver.service.visible(receiver.service.messages[0])
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.status) == ("sent", service.sent[0])
    log = text(browser.get(f"{answer.url}/{delivery.pk}"))
    assert "테스트 알림" in log
    assert "secret=path" not in log


def test_form_sent_twice_creates_one_notification(console, receiver, world):
    browser = console("admin")
    for _ in range(2):
        browser.post(f"{DEMO}/new?channel=mail", MAIL)
        answer = browser.post(f"{DEMO}/new?channel=webhook", HOOK | {"url": receiver.url})
    assert Subscription.objects.count() == 2
    assert "There is such a notification already" in text(answer)
    assert "kcrw_" not in text(answer)


@pytest.mark.parametrize(
    ("recipients", "words"),
    [
        (" ", "This field is required."),
        (",;\n", "Give at least one e-mail address."),
        ("mina@acme.test\nnobody", "“nobody” is not an e-mail address."),
        ("a@b.test\nBcc: x@evil.test", "is not an e-mail address."),
        ("\n".join(f"a{number}@acme.test" for number in range(21)), "At most 20 recipients"),
    ],
)
def test_errors_of_recipients_are_shown_at_the_field(console, world, recipients, words):
    page = text(console("admin").post(f"{DEMO}/new?channel=mail", MAIL | {"recipients": recipients}))
    assert words in page.partition('id="id_recipients_error"')[2][:400]
    assert not Subscription.objects.exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "This is not an address such as"),
        ("http://user:secret@example.com/", "user name or password"),
        ("http://127.0.0.1:9999/", "127.0.0.1 is not a public address"),
        ("http://inside.test/", "10.0.0.7 is not a public address"),
        ("http://[::ffff:169.254.169.254]/", "is not a public address"),
        ("http://2130706433/", "as four numbers"),
        ("http://localhost:8080/", "this registry itself"),
        ("http://demo.kr-central-2.kcr.localhost/", "this registry itself"),
        ("http://nowhere.test/", "nowhere.test is not known"),
    ],
)
@pytest.mark.parametrize("channel", ["webhook", "kakaowork", "slack", "teams", "discord"])
def test_unsendable_addresses_are_refused_when_saving(console, world, resolver, channel, url, words):
    resolver("inside.test", "10.0.0.7")
    resolver("nowhere.test")
    browser = console("admin")
    page = text(browser.post(f"{DEMO}/new?channel={channel}", HOOK | {"url": url, "language": "en"}))
    assert words in page.partition('id="id_url_error"')[2][:400]
    assert not Subscription.objects.exists()
    made = subscribe(world.projects["demo"], channel=channel, recipients=[], url="https://example.com/hook")
    page = text(browser.post(f"{DEMO}/{made.pk}/edit", HOOK | {"url": url, "language": "en"}))
    assert words in page.partition('id="id_url_error"')[2][:400]
    made.refresh_from_db()
    assert made.url == "https://example.com/hook"


def test_the_reason_is_in_the_language_of_the_person(console, world):
    browser = console("admin")
    page = browser.post(
        f"{DEMO}/new?channel=webhook", HOOK | {"url": "http://10.0.0.1/"}, headers={"Accept-Language": "ko"}
    )
    assert "10.0.0.1 주소는 공인 주소가 아닙니다" in text(page)


def test_fields_that_are_not_of_the_form_are_ignored(console, world):
    console("admin").post(
        f"{DEMO}/new", MAIL | {"secret": "x", "url": "http://10.0.0.1/", "is_active": "", "project": "9"}
    )
    made = Subscription.objects.get()
    assert (made.channel, made.secret, made.url, made.is_active) == ("mail", "", "", True)


# ── Permissions ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("person", ["member", "reader"])
def test_reader_sees_only_the_host_of_a_webhook(console, project, web, person):
    mail = subscribe(project)
    hook = subscribe(project, channel="webhook", recipients=[], url="https://hooks.example.com/path?secret=1")
    Delivery.objects.create(subscription=hook, request="the request", response="the answer", problem="too slow")
    browser = console(person)
    page = text(browser.get(DEMO))
    assert "hooks.example.com" in page
    assert "mina@acme.test" in page
    assert "Create notification" not in page
    one = text(browser.get(f"{DEMO}/{hook.pk}"))
    assert "too slow" in one
    assert f"{DEMO}/{mail.pk}" in page
    for words in ("secret=1", "/path", "the request", "the answer", "Send a test", 'name="act"'):
        assert words not in page + one
    for act in ("test", "pause", "delete", "secret"):
        assert browser.post(f"{DEMO}/{hook.pk}", {"act": act}).status_code == 403
    assert Subscription.objects.count() == 2
    assert Delivery.objects.count() == 1


def test_answers_are_shown_to_admins_of_the_project_only(console, project, web):
    hook = subscribe(project, web, channel="webhook", recipients=[], url="https://hooks.example.com/")
    delivery = Delivery.objects.create(subscription=hook, request="the request", response="the answer", status=500)
    address = f"{WEB}/{hook.pk}/{delivery.pk}"
    assert "the answer" in text(console("admin").get(address))
    page = text(console("member").get(address))
    assert "the request" in page
    assert "the answer" not in page
    assert console("reader").get(address).status_code == 403


def test_ids_of_other_projects_are_not_found(console, project, web, world):
    """SECURITY 10: ids of another project, repository or notification are not found."""
    ours = subscribe(project)
    of_web, of_public = subscribe(project, web), subscribe(project, world.repository("public"))
    of_lab = subscribe(world.projects["lab"])
    delivery = Delivery.objects.create(subscription=of_public)
    browser = console("owner")
    wrong = [
        *(f"{DEMO}/{each.pk}" for each in (of_web, of_public, of_lab)),
        *(f"{WEB}/{each.pk}" for each in (ours, of_public, of_lab)),
        f"{DEMO}/{ours.pk}/{delivery.pk}",
        f"{WEB}/{of_web.pk}/{delivery.pk}",
    ]
    for address in wrong:
        assert browser.get(address).status_code == 404, address
        assert browser.post(address, {"act": "delete"}).status_code == 404, address
    assert browser.get(f"{WEB}/{of_public.pk}/edit").status_code == 404
    assert Subscription.objects.count() == 4


def test_lists_show_only_their_own_notifications(console, project, web, world):
    subscribe(project, recipients=["project@acme.test"])
    subscribe(project, web, recipients=["web@acme.test"])
    subscribe(project, world.repository("public"), recipients=["public@acme.test"])
    subscribe(world.projects["lab"], recipients=["lab@acme.test"])
    browser = console("reader")
    page = text(browser.get(DEMO))
    assert [f"{name}@acme.test" in page for name in ("project", "web", "public", "lab")] == [True, True, True, False]
    page = text(browser.get(WEB))
    assert [f"{name}@acme.test" in page for name in ("project", "web", "public", "lab")] == [True, True, False, False]


def test_hostile_texts_are_escaped(console, project):
    evil = "<script>alert(1)</script>"
    made = subscribe(project, recipients=[f"{evil}@acme.test"])
    delivery = Delivery.objects.create(
        subscription=made, request=evil, response=evil, problem=evil, content={"totals": {}}
    )
    browser = console("admin")
    for address in (DEMO, f"{DEMO}/{made.pk}", f"{DEMO}/{made.pk}/edit", f"{DEMO}/{made.pk}/{delivery.pk}"):
        page = browser.get(address).content.decode()
        assert evil not in page
        assert "&lt;script&gt;" in page


# ── Sent again ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_failed_delivery_is_sent_again_by_hand(console, project, receiver):
    browser = console("admin")
    browser.post(f"{DEMO}/new?channel=webhook", HOOK | {"url": receiver.url})
    made = Subscription.objects.get()
    receiver.will_say(404, b"<h1>no such hook</h1>")
    failed = deliveries.queue(made, {"event": "scan.findings", "totals": {"images": 2, "new": 3}})
    deliveries.deliver(failed.pk)
    page = text(browser.get(f"{DEMO}/{made.pk}"))
    assert "2 images, 3 new" in page
    assert "refused it with status 404" in page
    opened = browser.get(f"{DEMO}/{made.pk}/{failed.pk}").content.decode()
    assert "&lt;h1&gt;no such hook" in opened
    assert "X-KCR-Signature: sha256=" in opened
    browser.post(f"{DEMO}/{made.pk}/{failed.pk}")
    assert [delivery.state for delivery in Delivery.objects.order_by("pk")] == ["failed", "sent"]
    assert receiver.requests[0][2] == receiver.requests[1][2]
    again = browser.post(f"{DEMO}/{made.pk}/{failed.pk}", follow=True)
    assert "One was sent a moment ago." in text(again), "nobody is flooded by a button"
    assert len(receiver.requests) == 2


def test_log_names_the_quota_that_a_message_is_about(console, project, receiver):
    made = subscribe(project, channel="slack", recipients=[], url=receiver.url)
    quota_messages.write(Fill(project, "tags", "demo/web/app", 91, 100))
    message = "demo/web/app: the quota of tags is 91 % full"
    assert message in see(console("reader"), f"{DEMO}/{made.pk}").text
    (delivery,) = made.deliveries.all()
    assert message in see(console("admin"), f"{DEMO}/{made.pk}/{delivery.pk}").text


def test_paused_notification_explains_why_it_does_not_send_again(console, project):
    made = subscribe(project, is_active=False)
    failed = Delivery.objects.create(subscription=made, state="failed")
    browser = console("admin")
    answer = browser.post(f"{DEMO}/{made.pk}/{failed.pk}", follow=True)
    assert "This notification is paused: resume it first." in text(answer)
    assert Delivery.objects.count() == 1


# ── Unsubscribing ────────────────────────────────────────────────────────────────────────────────────────────────────
def link_of(subscription: Subscription, address: str) -> str:
    return recipients.unsubscribe_link(subscription.pk, address).removeprefix("http://localhost:8080")


def test_recipient_unsubscribes(console, project, web):
    made = subscribe(project, web)
    link = link_of(made, "mina@acme.test")
    browser = console(None, enforce_csrf_checks=True)
    asked = text(browser.get(link))
    assert "No more notifications about <strong>demo/web</strong> to <strong>mina@acme.test</strong>?" in asked
    made.refresh_from_db()
    assert len(made.recipients) == 2  # a GET changes nothing: mail scanners send it too
    done = browser.post(link)
    assert "mina@acme.test gets no more notifications about demo/web." in text(done)
    made.refresh_from_db()
    assert (made.recipients, made.is_active) == (["joon@acme.test"], True)
    event = the_event()
    assert (event.actor, event.user, event.repository) == ("mina@acme.test", None, web)
    assert event.detail["before"] == {"recipients": ["mina@acme.test", "joon@acme.test"]}
    for again in (browser.post(link), browser.get(link)):
        assert again.status_code == 200
        assert "mina@acme.test gets none of these notifications any more." in text(again)
    assert Event.objects.filter(action="notice.change").count() == 1


def test_one_click_unsubscribe_works_without_cookies(console, project):
    """RFC 8058: a POST with one field, without cookies and CSRF token."""
    made = subscribe(project)
    answer = console(None, enforce_csrf_checks=True).post(
        link_of(made, "joon@acme.test"), "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code == 200
    made.refresh_from_db()
    assert made.recipients == ["mina@acme.test"]


def test_notification_is_paused_when_the_last_recipient_unsubscribes(console, project):
    made = subscribe(project, recipients=["mina@acme.test"])
    console(None).post(link_of(made, "mina@acme.test"))
    made.refresh_from_db()
    assert (made.recipients, made.is_active) == ([], False)
    browser = console("admin")
    assert "no recipient left" in text(browser.get(DEMO))
    answer = browser.post(f"{DEMO}/{made.pk}", {"act": "resume"}, follow=True)
    assert "No recipient is left: add one first." in text(answer)


def test_forged_links_unsubscribe_no_one(console, project):
    made = subscribe(project)
    other = subscribe(project, recipients=["mina@acme.test"])
    link = link_of(made, "mina@acme.test")
    for bad in (link[:-1], link.replace("unsubscribe/", "unsubscribe/x"), "/notices/unsubscribe/x"):
        assert console(None).post(bad).status_code == 404
        assert "This link is incomplete" in text(console(None).get(bad))
    console(None).post(link_of(made, "stranger@acme.test"))
    console(None).post(link)
    for each in (made, other):
        each.refresh_from_db()
    assert (made.recipients, other.recipients) == (["joon@acme.test"], ["mina@acme.test"])
    other_link = link_of(other, "mina@acme.test")
    other.delete()
    assert console(None).post(other_link).status_code == 200


def test_only_the_unsubscribe_form_needs_no_csrf_token(console, world):
    """Control: test_safety checks all other forms."""
    from tests.console.test_matrix import console_routes

    exempt = [name for name, route in console_routes().items() if getattr(route.callback, "csrf_exempt", False)]
    assert exempt == ["unsubscribe"]


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_pages_speak_korean(console, project, web):
    made = subscribe(project)
    browser = console("admin")
    for address, words in (
        (DEMO, ["알림", "받는 곳", "높음 이상", "새 취약점이 있을 때"]),
        (f"{DEMO}/{made.pk}", ["테스트 보내기", "전송 기록"]),
        (f"{DEMO}/new?channel=webhook", ["알림 생성", "웹훅", "취약점이 발견된 스캔마다"]),
        (link_of(made, "mina@acme.test"), ["수신 거부"]),
    ):
        page = text(browser.get(address, headers={"Accept-Language": "ko"}))
        assert [word for word in words if word not in page] == [], address


def test_pages_have_titles_and_headings(console, project, web):
    made = subscribe(project)
    browser = console("admin")
    for address, words in (
        (DEMO, "Notifications"),
        (f"{DEMO}/new", "Create notification"),
        (f"{DEMO}/{made.pk}", "Notification"),
    ):
        assert see(browser, address).headings == [words]
