"""``python -m bench.clicks URL``: count the clicks of frequent jobs in the console.

The server at URL serves an installation that ``bench.ninety_days`` filled. Each job begins at the page of an image,
unless its sentence says otherwise, and ends when its result is on the page. Enter that sends a form is a click, typing
is none. The jobs change the installation: each runs once.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from bench.screenshots import IMAGE, SHOP, signed_in, started

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

LAST_WEEK = (date.today() - timedelta(days=7)).isoformat()  # noqa: DTZ011 -- a day, as a person types it


@dataclass
class Hand:
    """A mouse that counts."""

    page: Page
    clicks: int = 0

    def click(self, target: Locator) -> None:
        """Click once."""
        target.click()
        self.clicks += 1

    def enter(self) -> None:
        """Send the form of the field that has the focus."""
        self.page.keyboard.press("Enter")
        self.clicks += 1

    def link(self, name: str) -> None:
        """Click the first link of this name."""
        self.click(self.page.get_by_role("link", name=name, exact=True).first)

    def button(self, name: str) -> None:
        """Click the first button of this name."""
        self.click(self.page.get_by_role("button", name=name, exact=True).first)

    def row(self, name: str) -> Locator:
        """The row of a tag, key or person."""
        cell = self.page.get_by_role("link", name=name, exact=True)
        return self.page.get_by_role("row").filter(has=cell).first


def copy_pull_command(hand: Hand) -> None:
    hand.click(hand.row("stable").get_by_role("button", name=re.compile("^Copy docker pull")))
    expect(hand.page.locator("#said")).to_have_text("Copied")


def move_tag(hand: Hand) -> None:
    hand.click(hand.row("stable").get_by_label("More about stable"))
    hand.click(hand.row("stable").get_by_role("link", name="Move tag"))
    hand.page.get_by_label("Points to").fill("latest")
    hand.enter()
    hand.button("Move stable")
    expect(hand.page.get_by_role("status")).to_contain_text("stable now points to")


def bring_back(hand: Hand) -> None:
    hand.page.locator("#at").fill(LAST_WEEK)
    hand.enter()
    hand.click(hand.row("nightly").get_by_role("link", name="Restore"))
    hand.button("Move nightly")
    expect(hand.page.get_by_role("status")).to_contain_text("nightly now points to")


def pull_as_it_was(hand: Hand) -> None:
    hand.page.locator("#at").fill(LAST_WEEK)
    hand.enter()
    hand.click(hand.row("nightly").get_by_role("button", name=re.compile("^Copy docker pull")))
    expect(hand.page.locator("#said")).to_have_text("Copied")


def undo_deletion(hand: Hand) -> None:
    hand.page.goto(f"{IMAGE}-/tags/delete?tag=2.10.4")
    hand.page.get_by_role("button", name="Delete 1 tag").click()
    hand.button("Undo")
    expect(hand.page.get_by_role("status")).to_contain_text("Recovered")


def find_cve(hand: Hand) -> None:
    hand.page.keyboard.press("/")
    hand.page.keyboard.type("CVE-2024-45490")
    hand.enter()
    expect(hand.page.get_by_role("heading", name="CVE-2024-45490")).to_be_visible()


def compare(hand: Hand) -> None:
    hand.link("latest")
    hand.link("Compare")
    hand.page.get_by_label("Compared with").fill("2.9.3")
    hand.enter()
    expect(hand.page.get_by_text("Packages that differ")).to_be_visible()


def who_moved(hand: Hand) -> None:
    hand.click(hand.row("latest").get_by_label("More about latest"))
    hand.click(hand.row("latest").get_by_role("link", name="Tag history"))
    expect(hand.page.get_by_role("columnheader", name="By")).to_be_visible()


def give_pull(hand: Hand) -> None:
    hand.link("Members")
    hand.link("Add member")
    hand.page.get_by_label("E-mail").fill("stranger@acme.test")
    hand.page.get_by_label("Role", exact=True).select_option("reader")
    hand.button("Add member")
    expect(hand.page.get_by_role("status")).to_contain_text("stranger@acme.test")


def make_key(hand: Hand) -> None:
    hand.link("Commands")
    hand.link("Create access key")
    hand.page.get_by_label("Name").fill("ci")
    hand.enter()
    expect(hand.page.get_by_role("link", name="I have copied the secret")).to_be_visible()


def revoke_key(hand: Hand) -> None:
    hand.link("Members")
    hand.link("Access keys")
    row = hand.page.get_by_role("row").filter(has_text="sora@acme.test")
    hand.click(row.get_by_role("link", name=re.compile("^Revoke")))
    hand.click(hand.page.get_by_role("button", name=re.compile("^Revoke")).last)
    expect(hand.page.get_by_role("status")).to_contain_text("revoked")


def pull_secret(hand: Hand) -> None:
    hand.link("Commands")
    hand.click(hand.page.locator("summary").filter(has_text="Kubernetes"))
    expect(hand.page.get_by_text("kubectl create secret").first).to_be_visible()


def preview_cleanup(hand: Hand) -> None:
    hand.link("web")
    hand.link("Cleanup")
    hand.button("Preview")
    expect(hand.page.get_by_role("heading", name=re.compile("would|Preview", re.IGNORECASE)).first).to_be_visible()


def list_images(hand: Hand) -> None:
    hand.link("Images")
    expect(hand.page.get_by_role("heading", name="Images")).to_be_visible()


def see_signature(hand: Hand) -> None:
    expect(hand.row("stable").get_by_title(re.compile("sign", re.IGNORECASE)).first).to_be_visible()


def stop_scan(hand: Hand) -> None:
    hand.page.goto(f"{SHOP}scans?ask=all")
    hand.page.get_by_role("button", name="Scan all").click()
    hand.button("Stop")
    expect(hand.page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)


def why_may_push(hand: Hand) -> None:
    hand.link("web")
    hand.link("Permissions")
    hand.page.get_by_placeholder("An e-mail address").fill("pusher@acme.test")
    hand.enter()
    expect(hand.page.get_by_text("Repository Member", exact=True)).to_be_visible()


JOBS: tuple[tuple[str, Callable[[Hand], None]], ...] = (
    ("copy the pull command of a tag", copy_pull_command),
    ("move `stable` to another digest", move_tag),
    ("find what `nightly` pointed to a week ago, and restore it", bring_back),
    ("copy the command that pulls a tag as it was a week ago", pull_as_it_was),
    ("undo the deletion of a tag", undo_deletion),
    ("find the images that have a CVE", find_cve),
    ("compare two builds", compare),
    ("see who moved a tag", who_moved),
    ("let a colleague pull", give_pull),
    ("make a key for CI", make_key),
    ("revoke a colleague's key", revoke_key),
    ("get a pull secret for Kubernetes", pull_secret),
    ("preview a cleanup policy", preview_cleanup),
    ("list all images of a project", list_images),
    ("see whether a tag is signed", see_signature),
    ("stop waiting scans, from the page of scans", stop_scan),
    ("see why a person may push", why_may_push),
)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with started() as browser:
        page = signed_in(browser, sys.argv[1])
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.set_default_timeout(8000)
        expect.set_options(timeout=8000)
        for words, job in JOBS:
            page.goto(IMAGE)
            hand = Hand(page)
            job(hand)
            print(f"| {words} | {hand.clicks} |", flush=True)


if __name__ == "__main__":
    main()
