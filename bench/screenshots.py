"""``python -m bench.screenshots URL``: take the pictures of ``docs/screenshots`` again.

The server at URL serves an installation that ``bench.ninety_days`` filled; the worker and the scanner need not run.
Needs chromium. The pictures are WebP, some 40 kB each.
"""

from __future__ import annotations

import base64
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from tests.support import PASSWORD
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "screenshots"
SHOP = "/projects/shop/"
WEB = f"{SHOP}repositories/web/"
IMAGE = f"{WEB}storefront/"
WIDTH, HEIGHT, QUALITY = 1280, 820, 82
# name, address, options of the browser
PICTURES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("overview", SHOP, {}),
    ("overview-dark", SHOP, {"color_scheme": "dark"}),
    ("korean", IMAGE, {"locale": "ko-KR"}),
    ("repositories", f"{SHOP}repositories/", {}),
    ("image", IMAGE, {}),
    ("digest", f"{IMAGE}-/manifests/stable", {}),
    ("vulnerabilities", f"{SHOP}repositories/api/search/-/manifests/latest/vulnerabilities", {}),
    ("scans", f"{SHOP}scans", {}),
    ("permissions", f"{WEB}-/permissions?who=pusher@acme.test", {}),
    ("audit-log", f"{SHOP}audit-log?by=people", {}),
    ("recovery", f"{SHOP}recovery", {}),
)


@contextmanager
def started() -> Iterator[Browser]:
    """Chromium."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        browser = playwright.chromium.launch(executable_path=require("chromium"), args=options)
        yield browser
        browser.close()


def signed_in(browser: Browser, url: str, person: str = "owner", **options: str) -> Page:
    """A page of this person, who has signed in."""
    settings = {"locale": "en-US", "timezone_id": "Asia/Seoul"} | options
    context = browser.new_context(base_url=url, viewport={"width": WIDTH, "height": HEIGHT}, **settings)
    page = context.new_page()
    page.goto("/sign-in")
    page.locator("#id_email").fill(f"{person}@acme.test")
    page.locator("#id_password").fill(PASSWORD)
    page.locator("main button").click()
    page.wait_for_url(lambda address: "/sign-in" not in address)
    return page


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with started() as browser:
        for name, address, options in PICTURES:
            page = signed_in(browser, sys.argv[1], **options)
            page.goto(address)
            how = {"format": "webp", "quality": QUALITY}
            taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", how)
            (FOLDER / f"{name}.webp").write_bytes(base64.b64decode(taken["data"]))
            page.context.close()
            print(name, (FOLDER / f"{name}.webp").stat().st_size)


if __name__ == "__main__":
    main()
