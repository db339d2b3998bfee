"""Probes of what the processes of KCR need: database, queue, storage, disk, mail."""

from __future__ import annotations

import shutil
import smtplib
import ssl
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

import redis
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.module_loading import import_string
from django.utils.translation import gettext_noop as _

from accounts.networks import parsed
from registry import migrated, pools
from registry.celery import app
from registry.models import DoctorRun
from registry.storage import Full, blob_storage

from . import wire
from .results import failure, ok, skip, warning
from .visit import Probe, Visit, reason

if TYPE_CHECKING:
    from registry.storage import BlobStorage

GROUP = _("Database, queue, storage, mail")
SLOW_MILLISECONDS = 20
QUEUE_SECONDS = 15.0
OLD_WORK = 3600.0  # seconds that work may wait
LEAST_FREE, LEAST_BYTES = 0.1, 5 * 1024**3
SCRATCH = b"kcr doctor: this object is deleted at once " * 64
S3_CLOCK_SECONDS = 60
OLDEST_POSTGRESQL = 15


def database(visit: Visit) -> None:
    """The database answers, is of a supported version, and quick."""
    began = time.monotonic()
    try:
        connection.ensure_connection()
    except Exception as error:
        raise failure(
            _("the database does not answer: %(error)s"),
            _("Start it, or correct KCR_DATABASE_URL."),
            error=reason(error),
        ) from error
    opened = time.monotonic() - began
    times = []
    with connection.cursor() as cursor:
        for _each in range(5):
            began = time.monotonic()
            cursor.execute("SELECT 1")
            cursor.fetchone()
            times.append(time.monotonic() - began)
        is_postgresql = connection.vendor == "postgresql"
        cursor.execute("SHOW server_version" if is_postgresql else "SELECT sqlite_version()")
        version = cursor.fetchone()[0]
    values = {
        "name": "PostgreSQL" if is_postgresql else "SQLite",
        "version": version.split()[0],
        "milliseconds": f"{min(times) * 1000:.1f}",
        "opened": round(opened * 1000),
    }
    if is_postgresql and int(version.split(".")[0].split()[0]) < OLDEST_POSTGRESQL:
        raise warning(_("%(name)s %(version)s is older than version 15"), _("Upgrade the database server."), **values)
    if min(times) * 1000 > SLOW_MILLISECONDS:
        raise warning(
            _("a query takes %(milliseconds)s ms"),
            _("Bring the database closer to the web servers: each request sends several queries."),
            **values,
        )
    raise ok(_("%(name)s %(version)s, a query takes %(milliseconds)s ms, a connection %(opened)s ms"), **values)


def migrations(visit: Visit) -> None:
    """The tables are those of this version."""
    try:
        executor = MigrationExecutor(connection)
    except Exception as error:
        raise skip(_("the database does not answer")) from error
    if missing := migrated.missing(executor):
        raise failure(
            _("%(number)s migrations are missing: %(names)s"),
            _("Run manage.py migrate."),
            number=len(missing),
            names=", ".join(missing[:5]),
        )
    raise ok(_("all migrations are applied"))


def pool(visit: Visit) -> None:
    """PostgreSQL takes as many connections as the web processes of one machine may open."""
    if connection.vendor != "postgresql":
        raise skip(_("SQLite has no connections to count"))
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('max_connections')::int"
                " - current_setting('superuser_reserved_connections')::int"
            )
            allowed = cursor.fetchone()[0]
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            used = cursor.fetchone()[0]
    except Exception as error:
        raise skip(_("the database does not answer")) from error
    wanted = settings.WEB_WORKERS * pools.size(settings.WEB_THREADS)
    values = {"allowed": allowed, "used": used, "wanted": wanted, "processes": settings.WEB_WORKERS}
    if wanted > allowed:
        raise warning(
            _("%(processes)s web processes may open %(wanted)s connections, PostgreSQL takes %(allowed)s"),
            _("Raise max_connections of PostgreSQL, or lower KCR_WEB_WORKERS or KCR_WEB_THREADS."),
            **values,
        )
    if used > allowed * 0.9:
        raise warning(
            _("%(used)s of %(allowed)s connections are open"), _("Raise max_connections of PostgreSQL."), **values
        )
    raise ok(
        _("%(used)s of %(allowed)s connections are open; the web processes here need at most %(wanted)s"), **values
    )


