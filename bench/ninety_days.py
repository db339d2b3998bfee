"""``KCR_DATA_DIR=… python -m bench.ninety_days``: fill an empty installation with 90 days of work.

A company with two projects, 23 images, releases and nightly builds, promoted and deleted tags, signatures, charts,
scans, an accepted risk, a cleanup policy, service accounts, an issuer of CI and pulls: pages to look at. It is the same
each time, but for ids and today's date. Prints the password of all people; ``manage.py serve`` shows the pages. Takes
about two minutes.
"""

from __future__ import annotations

import json
import os
import random
import sys
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accounts.actors import Actor
    from accounts.models import Project
    from registry.models import Manifest
    from scanning.models import Scan
    from tests.support.docker_client import DockerClient
    from tests.support.images import Pushable
    from tests.support.personas import Persona

DAYS = 90
PEOPLE = {
    "owner": "Minseo Kim",
    "jihye": "Jihye Park",
    "daniel": "Daniel Weber",
    "ci-bot": "CI",
    "sora": "Sora Lee",
    "pusher": "Contract Builder",
    "viewer": "Audit Viewer",
    "stranger": "New Colleague",
}
REPOSITORIES: dict[str, dict[str, Any]] = {
    "web": {"description": "What customers see: shop, account, administration"},
    "api": {"description": "Services behind the shop"},
    "base": {"description": "Base images, rebuilt each night", "is_public": True},
    "charts": {"description": "Helm charts", "tag_overwrite": False},
}
# repository, image, pushes a week, platforms, distribution
IMAGES = (
    ("web", "storefront", 4, 2, "debian"),
    ("web", "admin-console", 2, 2, "debian"),
    ("web", "account", 2, 1, "alpine"),
    ("web", "nginx", 1, 2, "debian"),
    ("api", "payments-gateway", 3, 2, "debian"),
    ("api", "orders", 3, 1, "alpine"),
    ("api", "catalog", 2, 1, "alpine"),
    ("api", "search", 1, 1, "debian"),
    ("api", "mail-worker", 1, 1, "python"),
    ("api", "fraud/model-server", 1, 1, "python"),
    ("base", "debian", 2, 2, "debian"),
    ("base", "alpine", 2, 2, "alpine"),
    ("base", "python", 2, 1, "python"),
    ("base", "static", 1, 1, "empty"),
    *((("api", f"jobs/{name}", 0.4, 1, "alpine")) for name in ("billing", "export", "import", "report", "sync")),
    *((("web", f"preview/{name}", 0.3, 1, "debian")) for name in ("checkout", "header", "login", "search")),
)
# package, installed, fixed, CVE, severity, found on this day (None: known from the start)
FLAWS: dict[str, list[tuple[str, str, str, str, str, int | None]]] = {
    "debian": [
        ("openssl", "3.0.11-1", "3.0.18-1", "CVE-2025-15467", "CRITICAL", 30),
        ("libc6", "2.36-9", "2.36-10", "CVE-2024-2961", "HIGH", None),
        ("openssl", "3.0.11-1", "3.0.13-1", "CVE-2024-0727", "MEDIUM", None),
        ("zlib1g", "1:1.2.13", "", "CVE-2023-45853", "CRITICAL", None),
        ("libexpat1", "2.5.0-1", "2.5.0-1+deb12u1", "CVE-2024-45490", "CRITICAL", 70),
        ("apt", "2.6.1", "", "CVE-2011-3374", "LOW", None),
        ("curl", "7.88.1-10", "7.88.1-12", "CVE-2025-9086", "HIGH", 12),
        ("perl-base", "5.36.0-7", "", "CVE-2023-31484", "HIGH", None),
        ("tar", "1.34", "", "CVE-2005-2541", "LOW", None),
        ("libsystemd0", "252.22", "", "CVE-2013-4392", "LOW", None),
    ],
    "alpine": [
        ("busybox", "1.36.1-r28", "1.36.1-r29", "CVE-2023-42364", "MEDIUM", None),
        ("libcrypto3", "3.3.1-r3", "3.3.2-r0", "CVE-2024-6119", "HIGH", 60),
        ("musl", "1.2.5-r0", "1.2.5-r1", "CVE-2025-26519", "HIGH", 45),
    ],
    "python": [
        ("certifi", "2023.7.22", "2024.7.4", "CVE-2024-39689", "LOW", None),
        ("requests", "2.28.1", "2.31.0", "CVE-2023-32681", "MEDIUM", None),
        ("urllib3", "1.26.4", "1.26.5", "CVE-2021-33503", "HIGH", None),
        ("pillow", "9.5.0", "10.0.1", "CVE-2023-4863", "CRITICAL", 20),
    ],
    "empty": [],
}
SYSTEMS = {"debian": "debian 12.5", "alpine": "alpine 3.20.3", "python": "debian 11.9", "empty": ""}
CHART = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"


