"""The scanner's tables.

    Manifest (registry) ─── Sbom       what Trivy found in it, once: packages, compressed
                   │   ├──< Component >── Package
                   │   ├─── Report     what is known of it now: counts, as of when, and why not
                   │   ├──< Finding >── Vulnerability      an interval of scans: since one, until another
                   │   └──< Scan       one look at it: asked for, waiting, running, done or failed
    Project ──< Acceptance   a vulnerability that somebody lives with, why, and until when
            ──< ScanRound, SeverityDay    what was asked for, and how bad it was, by day
            ─── ScanTurn   when one of its scans was taken up last
            ──< Recipient, MailHour    who agreed to be mailed, and how many mails went
            ──< Subscription ──< Delivery >── Notice       who wants to hear of what, and what was sent
    DatabaseRefresh          how the vulnerability database was renewed
    ScannerHost              a machine that scans, and whether Trivy is isolated there

Everything hangs on the digest. Reads are QuerySet methods; writes are the functions of the modules beside this package.
"""

from .notifications import Delivery, MailHour, Notification, Recipient, Subscription
from .results import Acceptance, Component, Finding, Package, Report, Sbom, SeverityDay, Vulnerability
from .scans import DatabaseRefresh, Scan, ScannerHost, ScanRound, ScanTurn

__all__ = [
    "Acceptance",
    "Component",
    "DatabaseRefresh",
    "Delivery",
    "Finding",
    "MailHour",
    "Notification",
    "Package",
    "Recipient",
    "Report",
    "Sbom",
    "Scan",
    "ScanRound",
    "ScanTurn",
    "ScannerHost",
    "SeverityDay",
    "Subscription",
    "Vulnerability",
]