def redis_server(visit: Visit) -> None:
    """Redis answers, and does not drop messages when its memory is full."""
    if not settings.REDIS_URL:
        raise skip(_("KCR_REDIS_URL is not set: the queue is a folder"))
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5) as client:
            began = time.monotonic()
            client.ping()
            milliseconds = (time.monotonic() - began) * 1000
            found: Any = client.info()
    except Exception as error:
        raise failure(
            _("Redis does not answer: %(error)s"), _("Start it, or correct KCR_REDIS_URL."), error=reason(error)
        ) from error
    policy = str(found.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise warning(
            _("Redis drops keys when its memory is full (maxmemory-policy %(policy)s)"),
            _("Set maxmemory-policy noeviction: queued work is in Redis."),
            policy=policy,
        )
    raise ok(
        _("Redis %(version)s answers in %(milliseconds)s ms"),
        version=found.get("redis_version", ""),
        milliseconds=f"{milliseconds:.1f}",
    )


def worker(visit: Visit) -> None:
    """A task goes through the broker to a worker and back."""
    send_round(visit, "registry.tasks.answer_doctor", "worker_at")


def send_round(visit: Visit, task: str, column: str, queue: str = "celery") -> None:
    """Queue a task that writes the time into ``column`` of the DoctorRun, and wait for it."""
    if visit.run is None:
        raise skip(_("the database does not answer, so no task can tell that it ran"))
    began = time.monotonic()
    try:
        with app.connection_for_write(connect_timeout=5) as broker:
            broker.ensure_connection(max_retries=1, timeout=5)
            app.send_task(task, args=[visit.run], queue=queue, connection=broker, retry=False, expires=120)
    except Exception as error:
        raise failure(
            _("no task can be queued: %(error)s"),
            _("Start Redis, or correct KCR_REDIS_URL; without Redis look at the folder broker in KCR_DATA_DIR."),
            error=reason(error),
        ) from error
    while time.monotonic() - began < QUEUE_SECONDS:
        time.sleep(0.1)
        if DoctorRun.objects.filter(pk=visit.run).exclude(**{column: None}).exists():
            raise ok(_("a task ran after %(seconds)s seconds"), seconds=f"{time.monotonic() - began:.1f}")
    raise (failure if queue == "celery" else warning)(
        _("a task of the queue %(queue)s did not run within %(seconds)s seconds"),
        _(
            "Start a worker for the queue (quickstart, or the services worker and scanner), and read its log. A worker"
            " that is busy for long takes the task later."
        ),
        queue=queue,
        seconds=round(QUEUE_SECONDS),
    )


def waiting_work(visit: Visit) -> None:
    """No queue in the database has waited for long."""
    try:
        found = {
            metric.name: sample.value
            for reader in settings.METRICS_READERS
            for metric in import_string(reader)()
            if metric.name.endswith("_oldest_seconds")
            for sample in metric.samples
        }
    except Exception as error:
        raise skip(_("the database does not answer")) from error
    name, seconds = max(found.items(), key=lambda item: item[1])
    queue = name.removeprefix("kcr_").removesuffix("_oldest_seconds").replace("_", " ")
    if seconds > OLD_WORK:
        raise warning(
            _("the oldest entry of the queue %(queue)s has waited for %(minutes)s minutes"),
            _("Look whether beat, workers and scanners run, and at their logs."),
            queue=queue,
            minutes=round(seconds / 60),
        )
    raise ok(_("the oldest queued work has waited for %(seconds)s seconds"), seconds=round(seconds))


def storage(visit: Visit) -> None:
    """A scratch object can be written, read and deleted."""
    found, key = blob_storage(), _scratch_key()
    began = time.monotonic()
    try:
        found.check()
        try:
            found.adopt(key, iter([SCRATCH]))
            with found.open(key) as file:
                is_same = file.read() == SCRATCH
        finally:
            found.delete(key)
        is_gone = not found.exists(key)
    except Full as error:
        raise failure(
            _("the storage is full: %(error)s"),
            _("Free space, or enlarge the disk of KCR_STORAGE_URL."),
            error=reason(error),
        ) from error
    except Exception as error:
        raise failure(
            _("the storage does not work: %(error)s"),
            _("Correct KCR_STORAGE_URL, credentials and rights: KCR reads, writes, lists and deletes."),
            error=reason(error),
        ) from error
    if not is_same or not is_gone:
        raise failure(
            _("the storage returned other bytes, or kept a deleted object"),
            _("Look at the versions and the caches of the bucket of KCR_STORAGE_URL."),
        )
    raise ok(
        _("%(kind)s: written, read and deleted in %(milliseconds)s ms"),
        kind="S3" if _is_s3() else "files",
        milliseconds=round((time.monotonic() - began) * 1000),
    )


def _scratch_key() -> str:
    upload = uuid4()
    return f"blobs/{upload.hex[:2]}/{upload}"


def _is_s3() -> bool:
    return str(settings.STORAGES["blobs"]["BACKEND"]).endswith("S3BlobStorage")


def presigned(visit: Visit) -> None:
    """Clients can fetch a blob at the signed address of S3."""
    found = blob_storage()
    if not _is_s3() or not found.address("blobs/x", 1 << 62):
        raise skip(_("KCR sends blobs itself: no client is sent to S3"))
    key = _scratch_key()
    try:
        found.adopt(key, iter([SCRATCH]))
    except Exception as error:
        raise skip(_("the storage does not work")) from error
    try:
        _fetch(found, key, visit)
    finally:
        found.delete(key)


def _fetch(found: BlobStorage, key: str, visit: Visit) -> None:
    url = found.address(key, 1 << 62)
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc}"
    change = _("Set public_endpoint in KCR_STORAGE_URL to the address at which clients reach S3, or presign=off.")
    try:
        inside = _is_inside(parts.hostname or "") and not _is_inside(visit.public.host)
    except OSError as error:
        raise failure(
            _("clients are sent to %(address)s, which does not resolve: %(error)s"),
            change,
            address=address,
            error=reason(error),
        ) from error
    if inside:
        raise failure(_("clients are sent to %(address)s, an internal address"), change, address=address)
    try:
        with urlopen(Request(url, headers={"Range": "bytes=0-99"}), timeout=10) as answer:  # noqa: S310  http(s)
            status, body = answer.status, answer.read(1000)
    except Exception as error:
        raise failure(
            _("clients are sent to %(address)s, which does not answer: %(error)s"),
            change,
            address=address,
            error=reason(error),
        ) from error
    if status != 206 or body != SCRATCH[:100]:
        raise failure(
            _("a range from %(address)s comes as %(status)s"),
            _("Look at what is between clients and S3: it must pass Host, Range and the query on."),
            address=address,
            status=status,
        )
    if visit.public.is_https and parts.scheme != "https":
        raise warning(_("clients are sent to %(address)s, without TLS"), change, address=address)
    raise ok(_("a signed address at %(address)s works from here"), address=address)


