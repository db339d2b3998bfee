"""One run of the doctor: what its probes share."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.translation import gettext_noop as _

from registry import hosts

from . import passes, wire
from .results import Ended, skip

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = "/v2/_diagnostics/"
WAIT = 65  # seconds: proxies and load balancers give up after 60 seconds unless they are told otherwise
PROJECT = "doctor-check"  # of the project host that is probed; no such project need exist
NOT_SERVED = "this host name is not served here"


class WrongHost(Exception):
    """KCR answered that it does not serve the host name that arrived."""


@dataclass
class Visit:
    """``wait``: for how many seconds the proxy must wait for an answer. ``send_mail``: an address for a test mail.

    ``run``: the id of the DoctorRun; None if it could not be stored.
    """

    wait: int = WAIT
    send_mail: str = ""
    run: int | None = None
    public: wire.Address = field(default_factory=lambda: wire.Address.of(settings.PUBLIC))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: dict[str, Any] | BaseException | None = None

    @property
    def project(self) -> wire.Address:
        """A project host of this installation."""
        return self.public.at(hosts.Host(PROJECT).service)

    def ask(self, method: str, what: str, *, address: wire.Address | None = None, **options: Any) -> wire.Answer:
        """Send a request to the diagnostic address. Ends the probe if the address does not answer as itself."""
        headers = {"Authorization": passes.issue(), **options.pop("headers", {})}
        try:
            answer = wire.ask(address or self.public, method, BASE + what, headers, **options)
        except (OSError, http.client.HTTPException) as error:
            raise skip(_("the address broke off: %(error)s"), error=reason(error)) from error
        if answer.status == 400 and NOT_SERVED in answer.body.decode(errors="replace"):
            raise WrongHost
        return answer

    @property
    def seen(self) -> dict[str, Any]:
        """What KCR saw of a request to the public address; ``own_port``: our port. Asked once.

        Raises Ended (the address leads to no KCR that knows our pass), WrongHost.
        """
        with self._lock:
            if self._seen is None:
                try:
                    self._seen = self._ask_what_is_seen()
                except (Ended, WrongHost) as error:
                    self._seen = error
            if isinstance(self._seen, BaseException):
                raise self._seen
            return self._seen

    def _ask_what_is_seen(self) -> dict[str, Any]:
        answer = self.ask("GET", "request")
        if answer.status != 200:
            raise skip(_("the diagnostic address answers %(status)s"), status=answer.status)
        return {**json.loads(answer.body), "own_port": str(answer.port)}

    def require_answers(self) -> None:
        """Skip a probe that makes sense only when the diagnostic address answers through the proxy."""
        try:
            self.seen  # noqa: B018  asks once, and raises
        except WrongHost:
            raise skip(_("the host name does not reach KCR unchanged")) from None
        except Ended as ended:
            raise skip(_("the diagnostic address could not be reached")) from ended


@dataclass(frozen=True, slots=True)
class Probe:
    """``call`` raises Ended. ``title``, ``group``: English, translated by pages. ``seconds``: its limit."""

    name: str
    title: str
    group: str
    call: Callable[[Visit], None]
    seconds: float = 30.0


def reason(error: BaseException) -> str:
    """An exception in one line of at most 200 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
