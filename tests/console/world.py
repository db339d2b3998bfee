"""``python -m tests.console.world STEP``: data of tests/console/test_browser.py on its server.

people: users with passwords, a readme, service accounts with an issuer of CI jobs, rules of tags. scans: two scans of the image 1. wide: as much as a row of the image 1 can say,
until scans. invitation ADDRESS: send the mail of an invitation.
"""

import json
import sys
from datetime import timedelta

import django
from django.apps import apps
from django.utils import timezone

if not apps.ready:
    django.setup()

from accounts import issuers, organizations, tasks
from accounts.actors import SYSTEM
from accounts.models import Invitation, IssuerKind, OrganizationRole, ProjectRole, RepositoryRole
from registry import members, projects, repositories, service_accounts
from registry.models import Manifest, Severity
from scanning import findings
from scanning.models import Report, Scan
from tests.support import PASSWORD
from tests.support.factories import found, make_report, open_scan
from tests.support.issuers import SigningKey

README = """# Shop

What **customers** see: [the shop](https://shop.acme.test). `docker pull web/app:1`

## Variables

| name | default | for |
|:-----|--------:|-----|
| `SHOP_DATABASE_URL_OF_THE_READING_REPLICA_IN_THE_OTHER_REGION` | | everything |
| `PORT` | 8080 | the health check |

    a line of code that is far longer than any telephone is wide, so that it must scroll inside of its own box

1. > a quotation
   - a list
"""


def people() -> None:
    """Create an owner, an admin, a member (mina), a reader, a viewer of demo/web, and what has pages of its own."""
    demo, web = organizations.find_project("demo"), repositories.find("demo/web")
    roles = {"admin": ProjectRole.ADMIN, "mina": ProjectRole.MEMBER, "reader": ProjectRole.READER}
    for name in ("owner", "viewer", *roles):
        role = OrganizationRole.OWNER if name == "owner" else None
        user, _ = organizations.add_user(demo.organization, f"{name}@acme.test", role=role, password=PASSWORD)
        if name in roles:
            members.set_role(SYSTEM, demo, user, roles[name])
        if name == "viewer":
            repositories.set_role(SYSTEM, web, user, RepositoryRole.VIEWER)
    repositories.update(SYSTEM, web, readme=README)
    projects.update(SYSTEM, demo, tag_rules=[{"patterns": ["release-*", "stable"], "mode": "immutable"}])
    keys = json.dumps({"keys": [SigningKey().jwk]})
    issuer = issuers.create(SYSTEM, demo.organization, IssuerKind.GITHUB, "https://ci.test", keys=keys)
    for place in (demo, demo.organization):
        account = service_accounts.create(SYSTEM, place, "ci", role=ProjectRole.MEMBER if place == demo else None)
        service_accounts.make_key(SYSTEM, account, "runner")
        service_accounts.add_trust_rule(SYSTEM, account, issuer, "main", {"repository": "acme/shop"})


def scans() -> None:
    """Record two scans of the image 1 and delete all waiting scans."""
    Scan.objects.all().delete()
    first = Manifest.objects.get(tags__name="1", tags__ended_at=None)
    openssl = found("CVE-2026-1", "openssl", severity=Severity.CRITICAL, fixed="3.0.12")
    make_report(first, [openssl])
    make_report(first, [openssl, found("CVE-2026-2", "curl", severity=Severity.LOW)])
    findings.recount(Report.objects.all())


def wide() -> None:
    """Give the image 1 thousands of findings that are out of date, and a scan that waits."""
    first = Manifest.objects.get(tags__name="1", tags__ended_at=None)
    long_ago = timezone.now() - timedelta(days=60)
    counts = dict.fromkeys(Report.COUNTS, 1_234)
    values = {
        "scanned_at": long_ago,
        "database_at": long_ago,
        "is_end_of_life": True,
        "fixable": 1_234,
        "accepted": 123,
    }
    Report.objects.filter(manifest=first).update(**counts, **values)
    open_scan(first)


def invitation(address: str) -> None:
    """Send the mail of an invitation as a worker does."""
    tasks.send_invitation(Invitation.objects.get(email=address).pk)


if __name__ == "__main__":
    {"people": people, "scans": scans, "wide": wide, "invitation": invitation}[sys.argv[1]](*sys.argv[2:])
