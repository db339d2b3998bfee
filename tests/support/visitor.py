"""A visitor of the console of a running server, with a browser without scripts: pages, forms, cookies."""

from __future__ import annotations

from contextlib import closing
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tests.support import PASSWORD
from tests.support.pages import Page

if TYPE_CHECKING:
    from tests.support.server import Server


class Visitor:
    """A person who signs in with PASSWORD, or an anonymous visitor without an address."""

    def __init__(self, server: Server, email: str = "") -> None:
        self.server, self.cookies = server, SimpleCookie()
        if email:
            status, _, _ = self.send("/sign-in", email=email, password=PASSWORD)
            assert status == 302, f"{email} cannot sign in"

    def see(self, path: str) -> str:
        """Return the page of this path."""
        status, _, page = self.ask("GET", path)
        assert status == 200, f"{path}: {status}"
        return page

    def send(self, path: str, **fields: str) -> tuple[int, str, str]:
        """Fill in and submit the form of a page with these fields. Return status, location and page of the answer."""
        return self.post(*self.filled(path, **fields))

    def filled(self, path: str, **fields: str) -> tuple[str, dict[str, str | list[str]]]:
        """Return the action of such a form, and its filled-in fields."""
        form = Page(self.see(path), path).form(**fields)
        return form.action, form.filled(**fields)

    def post(self, path: str, fields: dict[str, str | list[str]]) -> tuple[int, str, str]:
        """Send fields. Return status, location and page of the answer."""
        status, headers, page = self.ask("POST", path, urlencode(fields, doseq=True))
        return status, headers.get("Location", ""), page

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, str], str]:
        """Send a request. Return status, headers and page."""
        cookies = "; ".join(f"{name}={cookie.value}" for name, cookie in self.cookies.items())
        headers = {"Host": self.server.host, "Cookie": cookies, "Origin": self.server.url}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        with closing(self.server.connect(timeout=600)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            for cookie in answer.headers.get_all("Set-Cookie", ()):
                self.cookies.load(cookie)
            return answer.status, dict(answer.headers), answer.read().decode()
