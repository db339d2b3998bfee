"""Results of scans: packages, vulnerabilities, findings, reports, acceptances."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, Max, OuterRef, Q, Subquery, Value
from django.db.models.lookups import Exact
from django.utils import timezone

from accounts.models import Project
from registry.database.fields import DIGEST_LENGTH
from registry.models import Manifest, Repository, Severity, Tag
from registry.models.manifests import undeleted

from .scans import Problem, Scan

if TYPE_CHECKING:
    from datetime import datetime

NAME_LENGTH = 300
VERSION_LENGTH = 200
PATH_LENGTH = 500

Key = tuple[int, str, str]  # id of the vulnerability, kind and name of the package


class Sbom(models.Model):
    """The packages of a manifest: CycloneDX in JSON, compressed with gzip. Made once for each version of Trivy."""

    manifest = models.OneToOneField(Manifest, on_delete=models.CASCADE, primary_key=True, related_name="sbom")
    content = models.BinaryField()
    tool_version = models.CharField(max_length=50)
    made_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"SBOM of {self.manifest_id}"


class Package(models.Model):
    """One version of a package. ``kind`` is Trivy's type: debian, alpine, python-pkg, node-pkg, jar, …"""

    kind = models.CharField(max_length=50)
    name = models.CharField(max_length=NAME_LENGTH)
    version = models.CharField(max_length=VERSION_LENGTH)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "version", "kind"], name="one_package_a_version")
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class Component(models.Model):
    """A manifest contains a package."""

    manifest = models.ForeignKey(Manifest, on_delete=models.CASCADE, related_name="components", db_index=False)
    package = models.ForeignKey(Package, on_delete=models.PROTECT, related_name="components", db_index=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["manifest", "package"], name="one_component_a_package")
        ]
        indexes: ClassVar = [models.Index(fields=["package", "manifest"], name="manifests_with_package")]

    def __str__(self) -> str:
        return f"{self.package} in {self.manifest_id}"


class Vulnerability(models.Model):
    """A CVE, or an advisory without a CVE. ``score``: CVSS, 0.0 to 10.0."""

    name = models.CharField(max_length=100, unique=True)
    title = models.CharField(max_length=300, blank=True)
    url = models.URLField(max_length=500, blank=True)
    score = models.FloatField(null=True)

    def __str__(self) -> str:
        return str(self.name)


class AcceptanceQuerySet(models.QuerySet["Acceptance"]):
    """Reads of acceptances."""

    def active(self, now: datetime) -> Self:
        """Acceptances that are neither withdrawn nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), withdrawn_at=None)

    def covering(self) -> Self:
        """Acceptances that cover the finding of the outer query."""
        of_repository = Q(repository=None) | Q(repository=OuterRef("manifest__image__repository"))
        of_package = Q(package="") | Q(package=OuterRef("package__name"))
        # What was accepted while there was no fix is void when one appears.
        of_fix = Q(covers_fixed=True) | Q(Exact(OuterRef("fixed_version"), Value("")))
        return self.filter(
            of_repository,
            of_package,
            of_fix,
            project=OuterRef("manifest__image__repository__project"),
            vulnerability=OuterRef("vulnerability__name"),
        )


class Acceptance(models.Model):
    """The risk of a vulnerability is accepted, in a repository or (None) in the whole project.

    ``package`` "": in every package. Without ``covers_fixed`` it covers a finding only while there is no fixed version.
    ``justification``: OpenVEX's reason for "not affected", "" if the product is affected and the risk accepted. Only
    a withdrawal, and its undo, change the row.
    """

    class Justification(models.TextChoices):
        """Why a product is not affected (OpenVEX 0.2.0, "Status Justifications")."""

        COMPONENT = "component_not_present"
        CODE = "vulnerable_code_not_present"
        PATH = "vulnerable_code_not_in_execute_path"
        CONTROLLED = "vulnerable_code_cannot_be_controlled_by_adversary"
        MITIGATED = "inline_mitigations_already_exist"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="acceptances", db_index=False)
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, null=True, related_name="acceptances")
    vulnerability = models.CharField(max_length=100)
    package = models.CharField(max_length=NAME_LENGTH, blank=True)
    justification = models.CharField(max_length=60, choices=Justification, blank=True)
    reason = models.CharField(max_length=500)
    covers_fixed = models.BooleanField(default=False)
    accepted_by = models.CharField(max_length=254)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    accepted_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    withdrawn_at = models.DateTimeField(null=True)
    withdrawn_by = models.CharField(max_length=254, blank=True)

    objects = AcceptanceQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["project", "vulnerability"], name="acceptances_of_project"),
            models.Index(fields=["expires_at"], name="acceptances_by_end", condition=Q(withdrawn_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.vulnerability} in {self.repository or self.project}"


class FindingQuerySet(models.QuerySet["Finding"]):
    """Reads of findings."""

    def current(self) -> Self:
        """The findings of the newest scan of each manifest."""
        return self.filter(until=None)

    def in_project(self, project: Project | int) -> Self:
        """Those in a project's manifests, without deleted manifests, images and repositories."""
        return self.filter(undeleted("manifest__"), manifest__image__repository__project=project)

    def by_key(self) -> dict[Key, int]:
        """The worst severity under each ``Finding.key``. One query."""
        rows = self.order_by().values_list("vulnerability", "package__kind", "package__name")
        return {
            (vulnerability, kind, name): worst for vulnerability, kind, name, worst in rows.annotate(Max("severity"))
        }

    def as_of(self, scan: Scan) -> Self:
        """The findings of the scan's manifest right after that scan."""
        still = Q(until=None) | Q(until__gt=scan.pk)
        return self.filter(still, manifest=scan.manifest_id, since__lte=scan.pk)

    def with_acceptance(self, now: datetime) -> Self:
        """Adds ``acceptance``: the id of the newest acceptance that covers the finding at that time, or None."""
        covering = Acceptance.objects.active(now).covering().order_by("-pk").values("pk")
        return self.annotate(acceptance=Subquery(covering[:1]))

    def accepted(self, now: datetime) -> Self:
        """Findings with an acceptance."""
        active = Acceptance.objects.active(now)
        named = self.filter(vulnerability__name__in=active.values("vulnerability"))  # few rows to look at one by one
        return named.filter(Exists(active.covering()))

    def unaccepted(self, now: datetime) -> Self:
        """Findings without an acceptance."""
        return self.exclude(Exists(Acceptance.objects.active(now).covering()))


