"""Parses Trivy's output: its JSON report (schema 2) and its SBOM (CycloneDX).

Most fields may be absent, and an image can put any text into names and versions. Values of a wrong type are left out,
long ones are cut, and neither raises an error.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from scanning.models.results import NAME_LENGTH, PATH_LENGTH, VERSION_LENGTH

from . import coverage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TITLE_LENGTH = 300
URL_LENGTH = 500
SEVERITIES = {"UNKNOWN": 1, "LOW": 2, "MEDIUM": 3, "HIGH": 4, "CRITICAL": 5}
STATUSES = frozenset(
    (
        "unknown",
        "not_affected",
        "affected",
        "fixed",
        "under_investigation",
        "will_not_fix",
        "fix_deferred",
        "end_of_life",
    )
)
_PROPERTY = "aquasecurity:trivy:"
_UNRECOGNISED = "none"  # Trivy's family for packages of an operating system that it does not recognise


@dataclass(frozen=True, slots=True, order=True)
class PackageName:
    """One version of a package. ``kind``: Trivy's type."""

    kind: str
    name: str
    version: str


@dataclass(frozen=True, slots=True, order=True)
class ReportedFinding:
    """A vulnerability of a package in an image. ``severity``: 1 (unknown) to 5 (critical). ``score``: CVSS or None."""

    vulnerability: str
    package: PackageName
    path: str
    severity: int
    status: str
    fixed_version: str
    layer: str
    title: str
    url: str
    score: float | None

    @property
    def identity(self) -> tuple[str, PackageName, str]:
        """The same in each scan of one manifest. Trivy's own Fingerprint and UID differ between runs."""
        return (self.vulnerability, self.package, self.path)


@dataclass(frozen=True, slots=True)
class Result:
    """The content of a report. ``system``: such as "debian 12.5", "" without a recognised operating system.

    ``is_covered``: the vulnerability database has rows for the system's packages, or there is no system.
    """

    found: tuple[ReportedFinding, ...]
    system: str
    is_end_of_life: bool
    is_covered: bool

    @property
    def fingerprint(self) -> str:
        """A hash of the findings that does not depend on their order."""
        return hashlib.sha256(
            json.dumps([astuple(each) for each in sorted(self.found, key=_identity)]).encode()
        ).hexdigest()


def _identity(found: ReportedFinding) -> tuple[Any, ...]:
    return found.identity


def read_report(report: dict[str, Any], log: str, sbom: bytes, sources: frozenset[str]) -> Result:
    """Parse a report. A finding that is reported twice is returned once, with its worst severity.

    ``log``: of the run that made it from ``sbom``. ``sources``: of the vulnerability database.
    """
    system = _dict(_dict(report.get("Metadata")).get("OS"))
    family, name = _text(system.get("Family"), 60), _text(system.get("Name"), 39)
    found: dict[tuple[str, PackageName, str], ReportedFinding] = {}
    for part in _dicts(report.get("Results")):
        for row in _dicts(part.get("Vulnerabilities")):
            each = _found(row, _text(part.get("Type"), 50))
            if each and (each.identity not in found or found[each.identity].severity < each.severity):
                found[each.identity] = each
    return Result(
        found=tuple(sorted(found.values(), key=_identity)),
        system="" if family == _UNRECOGNISED else f"{family} {name}".strip(),
        is_end_of_life=system.get("EOSL") is True,
        is_covered=not family or coverage.covers(sources, family, name, log, sbom),
    )


def read_packages(sbom: bytes) -> list[PackageName]:
    """The packages of an SBOM, sorted, without duplicates. Raises ValueError if it is not JSON."""
    components = _dicts(_dict(json.loads(sbom)).get("components"))
    return sorted({package for component in components if (package := _package(component))})


def _package(component: dict[str, Any]) -> PackageName | None:
    kind = ""
    for each in _dicts(component.get("properties")):
        if each.get("name") == f"{_PROPERTY}PkgType":
            kind = _text(each.get("value"), 50)
    group, name = _text(component.get("group"), NAME_LENGTH), _text(component.get("name"), NAME_LENGTH)
    version = _text(component.get("version"), VERSION_LENGTH)
    if not (kind and name and version):
        return None
    joiner = ":" if kind in {"jar", "pom", "gradle-lockfile", "sbt-lockfile"} else "/"
    return PackageName(kind, f"{group}{joiner}{name}"[:NAME_LENGTH] if group else name, version)


def _found(row: dict[str, Any], kind: str) -> ReportedFinding | None:
    name, package = _text(row.get("VulnerabilityID"), 100), _text(row.get("PkgName"), NAME_LENGTH)
    if not (name and package):
        return None
    layer, url = _dict(row.get("Layer")), _text(row.get("PrimaryURL"), URL_LENGTH + 1)
    status = _text(row.get("Status"), 30)
    return ReportedFinding(
        vulnerability=name,
        package=PackageName(kind, package, _text(row.get("InstalledVersion"), VERSION_LENGTH)),
        path=_text(row.get("PkgPath"), PATH_LENGTH),
        severity=SEVERITIES.get(_text(row.get("Severity"), 20).upper(), 1),
        status=status if status in STATUSES else "unknown",
        fixed_version=_text(row.get("FixedVersion"), VERSION_LENGTH),
        layer=_text(layer.get("Digest"), 135),
        title=_text(row.get("Title"), TITLE_LENGTH),
        url=url if url.startswith(("https://", "http://")) and len(url) <= URL_LENGTH else "",
        score=_score(_dict(row.get("CVSS")), _text(row.get("SeveritySource"), 50)),
    )


def _score(rated: dict[str, Any], source: str) -> float | None:
    """The CVSS score by the source of the severity, or else by NVD, or else the highest of all sources."""
    given: dict[str, float] = {}
    for who, scores in rated.items():
        for version in ("V40Score", "V3Score", "V2Score"):
            score = _dict(scores).get(version)
            if isinstance(score, int | float) and not isinstance(score, bool) and 0 < score <= 10:
                given.setdefault(who, float(score))
    for who in (source, "nvd"):
        if who in given:
            return given[who]
    return max(given.values(), default=None)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    items: Iterable[Any] = value if isinstance(value, list) else ()
    return (item for item in items if isinstance(item, dict))


def _text(value: Any, most: int) -> str:
    """A text that PostgreSQL can store: without NUL and lone surrogates, at most ``most`` characters."""
    if not isinstance(value, str):
        return ""
    return value.replace("\0", "").encode(errors="ignore").decode()[:most]