def _is_inside(host: str) -> bool:
    """Whether a host has addresses of this machine or of private networks only. Raises OSError."""
    return all(parsed(found).is_private for found in wire.resolve(host))


def storage_clock(visit: Visit) -> None:
    """The clock of S3 agrees: it refuses requests that are 15 minutes off."""
    if not _is_s3():
        raise skip(_("blobs are files"))
    found: Any = blob_storage()
    try:
        answer = found.client.head_bucket(Bucket=found.bucket_name)
        date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    except Exception as error:
        raise skip(_("S3 does not tell the time: %(error)s"), error=reason(error)) from error
    difference = date - time.time()
    if abs(difference) > S3_CLOCK_SECONDS:
        raise warning(
            _("the clock of S3 differs by %(seconds)s seconds"),
            _("Let all machines take the time from one source (NTP): S3 refuses signatures of another time."),
            seconds=f"{difference:+.0f}",
        )
    raise ok(_("the clocks agree, up to %(seconds)s seconds"), seconds=f"{difference:+.0f}")


def disk(visit: Visit) -> None:
    """The disks of the data directory, of scans and of blobs have space left."""
    folders = {"KCR_DATA_DIR": Path(settings.DATA_DIR), "KCR_SCAN_DIR": Path(settings.SCAN_DIR)}
    if not _is_s3():
        folders["KCR_STORAGE_URL"] = Path(str(getattr(blob_storage(), "location", settings.DATA_DIR)))
    found = []
    for name, folder in folders.items():
        room = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists()))
        found.append((room.free / room.total, room.free, name))
    share, free, name = min(found)
    values: dict[str, Any] = {"name": name, "free": f"{free / 1024**3:,.1f}", "percent": round(share * 100)}
    if share < LEAST_FREE or free < LEAST_BYTES:
        raise warning(
            _("%(free)s GiB are left on the disk of %(name)s (%(percent)s %%)"),
            _("Enlarge the disk, or delete images: uploads stop before it is full."),
            **values,
        )
    raise ok(_("%(free)s GiB are left on the disk of %(name)s (%(percent)s %%)"), **values)


