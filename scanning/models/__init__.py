"""The scanner's tables.

    Manifest (registry) ─── Sbom       its packages as CycloneDX, compressed
                   │   ├──< Component >── Package
                   │   ├─── Report     the current result: counts, age, or the problem of the last scan
                   │   ├──< Finding >── Vulnerability      from one scan until another
                   │   └──< Scan       waiting, running, done or failed
    Project ──< Acceptance   a vulnerability whose risk is accepted: reason, end
            ──< ScanRound, SeverityDay    requested scans and counts, by day
            ─── ScanTurn   when one of its scans was started last
            ──< Recipient, MailHour    who agreed to get mails, and the number of mails by hour
            ──< Subscription ──< Notification >── Delivery    targets, news, messages
    DatabaseRefresh          an attempt to renew the vulnerability database
    ScannerHost              a machine that scans, and how Trivy is isolated there

Results belong to a manifest, not to a tag. Reads are QuerySet methods; writes are functions of the modules beside this
package.
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