class Story:
    """Acts in the past: rows are written now, and ``at`` then sets their times."""

    def __init__(self) -> None:
        from django.utils import timezone

        self.random = random.Random("ninety days")
        self.now = timezone.now()
        self.versions: dict[str, tuple[int, int]] = {}
        self.pushed: dict[str, list[tuple[str, str]]] = {}  # image path: releases, and their digests
        self.before = self._marks()

    def _marks(self) -> dict[Any, int]:
        from django.db.models import Max

        from accounts.models import AccessKey, AuditEvent, Issuer, Project, TrustRule, User
        from registry.models import Deletion, Event, Image, Manifest, Repository, Tag
        from scanning.models import Acceptance, Scan

        changed = (Acceptance, AuditEvent, Deletion, Event, Image, Manifest, Scan, Tag)
        tables = (*changed, AccessKey, Issuer, Project, Repository, TrustRule, User)
        return {table: table.objects.aggregate(Max("pk"))["pk__max"] or 0 for table in tables}

    def at(self, moment: datetime) -> None:
        """Set the times of all rows since the last call to this moment."""
        from accounts.models import AccessKey, AuditEvent, Issuer, Project, TrustRule, User
        from registry.models import Deletion, Event, Image, Manifest, Repository, Tag
        from scanning.models import Acceptance, Report, Scan

        was, self.before = self.before, self._marks()
        late = moment + timedelta(minutes=2)
        times: dict[Any, dict[str, datetime]] = {
            Acceptance: {"accepted_at": moment},
            AuditEvent: {"at": moment},
            Deletion: {"at": moment, "purge_after": moment + timedelta(days=14)},
            Event: {"at": moment},
            Manifest: {"pushed_at": moment, "last_pushed_at": moment},
            Scan: {
                "requested_at": moment,
                "due_at": moment,
                "started_at": late,
                "finished_at": late,
                "database_at": moment,
            },
            Tag: {"started_at": moment, "pushed_at": moment},
        } | {
            table: {"created_at": moment} for table in (AccessKey, Image, Issuer, Project, Repository, TrustRule, User)
        }
        for table, values in times.items():
            table.objects.filter(pk__gt=was[table]).update(**values)
        new_scans = Scan.objects.filter(pk__gt=was[Scan])
        Report.objects.filter(manifest__in=new_scans.values("manifest")).update(scanned_at=late, database_at=moment)
        Tag.objects.filter(closed_by__gt=was[Event]).update(ended_at=moment)
        new_tags = Tag.objects.filter(pk__gt=was[Tag])
        Image.objects.filter(pk__in=new_tags.values("image")).update(pushed_at=moment)

    def moment(self, days_ago: float) -> datetime:
        """A moment of working hours on that day, never in the future."""
        day = self.now - timedelta(days=days_ago)
        made = datetime.combine(day.date(), time(8), UTC) + timedelta(minutes=self.random.randrange(600))
        return min(made, self.now - timedelta(minutes=3))


def prepare() -> None:
    """Make the installation in KCR_DATA_DIR."""
    if not os.environ.get("KCR_DATA_DIR"):
        sys.exit(__doc__)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry.settings")
    import logging

    import django
    from django.core.management import call_command

    django.setup()
    logging.disable(logging.ERROR)
    call_command("migrate", verbosity=0)
    from accounts.models import User

    if User.objects.exists():
        sys.exit("this installation is in use: give an empty KCR_DATA_DIR")


