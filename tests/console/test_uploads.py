"""The page of a user's open uploads."""

from __future__ import annotations

import pytest

from registry import uploads
from registry.models import UploadSession
from tests.support.pages import see

pytestmark = pytest.mark.django_db


def test_open_uploads_are_listed_for_and_ended_by_their_owner_only(console, world):
    repository = world.repository("web")
    mine = [uploads.start(world.member.actor, repository, f"app{number}") for number in range(3)]
    theirs = uploads.start(world.pusher.actor, repository, "theirs")
    uploads.append(mine[0], uploads.Piece([b"x" * 12_345]))
    browser = console("member")
    page = see(browser, "/profile/uploads")
    assert all(f"demo/web/app{number}" in page.text for number in range(3))
    assert "12.3 kB" in page.text
    assert "theirs" not in page.text
    offered = [value for form in page.forms for name, value in form.everything if name == "upload"]
    assert set(offered) == {"all", *(str(session.pk) for session in mine)}
    first = page.form(upload=str(mine[0].pk)).filled(upload=str(mine[0].pk))
    assert "1 upload has been ended" in browser.post("/profile/uploads", first, follow=True).content.decode()
    assert "ended already" in browser.post("/profile/uploads", first, follow=True).content.decode()
    for wanted in (str(theirs.pk), "none", ""):
        browser.post("/profile/uploads", {"upload": wanted})
    assert UploadSession.objects.count() == 3
    page = browser.post("/profile/uploads", {"upload": "all"}, follow=True).content.decode()
    assert "2 uploads have been ended" in page
    assert "There are none." in page
    assert list(UploadSession.objects.all()) == [theirs]