class Finding(models.Model):
    """A vulnerable package in a manifest, from the scan ``since`` until the scan that did not find it (None: current).

    A scan that finds the same again writes nothing. ``severity``, ``status``, ``fixed_version`` are as last reported.
    ``layer``: the digest of the layer with the package. ``path``: its file in the image, "" for packages of the
    operating system.
    """

    class Status(models.TextChoices):
        """The status by the package's distributor, in Trivy's words."""

        UNKNOWN = "unknown"
        NOT_AFFECTED = "not_affected"
        AFFECTED = "affected"
        FIXED = "fixed"
        UNDER_INVESTIGATION = "under_investigation"
        WILL_NOT_FIX = "will_not_fix"
        FIX_DEFERRED = "fix_deferred"
        END_OF_LIFE = "end_of_life"

    manifest = models.ForeignKey(Manifest, on_delete=models.CASCADE, related_name="findings", db_index=False)
    vulnerability = models.ForeignKey(Vulnerability, on_delete=models.PROTECT, related_name="findings", db_index=False)
    package = models.ForeignKey(Package, on_delete=models.PROTECT, related_name="findings")
    path = models.CharField(max_length=PATH_LENGTH, blank=True)
    layer = models.CharField(max_length=DIGEST_LENGTH, blank=True)
    severity = models.PositiveSmallIntegerField(choices=Severity)
    status = models.CharField(max_length=20, choices=Status)
    fixed_version = models.CharField(max_length=VERSION_LENGTH, blank=True)
    since = models.ForeignKey(Scan, on_delete=models.CASCADE, related_name="found")
    until = models.ForeignKey(Scan, on_delete=models.CASCADE, null=True, related_name="lost", db_index=False)

    objects = FindingQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["manifest", "vulnerability", "package", "path"],
                condition=Q(until=None),
                name="one_finding_a_package",
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["manifest", "-severity"], name="findings_of_manifest"),
            # Where a vulnerability is, without a look at each row. (Were there an index of all that is current, SQLite
            # would walk through it for a single project.)
            models.Index(
                fields=["vulnerability", "manifest", "package", "fixed_version"],
                name="manifests_with_vulnerability",
                condition=Q(until=None),
            ),
            models.Index(fields=["until"], name="findings_that_ended", condition=Q(until__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.vulnerability} in {self.package}"

    @property
    def key(self) -> Key:
        """What makes it the same in another digest: the package's version and path do not matter."""
        return (self.vulnerability_id, self.package.kind, self.package.name)


class ReportQuerySet(models.QuerySet["Report"]):
    """Reads of reports."""

    def in_project(self, project: Project | int) -> Self:
        """Those of a project's manifests, without deleted manifests, images and repositories."""
        return self.filter(undeleted("manifest__"), manifest__image__repository__project=project)

    def tagged(self, repositories: models.QuerySet[Repository]) -> Self:
        """Reports of everything tagged in these repositories, each digest once."""
        named = Tag.objects.live().filter(manifest=OuterRef("pk"))
        of_images = {"manifest__image__deletion": None, "manifest__image__repository__in": repositories}
        return self.filter(Exists(named), manifest__deletion=None, **of_images)


class Report(models.Model):
    """The current result of a manifest, in one row that lists join. An index has the values of its worst platform.

    ``state``: the result of the last successful scan; words about a result come from it, never from the counts.
    ``is_end_of_life``: the makers of ``system`` report no vulnerabilities any more. ``problem``: why a later scan
    failed, "" if none did. The counts leave out accepted findings, which ``accepted`` counts. ``database_at``: when the
    vulnerability database of the scan was built. ``fingerprint``: equal if a scan found the same again. ``recount_at``:
    when to count again: when findings or acceptances changed, until it is done; then when the first acceptance that
    the counts depend on expires. ``unknown_parts``: how many platforms of an index have no result, or a system that is
    not covered.
    """

    class State(models.TextChoices):
        """What the last successful scan found out.

        UNCOVERED: packages of the operating system were not checked, because the vulnerability database has no rows for
        it, or Trivy found none of its packages; other packages may have findings. UNRECOGNISED: no package found, which
        is not "clean". UNSUPPORTED: no client can run it. FAILED: no scan succeeded.
        """

        SCANNED = "scanned"
        UNCOVERED = "uncovered"
        UNRECOGNISED = "unrecognised"
        UNSUPPORTED = "unsupported"
        FAILED = "failed"

    COUNTS = ("critical", "high", "medium", "low", "unknown")

    manifest = models.OneToOneField(Manifest, on_delete=models.CASCADE, primary_key=True, related_name="report")
    state = models.CharField(max_length=12, choices=State)
    problem = models.CharField(max_length=20, choices=Problem, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    critical = models.PositiveIntegerField(default=0)
    high = models.PositiveIntegerField(default=0)
    medium = models.PositiveIntegerField(default=0)
    low = models.PositiveIntegerField(default=0)
    unknown = models.PositiveIntegerField(default=0)
    fixable = models.PositiveIntegerField(default=0)
    accepted = models.PositiveIntegerField(default=0)
    packages = models.PositiveIntegerField(default=0)
    system = models.CharField(max_length=100, blank=True, help_text="operating system, such as debian 12.5")
    is_end_of_life = models.BooleanField(default=False)
    unknown_parts = models.PositiveSmallIntegerField(default=0)
    tool_version = models.CharField(max_length=50, blank=True)
    database_at = models.DateTimeField(null=True)
    scanned_at = models.DateTimeField(null=True)
    fingerprint = models.CharField(max_length=64, blank=True)
    recount_at = models.DateTimeField(null=True)

    objects = ReportQuerySet.as_manager()

    KNOWN = (State.SCANNED, State.UNCOVERED, State.UNRECOGNISED)  # a scan looked into the image

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["recount_at"], name="reports_to_recount", condition=Q(recount_at__isnull=False)),
            models.Index(fields=["problem"], name="reports_with_problem", condition=~Q(problem="")),
        ]

    def __str__(self) -> str:
        return f"report of {self.manifest_id}: {self.state}"

    @property
    def total(self) -> int:
        """The number of findings without an acceptance."""
        return sum(getattr(self, name) for name in self.COUNTS)

    @property
    def is_clean(self) -> bool:
        """Whether a scan that could see everything found nothing that is not accepted."""
        is_whole = self.state == self.State.SCANNED and not (self.is_end_of_life or self.unknown_parts)
        return is_whole and not self.total

    @property
    def worst(self) -> Severity:
        """The worst severity of findings without an acceptance."""
        found = [name for name in self.COUNTS if getattr(self, name)]
        return Severity[found[0].upper()] if found else Severity.NONE


class SeverityDay(models.Model):
    """The tags of a project by their worst severity on one day (UTC), without accepted findings.

    ``tags``: how many there were. ``scanned``: how many of them had a result.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="severity_days", db_index=False)
    day = models.DateField()
    critical = models.PositiveIntegerField(default=0)
    high = models.PositiveIntegerField(default=0)
    medium = models.PositiveIntegerField(default=0)
    low = models.PositiveIntegerField(default=0)
    unknown = models.PositiveIntegerField(default=0)
    tags = models.PositiveIntegerField(default=0)
    scanned = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "day"], name="one_severity_row_a_project_and_day")
        ]

    def __str__(self) -> str:
        return f"{self.project} on {self.day}"
