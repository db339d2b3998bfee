"""Probes of the deployed address, through its proxy, as clients reach it."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext_noop as _

from registry import hosts

from . import content, passes, wire
from .results import failure, ok, skip, warning
from .visit import Probe, Visit, WrongHost, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = _("Address and proxy")
DECLARED = 5 * 1024**3  # bytes of a body that is announced and not sent
SENT = 32 * 1024 * 1024  # bytes of a body that is sent
FIRST_PIECE = 256 * 1024  # bytes: more than a thread of KCR reads at a time
BLOCK = 64 * 1024
CERTIFICATE_DAYS = 14
CLOCK_SECONDS, CLOCK_LIMIT = 5, 60
GATEWAY = {502, 503, 504}
NO_HOST = "status 400"


def reach(visit: Visit) -> None:
    """The name resolves, the port is open, and KCR answers behind it."""
    address = visit.public
    try:
        found = wire.resolve(address.host)
    except OSError as error:
        raise failure(
            _("%(host)s does not resolve: %(error)s"),
            _("Make a record in DNS, or set KCR_PUBLIC_URL to the address that clients use."),
            host=address.host,
            error=reason(error),
        ) from error
    try:
        answer = wire.ask(address, "GET", "/v2/")
    except (OSError, http.client.HTTPException) as error:
        raise failure(
            _("%(host)s port %(port)s (%(addresses)s) does not answer: %(error)s"),
            _("Start the proxy, open its port, and compare KCR_PUBLIC_URL with what the proxy listens to."),
            host=address.host,
            port=address.port,
            addresses=", ".join(found),
            error=reason(error),
        ) from error
    if answer.status in GATEWAY and "Docker-Distribution-Api-Version" not in answer.headers:
        raise failure(
            _("the proxy answers %(status)s: it does not reach KCR"),
            _("Let the proxy send requests to KCR_LISTEN (%(listen)s)."),
            fault="upstream",
            status=answer.status,
            listen=settings.LISTEN,
        )
    if "Docker-Distribution-Api-Version" not in answer.headers:
        raise failure(
            _("another server answers there: status %(status)s, without the header of a registry"),
            _("Let the proxy send all paths of this host to KCR_LISTEN (%(listen)s), or correct KCR_PUBLIC_URL."),
            fault="upstream",
            status=answer.status,
            listen=settings.LISTEN,
        )
    raise ok(
        _("%(url)s (%(addresses)s) answers in %(milliseconds)s ms"),
        url=settings.PUBLIC_URL,
        addresses=", ".join(found),
        milliseconds=round(answer.seconds * 1000),
    )


def installation(visit: Visit) -> None:
    """The address leads to this installation, and the proxy passes Authorization on."""
    try:
        answer = visit.ask("GET", "request")
    except WrongHost:
        raise skip(_("the host name does not reach KCR unchanged")) from None
    if answer.status == 200:
        raise ok(_("the address leads to this installation, and Authorization arrives"))
    if answer.status == 401:
        raise failure(
            _("KCR refuses the pass of the doctor (401)"),
            _(
                "Either the address leads to another installation, or its processes have another KCR_SECRET_KEY, or the"
                " proxy takes Authorization away."
            ),
            fault="authorization",
        )
    if answer.status in GATEWAY:
        raise skip(_("the diagnostic address could not be reached"))
    raise failure(
        _("the diagnostic address answers %(status)s"),
        _("Let the proxy pass all paths below /v2/ on; upgrade web processes of an older version."),
        fault="upstream",
        status=answer.status,
    )


def certificate(visit: Visit) -> None:
    """The certificate is valid for the name, trusted, and does not expire soon."""
    address = visit.public
    if not address.is_https:
        if address.host in {"localhost", "127.0.0.1", "::1"} or address.host.endswith(".localhost"):
            raise skip(_("KCR_PUBLIC_URL is http://, for this machine alone"))
        raise warning(
            _("KCR_PUBLIC_URL is http://: passwords and access keys can be read on the way"),
            _("Let the proxy end TLS, and set KCR_PUBLIC_URL to its https:// address."),
        )
    _check_certificate(address)


def _check_certificate(address: wire.Address) -> None:
    try:
        with wire.connected(address, verified=True) as sock:
            assert isinstance(sock, ssl.SSLSocket)
            found = sock.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise failure(
            _("the certificate of %(host)s is not accepted: %(error)s"),
            _(
                "Give the proxy a certificate for %(host)s with its whole chain. If an authority of your own issued it,"
                " name that in SSL_CERT_FILE."
            ),
            fault="certificate",
            host=address.host,
            error=error.verify_message or reason(error),
        ) from error
    except OSError as error:
        raise skip(_("no TLS connection: %(error)s"), error=reason(error)) from error
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)
    names = [each[1] for each in found.get("subjectAltName", ()) if each[0] in {"DNS", "IP Address"}]
    days = (ends - datetime.now(UTC)).days
    values = {"host": address.host, "date": f"{ends:%Y-%m-%d}", "days": days, "names": ", ".join(map(str, names[:8]))}
    if days < CERTIFICATE_DAYS:
        raise warning(
            _("the certificate of %(host)s ends in %(days)s days, on %(date)s"),
            _("Renew the certificate."),
            fault="certificate",
            **values,
        )
    raise ok(_("valid until %(date)s, for %(names)s"), **values)


def host(visit: Visit) -> None:
    """The Host header arrives unchanged."""
    try:
        seen = visit.seen
    except WrongHost:
        raise failure(
            _("KCR does not serve the host name that arrives: the proxy changes Host"),
            _("Let the proxy pass Host on unchanged. The log of KCR has the name that arrived."),
            fault="host",
        ) from None
    if seen["host"].lower() != visit.public.netloc.lower():
        raise failure(
            _("Host is %(sent)s, but %(arrived)s arrives"),
            _("Let the proxy pass Host on unchanged, with its port."),
            fault="host",
            sent=visit.public.netloc,
            arrived=seen["host"][:100],
        )
    raise ok(_("Host arrives as %(arrived)s"), arrived=seen["host"][:100])


def client(visit: Visit) -> None:
    """KCR knows the address of clients: the proxy is trusted and sends X-Forwarded-For."""
    visit.require_answers()
    seen = visit.seen
    if seen["peer_port"] == seen["own_port"] and not seen["forwarded_for"]:
        raise ok(_("no proxy between: clients connect to KCR itself"))
    if not seen["peer_is_trusted"]:
        raise failure(
            _("the proxy %(peer)s is not trusted: all clients count as one address, with its limits"),
            _("Add %(peer)s, or the network of your proxies, to KCR_TRUSTED_PROXIES."),
            peer=seen["peer"],
        )
    if not seen["forwarded_for"]:
        raise failure(
            _("the proxy %(peer)s sends no X-Forwarded-For: all clients count as one address"),
            _("Let the proxy add the address of the client to X-Forwarded-For."),
            fault="client",
            peer=seen["peer"],
        )
    raise ok(_("the client is %(client)s, behind the proxy %(peer)s"), client=seen["client"], peer=seen["peer"])


def scheme(visit: Visit) -> None:
    """KCR knows whether clients use https."""
    visit.require_answers()
    seen, wanted = visit.seen, visit.public.scheme
    if seen["scheme"] == wanted:
        raise ok(_("KCR sees %(scheme)s, as in KCR_PUBLIC_URL"), scheme=wanted)
    if not seen["peer_is_trusted"]:
        raise skip(_("the proxy is not trusted (KCR_TRUSTED_PROXIES), so its X-Forwarded-Proto does not count"))
    if wanted == "https" and not seen["forwarded_proto"]:
        raise failure(
            _("the proxy sends no X-Forwarded-Proto: KCR takes https requests for http"),
            _("Let the proxy set X-Forwarded-Proto. Otherwise sign-in and every other form fail."),
            fault="scheme",
        )
    raise failure(
        _("clients use %(wanted)s, but X-Forwarded-Proto is %(arrived)s"),
        _("Let the proxy set X-Forwarded-Proto to the scheme of the client, or correct KCR_PUBLIC_URL."),
        fault="scheme",
        wanted=wanted,
        arrived=seen["forwarded_proto"] or seen["scheme"],
    )


def realm(visit: Visit) -> None:
    """The challenge names the token service at the public address, and that service answers."""
    visit.require_answers()
    named = hosts.BARE if settings.BARE_HOST_NAMES else hosts.Host("doctor-check")
    answer = wire.ask(visit.public if settings.BARE_HOST_NAMES else visit.project, "GET", "/v2/")
    said = answer.headers.get("WWW-Authenticate", "")
    found = dict(re.findall(r'(\w+)="([^"]*)"', said))
    wanted = f"{settings.PUBLIC_URL}/token"
    if found.get("realm") != wanted or found.get("service") != named.service:
        raise failure(
            _("the realm is %(realm)s with the service %(service)s, not %(wanted)s with %(named)s"),
            _(
                "Let the proxy pass WWW-Authenticate on unchanged. If the web processes have another KCR_PUBLIC_URL"
                " than this command, correct it there."
            ),
            fault="challenge",
            realm=found.get("realm", "-")[:100],
            service=found.get("service", "-")[:100],
            wanted=wanted,
            named=named.service,
        )
    token = wire.ask(visit.public, "GET", f"/token?service={named.service}")
    if token.status != 200:
        raise failure(
            _("%(realm)s answers %(status)s to a client without a login, not 200"),
            _("Let the proxy pass /token on to KCR, without a login of its own."),
            fault="challenge",
            realm=wanted,
            status=token.status,
        )
    raise ok(_("tokens come from %(realm)s"), realm=wanted)


def location(visit: Visit) -> None:
    """The Location of an upload leads back to the same place."""
    visit.require_answers()
    answer = visit.ask("PATCH", "head", headers={"Content-Length": "0"})
    found = answer.headers.get("Location", "")
    parts = urlsplit(found)
    is_same = (parts.scheme or visit.public.scheme, parts.netloc or visit.public.netloc) == (
        visit.public.scheme,
        visit.public.netloc,
    )
    if not found or not is_same or parts.path != "/v2/_diagnostics/body":
        raise failure(
            _("Location arrives as %(found)s: uploads would go on elsewhere"),
            _("Let the proxy pass Location on unchanged: KCR sends a path without scheme and host."),
            fault="location",
            found=found[:100] or "-",
        )
    raise ok(_("Location arrives as %(found)s"), found=found[:100])


def body_size(visit: Visit) -> None:
    """The proxy lets large bodies through: 5 GiB by their Content-Length, 32 MiB really."""
    visit.require_answers()
    declared = _declare(visit)
    sent = visit.ask("PATCH", "body", body=_blocks(SENT), seconds=60)
    if 413 in {declared, sent.status}:
        raise failure(
            _("the proxy refuses a body of %(size)s (413)"),
            _("Let the proxy take bodies of any size below /v2/."),
            fault="body-size",
            size="5 GiB" if declared == 413 else "32 MiB",
        )
    if sent.status != 200 or json.loads(sent.body)["bytes"] != SENT:
        raise failure(
            _("a body of 32 MiB ends with status %(status)s"),
            _("Let the proxy take bodies of any size below /v2/."),
            fault="body-size",
            status=sent.status,
        )
    raise ok(_("a body of 5 GiB is let in, one of 32 MiB arrives whole"))


def _declare(visit: Visit) -> int:
    """Announce a body of DECLARED bytes and send none of it. Return the status, 0 if the proxy waits for the body."""
    headers = {"Content-Length": str(DECLARED), "Expect": "100-continue"}
    try:
        answer = wire.ask(visit.public, "PATCH", "/v2/_diagnostics/head", {**_login(), **headers}, seconds=5)
    except TimeoutError:
        return 0  # it buffers the request, which another probe reports
    except (OSError, http.client.HTTPException) as error:
        raise failure(
            _("the proxy breaks off when a body of 5 GiB begins: %(error)s"),
            _("Let the proxy take bodies of any size below /v2/."),
            fault="body-size",
            error=reason(error),
        ) from error
    return answer.status


def _login() -> dict[str, str]:
    return {"Authorization": passes.issue()}


def _blocks(size: int) -> Iterator[bytes]:
    block = bytes(BLOCK)
    for _each in range(size // BLOCK):
        yield block


def request_buffering(visit: Visit) -> None:
    """The first bytes of a body reach KCR before the last ones are sent."""
    visit.require_answers()

    def body() -> Iterator[bytes]:
        yield bytes(FIRST_PIECE)
        time.sleep(content.PAUSE)
        yield bytes(BLOCK)

    answer = visit.ask("PATCH", "body", body=body())
    if answer.status != 200:
        raise skip(_("a body of 320 KiB ends with status %(status)s"), status=answer.status)
    spread = json.loads(answer.body)["seconds"]
    if spread < content.PAUSE / 2:
        raise failure(
            _("the proxy stores a whole upload before KCR gets the first byte"),
            _("Turn off buffering of requests below /v2/: large pushes time out, and fill the disk of the proxy."),
            fault="request-buffering",
        )
    raise ok(_("bytes of an upload reach KCR while the client still sends"))


def response_buffering(visit: Visit) -> None:
    """The first bytes of an answer arrive before the last ones are made."""
    visit.require_answers()
    answer = visit.ask("GET", "slow")
    if answer.status != 200 or answer.body != 2 * content.PIECE:
        raise skip(_("a slow answer ends with status %(status)s"), status=answer.status)
    if answer.spread < content.PAUSE / 2:
        raise failure(
            _("the proxy holds an answer back until KCR has made more of it"),
            _("Turn off buffering of answers below /v2/: a slow reader would fill the disk of the proxy."),
            fault="response-buffering",
        )
    raise ok(_("bytes of an answer arrive while KCR still sends"))


def idle(visit: Visit) -> None:
    """The proxy waits for an answer that comes late."""
    visit.require_answers()
    began = time.monotonic()
    headers = _login()
    try:
        answer = wire.ask(
            visit.public, "GET", f"/v2/_diagnostics/late?n={visit.wait}", headers, seconds=visit.wait + 20.0
        )
        status = answer.status
    except (OSError, http.client.HTTPException):
        status = 0
    seconds = round(time.monotonic() - began)
    if status == 429:
        raise skip(_("the doctor runs already"))
    if status != 200:
        raise failure(
            _("the proxy gives up after %(seconds)s seconds without an answer"),
            _("Let the proxy wait for 15 minutes below /v2/: the last request of a large push reads it once more."),
            fault="idle",
            seconds=seconds,
        )
    raise ok(_("the proxy waits at least %(seconds)s seconds for an answer"), seconds=visit.wait)


def byte_ranges(visit: Visit) -> None:
    """A range of a blob passes the proxy unchanged."""
    visit.require_answers()
    first, last = 100_000, 100_999
    answer = visit.ask("GET", "blob", headers={"Range": f"bytes={first}-{last}", "If-Range": content.ETAG})
    total = len(content.BLOB)
    is_right = (
        answer.status == 206
        and answer.headers.get("Content-Range") == f"bytes {first}-{last}/{total}"
        and answer.body == content.BLOB[first : last + 1]
    )
    if not is_right:
        raise failure(
            _("a range of 1,000 bytes comes as %(status)s with %(size)s bytes"),
            _("Let the proxy pass Range, If-Range and Content-Range on: interrupted pulls start again without them."),
            fault="ranges",
            status=answer.status,
            size=f"{len(answer.body):,}",
        )
    raise ok(_("206 with the right bytes"))


def compression(visit: Visit) -> None:
    """The proxy does not compress images: their length and ETag would be lost."""
    visit.require_answers()
    for what, size in (("blob", len(content.BLOB)), ("manifest", len(content.MANIFEST))):
        answer = visit.ask("GET", what, headers={"Accept-Encoding": "gzip"})
        encoding = answer.headers.get("Content-Encoding", "")
        is_same = answer.headers.get("ETag") == content.ETAG and answer.headers.get("Content-Length") == str(size)
        if encoding or not is_same:
            raise failure(
                _("the proxy changes a %(what)s: encoding %(encoding)s, ETag %(etag)s, length %(length)s"),
                _("Turn off compression below /v2/: ranges, lengths and ETags of images must stay as they are."),
                fault="compression",
                what=what,
                encoding=encoding or "-",
                etag=answer.headers.get("ETag", "-"),
                length=answer.headers.get("Content-Length", "-"),
            )
    raise ok(_("length, ETag and bytes arrive unchanged"))


def project_hosts(visit: Visit) -> None:
    """Names on the hosts of projects lead to this installation, too."""
    address, is_needed = visit.project, not settings.BARE_HOST_NAMES
    if settings.DOMAIN.endswith("localhost") and not visit.public.host.endswith("localhost") and not is_needed:
        raise skip(_("KCR_DOMAIN is not set: images have names on the host of KCR_PUBLIC_URL only"))
    end = failure if is_needed else warning
    try:
        wire.resolve(address.host)
    except OSError as error:
        raise end(
            _("%(host)s does not resolve: %(error)s"),
            _("Make a record in DNS for *.%(wildcard)s. Without it, images have names on the shared host only."),
            host=address.host,
            error=reason(error),
            wildcard=f"{settings.REGION}.{settings.DOMAIN}",
        ) from error
    visit.require_answers()  # a fault of both hosts is reported once
    if address.is_https:
        _require_certificate(address, is_needed=is_needed)
    try:
        answer = visit.ask("GET", "request", address=address)
        arrived = json.loads(answer.body)["host"] if answer.status == 200 else f"status {answer.status}"
    except WrongHost:
        arrived = NO_HOST
    if arrived.lower().partition(":")[0] != address.host.lower():  # another probe compares the port
        raise end(
            _("a request to %(host)s does not reach KCR under that name: %(arrived)s"),
            _("Let the proxy serve *.%(wildcard)s, and pass Host on unchanged."),
            fault="project-hosts",
            host=address.netloc,
            arrived=arrived[:100],
            wildcard=f"{settings.REGION}.{settings.DOMAIN}",
        )
    raise ok(_("%(host)s leads here"), host=address.netloc)


def _require_certificate(address: wire.Address, *, is_needed: bool) -> None:
    try:
        with wire.connected(address, verified=True):
            pass
    except ssl.SSLCertVerificationError as error:
        raise (failure if is_needed else warning)(
            _("the certificate of %(host)s is not accepted: %(error)s"),
            _("Give the proxy a certificate for *.%(wildcard)s."),
            fault="project-hosts",
            host=address.host,
            error=error.verify_message or reason(error),
            wildcard=f"{settings.REGION}.{settings.DOMAIN}",
        ) from error
    except OSError as error:
        raise skip(_("no TLS connection: %(error)s"), error=reason(error)) from error


def clock(visit: Visit) -> None:
    """The clocks of this machine and of the web server agree."""
    try:
        visit.seen  # noqa: B018  ends the probe if nothing answers
        before = time.time()
        answer = visit.ask("GET", "request")
        other, after = float(json.loads(answer.body)["time"]), time.time()
    except WrongHost:
        raise skip(_("the host name does not reach KCR unchanged")) from None
    difference = other - (before + after) / 2
    shown = f"{difference:+.1f}"
    date = answer.headers.get("Date")
    proxy = (parsedate_to_datetime(date).timestamp() - after) if date else 0.0
    if abs(difference) > CLOCK_SECONDS or abs(proxy) > CLOCK_SECONDS:
        raise (failure if abs(difference) > CLOCK_LIMIT else warning)(
            _("compared with this machine, the web server's clock is off by %(seconds)s s, the proxy's by %(proxy)s s"),
            _("Let all machines take the time from one source (NTP): tokens and signed addresses depend on it."),
            seconds=shown,
            proxy=f"{proxy:+.0f}",
        )
    raise ok(_("the clocks agree, up to %(seconds)s seconds"), seconds=shown)


PROBES = [
    Probe("reach", _("The address answers"), GROUP, reach),
    Probe("installation", _("It leads to this installation"), GROUP, installation),
    Probe("certificate", _("TLS certificate"), GROUP, certificate),
    Probe("host", _("Host header"), GROUP, host),
    Probe("scheme", _("Scheme"), GROUP, scheme),
    Probe("client", _("Address of clients"), GROUP, client),
    Probe("realm", _("Token service"), GROUP, realm),
    Probe("location", _("Location of uploads"), GROUP, location),
    Probe("body-size", _("Size of uploads"), GROUP, body_size, 90.0),
    Probe("request-buffering", _("Buffering of uploads"), GROUP, request_buffering),
    Probe("response-buffering", _("Buffering of downloads"), GROUP, response_buffering),
    Probe("ranges", _("Ranges"), GROUP, byte_ranges),
    Probe("compression", _("Compression"), GROUP, compression),
    Probe("project-hosts", _("Project hosts"), GROUP, project_hosts),
    Probe("clock", _("Clocks"), GROUP, clock),
    Probe("idle", _("Patience of the proxy"), GROUP, idle, 30.0),
]