def make_people(story: Story) -> dict[str, Persona]:
    """Create the company, its projects and repositories, and users with a key each."""
    from accounts import organizations
    from accounts.models import OrganizationRole, ProjectRole, RepositoryRole
    from registry import members, projects, repositories
    from tests.support import PASSWORD
    from tests.support.personas import make_key

    acme, _ = organizations.create_organization("acme", "Acme")
    people = {}
    for name, full in PEOPLE.items():
        role = OrganizationRole.OWNER if name == "owner" else None
        user, _ = organizations.add_user(acme, f"{name}@acme.test", role=role, password=PASSWORD)
        user.name = full
        user.save()
        people[name] = make_key(user, "ci" if name == "ci-bot" else "laptop")
    actor = people["owner"].actor
    shop, _ = projects.create(actor, acme, "shop", display_name="Web shop")
    projects.create(actor, acme, "lab", display_name="Experiments")
    for name, given in (
        ("jihye", ProjectRole.ADMIN),
        ("daniel", ProjectRole.MEMBER),
        ("ci-bot", ProjectRole.MEMBER),
        ("sora", ProjectRole.READER),
    ):
        members.set_role(actor, shop, people[name].user, given)
    for name, settings in REPOSITORIES.items():
        repositories.create(people["jihye"].actor, shop, name, **settings)
    web = repositories.find("shop/web")
    repositories.set_role(people["jihye"].actor, web, people["pusher"].user, RepositoryRole.MEMBER)
    repositories.set_role(people["jihye"].actor, web, people["viewer"].user, RepositoryRole.VIEWER)
    add_machines(people["owner"].actor, shop)
    story.at(story.moment(DAYS + 1))
    return people


def add_machines(owner: Actor, shop: Project) -> None:
    """Make a service account of the project, one of the organization, and an issuer whose jobs act as the first."""
    from accounts import issuers
    from accounts.limits import Limits
    from accounts.models import IssuerKind, ProjectRole
    from registry import members, service_accounts
    from tests.support.issuers import SigningKey

    builder = service_accounts.create(
        owner,
        shop,
        "builder",
        description="Builds and pushes the images of the shop",
        contacts=["jihye@acme.test"],
        role=ProjectRole.MEMBER,
    )
    service_accounts.make_key(owner, builder, "nightly build", only=Limits(["pull", "push"], "api base"))
    mirror = service_accounts.create(owner, shop.organization, "mirror", description="Copies images to the other site")
    members.set_role(owner, shop, mirror, ProjectRole.READER)
    service_accounts.make_key(owner, mirror, "site 2", only=Limits(["pull"], "", "10.20.0.0/16"), counts_pulls=False)
    url, jwks = issuers.PUBLIC[IssuerKind.GITHUB], json.dumps({"keys": [SigningKey().jwk]})
    github = issuers.create(owner, shop.organization, IssuerKind.GITHUB, url, keys=jwks)
    for name, ref in (("main", "refs/heads/main"), ("releases", "refs/tags/v*")):
        claims = {"repository": "acme/shop", "ref": ref, "workflow": "build.yml"}
        service_accounts.add_trust_rule(owner, builder, github, name, claims, only=Limits(["pull", "push"], "web api"))


def build(story: Story, distribution: str, name: str, number: int, platforms: int) -> Pushable:
    """Build an image: a base layer that changes every month and a layer of its own. Two platforms get provenance."""
    from tests.support.images import Image as Pushed
    from tests.support.images import Index, Layer, canonical_json, random_bytes

    base = Layer.of({"usr/lib/base.bin": random_bytes(f"{distribution} {number // 12}", 300_000)})
    made = []
    for architecture in ("amd64", "arm64")[:platforms]:
        own = Layer.of({"app/program": random_bytes(f"{name} {number} {architecture}", 40_000 + 500 * number)})
        labels = {
            "org.opencontainers.image.source": f"https://git.acme.test/shop/{name}",
            "org.opencontainers.image.revision": f"{story.random.getrandbits(160):040x}",
        }
        made.append(Pushed.of(base, own, architecture=architecture, labels=labels))
    if platforms == 1:
        return made[0]
    statement = canonical_json(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "predicate": {"builder": {"id": "https://ci.acme.test/runner"}},
        }
    )
    from tests.support.images import Blob

    proof = Pushed(
        config=canonical_json(
            {"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": []}}
        ),
        layers=[Blob("application/vnd.in-toto+json", statement)],
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": made[0].digest,
        },
    )
    return Index((*made, proof))


def scan(story: Story, manifest: Manifest, distribution: str, days_ago: float) -> Scan | None:
    """Return the findings of a scan on that day, None for a manifest without a platform."""
    from registry.models import Severity
    from tests.support.factories import found, scanned

    if "linux" not in manifest.platforms or manifest.media_type.endswith("index.v1+json"):
        return None
    known = [flaw for flaw in FLAWS[distribution] if flaw[5] is None or flaw[5] >= days_ago]
    rows = [
        found(cve, package, installed, severity=Severity[severity], fixed=fixed)
        for package, installed, fixed, cve, severity, _ in known
    ]
    return scanned(manifest, *rows, system=SYSTEMS[distribution])