def mail(visit: Visit) -> None:
    """The mail server takes the connection and the login; with ``send_mail`` also a mail."""
    if not settings.MAIL:
        raise warning(
            _("KCR_MAIL_URL is not set: mails are files in the folder mail of the data directory"),
            _("Set KCR_MAIL_URL: without it, people get no link for a new password."),
        )
    server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    sender = get_connection(timeout=10)
    try:
        sender.open()
        if visit.send_mail:
            EmailMessage(
                "KCR: a mail of the connection doctor",
                f"{settings.PUBLIC_URL} can send mails.\n",
                to=[visit.send_mail],
                connection=sender,
            ).send()
    except smtplib.SMTPAuthenticationError as error:
        raise failure(
            _("%(server)s refuses the login (%(code)s)"),
            _("Correct user and password in KCR_MAIL_URL; encode characters such as @ and / with %%."),
            server=server,
            code=error.smtp_code,
        ) from error
    except ssl.SSLError as error:
        raise failure(
            _("no TLS with %(server)s: %(error)s"),
            _("KCR_MAIL_URL: smtp:// is STARTTLS, smtps:// TLS from the start, smtp+plain:// no encryption."),
            server=server,
            error=reason(error),
        ) from error
    except smtplib.SMTPRecipientsRefused as error:
        raise failure(
            _("%(server)s refuses the mail: %(error)s"),
            _("Correct KCR_MAIL_FROM, or let the mail server relay for KCR."),
            server=server,
            error=reason(error),
        ) from error
    except Exception as error:
        raise failure(
            _("%(server)s does not take mails: %(error)s"),
            _("Correct KCR_MAIL_URL, or open the way to the mail server."),
            server=server,
            error=reason(error),
        ) from error
    finally:
        sender.close()
    if visit.send_mail:
        raise ok(_("%(server)s has taken a mail to %(recipient)s"), server=server, recipient=visit.send_mail)
    raise ok(_("%(server)s takes the connection and the login"), server=server)


PROBES = [
    Probe("database", _("Database"), GROUP, database),
    Probe("migrations", _("Migrations"), GROUP, migrations),
    Probe("pool", _("Connections to the database"), GROUP, pool),
    Probe("redis", _("Redis"), GROUP, redis_server),
    Probe("worker", _("Worker"), GROUP, worker),
    Probe("waiting-work", _("Waiting work"), GROUP, waiting_work),
    Probe("storage", _("Storage"), GROUP, storage, 60.0),
    Probe("presigned", _("Signed addresses of S3"), GROUP, presigned, 60.0),
    Probe("storage-clock", _("Clock of S3"), GROUP, storage_clock),
    Probe("disk", _("Disk"), GROUP, disk),
    Probe("mail", _("Mail"), GROUP, mail, 45.0),
]
