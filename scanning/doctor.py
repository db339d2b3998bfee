"""Probes of the connection doctor about scans."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from registry.doctor.results import failure, ok, skip, warning
from registry.doctor.services import send_round
from registry.doctor.visit import Probe, Visit, reason
from scanning.models import DatabaseRefresh, ScannerHost
from scanning.trivy import program
from scanning.trivy.program import ScanFailed

GROUP = _("Scans")


def scanner(visit: Visit) -> None:
    """A task goes through the broker to a scanner and back."""
    send_round(visit, "scanning.tasks.answer_doctor", "scanner_at", queue="scans")


def trivy(visit: Visit) -> None:
    """Trivy can be started here, or another container runs it."""
    if settings.TRIVY_SOCKET:
        raise skip(_("another container runs Trivy (KCR_TRIVY_SOCKET)"))
    try:
        version = program.version()
    except ScanFailed as error:
        raise warning(
            _("there is no Trivy on this machine: %(error)s"),
            _("Install Trivy where the scanner runs, or set KCR_TRIVY_SOCKET."),
            error=reason(error),
        ) from error
    raise ok(_("Trivy %(version)s"), version=version)


def vulnerability_database(visit: Visit) -> None:
    """The vulnerability database exists and was built lately."""
    latest = DatabaseRefresh.objects.order_by("-pk").first()
    error = latest.problem[:200] if latest else ""
    if latest is None or latest.updated_at is None:
        hint = _("Set KCR_TRIVY_DB_REPOSITORY, or run manage.py loadvulnerabilitydb.")
        if error:
            raise failure(_("there is no vulnerability database: %(error)s"), hint, error=error)
        raise failure(_("there is no vulnerability database"), hint)
    age = timezone.now() - latest.updated_at
    if age > DatabaseRefresh.STALE:
        said = _("the vulnerability database is %(days)s days old")
        if error:
            said = _("the vulnerability database is %(days)s days old; the last attempt to renew it: %(error)s")
        hint = _("Set KCR_TRIVY_DB_REPOSITORY to where it can be fetched, or run manage.py loadvulnerabilitydb.")
        raise warning(said, hint, days=age.days, error=error)
    raise ok(_("built %(hours)s hours ago"), hours=round(age.total_seconds() / 3600))


def isolation(visit: Visit) -> None:
    """Trivy is shut in on every machine that scanned lately."""
    lately = timezone.now() - ScannerHost.SEEN_LATELY
    found = dict(ScannerHost.objects.filter(seen_at__gte=lately).values_list("name", "isolation"))
    if not found:
        raise skip(_("no scanner has reported lately"))
    without = sorted(name for name, kind in found.items() if kind == "limits")
    if without:
        raise warning(
            _("scans are not isolated on %(names)s"),
            _(
                "Allow user namespaces there (sysctl kernel.unprivileged_userns_clone=1), or set KCR_TRIVY_SOCKET and"
                " run Trivy in a container of its own."
            ),
            names=", ".join(without[:5]),
        )
    raise ok(_("scans are isolated on all %(number)s scanners"), number=len(found))


PROBES = [
    Probe("scanner", _("Scanner"), GROUP, scanner),
    Probe("trivy", _("Trivy"), GROUP, trivy, 70.0),
    Probe("vulnerability-database", _("Vulnerability database"), GROUP, vulnerability_database),
    Probe("isolation", _("Isolation of scans"), GROUP, isolation),
]