def push(story: Story, docker: DockerClient, image: tuple[Any, ...], days_ago: float) -> None:
    """Push one build as its version, ``latest`` and at times ``nightly``, sign every second release, and scan it."""
    from registry.models import Manifest
    from tests.support.images import Blob
    from tests.support.images import Image as Pushed

    repository, name, _, platforms, distribution = image
    path = f"shop/{repository}/{name}"
    minor, patch = story.versions.get(path, (1, 0))
    minor, patch = (minor + 1, 0) if story.random.random() < 0.25 else (minor, patch + 1)
    story.versions[path] = minor, patch
    number = len(story.pushed.setdefault(path, []))
    made = build(story, distribution, name, number, platforms)
    version = f"2.{minor}.{patch}"
    is_release = story.random.random() < 0.7
    tags = [version, "latest"] if is_release else [f"main-{story.random.getrandbits(28):07x}", "nightly"]
    for tag in tags:
        docker.push(path, tag, made)
    if is_release and number % 2:
        payload = Blob(COSIGN, json.dumps({"critical": {"image": {"docker-manifest-digest": made.digest}}}).encode())
        docker.push(path, made.digest.replace(":", "-") + ".sig", Pushed(layers=[payload]))
    if is_release:
        story.pushed[path].append((version, made.digest))
    story.at(story.moment(days_ago))
    digests = [made.digest, *(part.digest for part in made.parts)]
    for manifest in Manifest.objects.filter(image__path=path, digest__in=digests):
        scan(story, manifest, distribution, days_ago)
    story.at(story.moment(days_ago))


def promote(story: Story, person: Persona, path: str, days_ago: float) -> None:
    """Point ``stable`` at the release before the newest, as a release manager does in the console."""
    from registry import manifests, repositories
    from registry.models import Tag
    from registry.oci.names import ImageName

    current = Tag.objects.live().filter(image__path=path, name="stable").values_list("manifest__digest", flat=True)
    name = ImageName(*path.split("/", 2))
    repository = repositories.find(f"{name.project}/{name.repository}")
    manifests.point_tag(person.actor, repository, name, "stable", story.pushed[path][-2][1], seen=current.first() or "")
    story.at(story.moment(days_ago))


def clear_up(story: Story, person: Persona, path: str, days_ago: float) -> None:
    """Delete the oldest remaining release."""
    from registry import trash
    from registry.models import Image
    from registry.oci.names import ImageName

    if len(story.pushed[path]) > 6:
        version, _ = story.pushed[path].pop(0)
        repository = Image.objects.get(path=path).repository
        trash.delete_references(person.actor, repository, ImageName(*path.split("/", 2)), [version])
        story.at(story.moment(days_ago))


def count_pulls(story: Story) -> None:
    """Count pulls of tags, more on working days, and the totals of the project."""
    from collections import Counter

    from registry.models import Image, ProjectDay, Tag, TagDay

    totals: Counter[Any] = Counter()
    today = story.now.date()
    project = Image.objects.filter(path__startswith="shop/").first().repository.project  # type: ignore[union-attr]
    for image in Image.objects.filter(path__startswith="shop/"):
        weight = {"web": 12, "api": 8, "base": 20, "charts": 1}[image.path.split("/")[1]]
        for tag in Tag.objects.live().filter(image=image).exclude(name__contains="sha256-"):
            popular = 6 if tag.name in {"latest", "stable"} else 1 if story.random.random() < 0.3 else 0
            for ago in range(
                min(DAYS, (story.now - tag.started_at).days + 1) if popular == 1 else DAYS * bool(popular)
            ):
                day = today - timedelta(days=ago)
                pulls = story.random.randrange(weight * popular + 1) // (6 if day.weekday() > 4 else 1)
                if pulls:
                    at = min(datetime.combine(day, time(15), UTC), story.now)
                    fields = {"pulls": pulls, "pulled_at": at}
                    TagDay.objects.update_or_create(image=image, tag=tag.name, day=day, defaults=fields)
                    totals[day] += pulls
        latest = TagDay.objects.filter(image=image).order_by("-pulled_at").first()
        Image.objects.filter(pk=image.pk).update(pulled_at=latest.pulled_at if latest else None)
    size = 60_000_000
    for ago in reversed(range(DAYS)):
        day, size = today - timedelta(days=ago), size + story.random.randrange(3_000_000)
        fields = {"pulls": totals[day], "pushes": story.random.randrange(4, 20), "size": size}
        ProjectDay.objects.update_or_create(project=project, day=day, defaults=fields)


def count_severities() -> None:
    """Write the tags of each day by their worst severity, which grow with each known vulnerability."""
    from django.utils import timezone

    from registry.models import Manifest
    from scanning import findings
    from scanning.models import SeverityDay

    findings.record_day(timezone.now())
    project = Manifest.objects.earliest("pk").image.repository.project
    today = SeverityDay.objects.get(project=project)
    names = ("critical", "high", "medium", "low", "tags", "scanned")
    for ago in range(1, DAYS):
        grown = {name: getattr(today, name) * (DAYS - ago) // DAYS for name in names}
        SeverityDay.objects.create(project=project, day=today.day - timedelta(days=ago), **grown)


def settle(story: Story, people: dict[str, Persona], days_ago: int) -> None:
    """Create an acceptance, a cleanup policy and a description, each on its day."""
    from registry import images, repositories
    from registry.cleanup import policies
    from registry.models import Image
    from scanning import acceptances

    admin, web = people["jihye"].actor, repositories.find("shop/web")
    acts = {
        40: lambda: acceptances.accept(admin, web, "CVE-2011-3374", reason="apt is not reachable from the network"),
        20: lambda: policies.set_policy(admin, web, tag_days=60, keep_last=10, untagged_days=14),
        6: lambda: images.update(admin, Image.objects.get(path="shop/web/storefront"), description="The shop itself"),
    }
    if days_ago in acts:
        acts[days_ago]()
        story.at(story.moment(days_ago))


def notify(story: Story) -> None:
    """Create mails about scans, and a vulnerability database of this morning."""
    from registry import repositories
    from scanning.models import DatabaseRefresh
    from tests.support.factories import subscribe

    subscribe(repositories.find("shop/web").project, recipients=["jihye@acme.test", "daniel@acme.test"])
    DatabaseRefresh.objects.create(source="a file", updated_at=story.now - timedelta(hours=7))


def charts(story: Story, docker: DockerClient, days_ago: float, number: int) -> None:
    """Push a Helm chart as ``helm push`` does."""
    from tests.support.images import Blob
    from tests.support.images import Image as Pushed

    version = f"1.{number}.0"
    config = Blob(
        CHART,
        json.dumps(
            {
                "name": "storefront",
                "version": version,
                "appVersion": "2.0",
                "apiVersion": "v2",
                "description": "The web shop on Kubernetes",
            }
        ).encode(),
    )
    docker.push("shop/charts/storefront", version, Pushed(config, [Blob(CHART_LAYER, b"chart" * (number + 100))]))
    story.at(story.moment(days_ago))


def main() -> None:
    prepare()
    from django.db.models import Q

    from registry.models import Tag
    from registry.statistics import sizes
    from scanning.models import Report, Scan
    from tests.support import PASSWORD
    from tests.support.docker_client import BARE_HOST, DockerClient

    story = Story()
    people = make_people(story)
    machine = DockerClient(people["ci-bot"], BARE_HOST, address="10.0.3.7")
    hand = DockerClient(people["daniel"], BARE_HOST, address="10.0.8.21")
    for days_ago in reversed(range(DAYS)):
        for image in IMAGES:
            path = f"shop/{image[0]}/{image[1]}"
            if days_ago == DAYS - 1 or story.random.random() < image[2] / 7:
                push(story, hand if story.random.random() < 0.1 else machine, image, days_ago)
            if len(story.pushed[path]) > 1 and story.random.random() < 0.05:
                promote(story, people["jihye"], path, days_ago)
            if story.random.random() < 0.05:
                clear_up(story, people["daniel"], path, days_ago)
        settle(story, people, days_ago)
        if days_ago % 14 == 0:
            charts(story, machine, days_ago, (DAYS - days_ago) // 14)
        if days_ago % 10 == 0:
            print(f"{DAYS - days_ago} of {DAYS} days", flush=True)
    notify(story)
    old = Scan.objects.filter(requested_at__lt=story.now - timedelta(days=1))
    old.open().delete()
    old.update(is_noted=True)  # a worker would tell of ninety days at once otherwise
    last_night = story.now.replace(hour=0, minute=40)
    tagged = Tag.objects.live().values("manifest")
    daily = Report.objects.filter(Q(manifest__in=tagged) | Q(manifest__parent_references__parent__in=tagged))
    daily.update(scanned_at=last_night, database_at=last_night - timedelta(hours=2))
    count_pulls(story)
    count_severities()
    sizes.refresh()
    key = people["ci-bot"]
    print(f"\nPassword of all: {PASSWORD}", *(f"{name}@acme.test" for name in PEOPLE), sep="\n  ")
    print(f"Access key of ci-bot: {key.key.identifier} {key.secret}")


if __name__ == "__main__":
    main()
