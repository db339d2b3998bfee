"""Images for the scanner: with vulnerable software, without software, artifacts, disguised and hostile images.

Each docstring has the findings of Trivy. ``write_layout`` of ``tests.support.images`` makes a folder for ``trivy image --input``
of any of them. ``FINDINGS`` has the findings of the ordinary images by ``tests.support.vulnerability_db.FACTS``.
"""

import gzip
import hashlib
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from tests.support.images import (
    MEBIBYTE,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCTETS,
    Blob,
    Image,
    Index,
    Layer,
    canonical_json,
    random_bytes,
    tar_of,
)
from tests.support.vulnerability_db import Severity, Status

STATUS = "var/lib/dpkg/status"
SITE_PACKAGES = "usr/lib/python3.11/site-packages"
JAR = "app/lib/log4j-core-2.14.1.jar"


class Package(NamedTuple):
    """A package of a distribution, perhaps built from a source package of another name."""

    name: str
    version: str
    source: str = ""


class Finding(NamedTuple):
    """A vulnerability of a package, in the form of a report."""

    vulnerability: str
    package: str
    installed: str
    fixed: str
    severity: Severity
    status: Status


# ── Software ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def debian_release(version: str) -> dict[str, bytes]:
    """Return the release files of Debian."""
    told = f'PRETTY_NAME="Debian GNU/Linux {version}"\nNAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="{version}"\n'
    return {"etc/os-release": told.encode(), "etc/debian_version": f"{version}.5\n".encode()}


def dpkg_status(packages: Iterable[Package]) -> bytes:
    """Return the dpkg database of installed packages."""
    return "".join(
        f"Package: {package.name}\nStatus: install ok installed\nArchitecture: amd64\n"
        f"Source: {package.source or package.name}\nVersion: {package.version}\n\n"
        for package in packages
    ).encode()


def apk_installed(packages: Iterable[Package]) -> bytes:
    """Return the apk database of installed packages."""
    return "".join(
        f"P:{package.name}\nV:{package.version}\nA:x86_64\nL:MIT\no:{package.source or package.name}\n\n"
        for package in packages
    ).encode()


def python_packages(**versions: str) -> dict[str, bytes]:
    """Return the files of installed Python packages."""
    return {
        f"{SITE_PACKAGES}/{name}-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n"
        ).encode()
        for name, version in versions.items()
    }


def npm_packages(**versions: str) -> dict[str, bytes]:
    """Return the files of installed npm packages."""
    return {
        f"app/node_modules/{name}/package.json": canonical_json({"name": name, "version": version, "license": "MIT"})
        for name, version in versions.items()
    }


def java_archive(group: str, name: str, version: str) -> bytes:
    """Return a jar of Maven without classes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        properties = f"groupId={group}\nartifactId={name}\nversion={version}\n"
        archive.writestr(zipfile.ZipInfo(f"META-INF/maven/{group}/{name}/pom.properties"), properties)
    return made.getvalue()


DEBIAN_PACKAGES = (
    Package("apt", "2.6.1"),
    Package("base-files", "12.4+deb12u5"),
    Package("libc6", "2.36-9+deb12u4", "glibc"),
    Package("libssl3", "3.0.11-1~deb12u1", "openssl"),
    Package("openssl", "3.0.11-1~deb12u1"),
    Package("zlib1g", "1:1.2.13.dfsg-1", "zlib"),
)
ALPINE_PACKAGES = (
    Package("alpine-baselayout", "3.6.5-r0"),
    Package("busybox", "1.36.1-r28"),
    Package("libcrypto3", "3.3.1-r3", "openssl"),
    Package("musl", "1.2.5-r0"),
)

DEBIAN_LAYER = Layer.of({**debian_release("12"), STATUS: dpkg_status(DEBIAN_PACKAGES)})
ALPINE_LAYER = Layer.of(
    {
        "etc/os-release": b'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\n',
        "etc/alpine-release": b"3.20.3\n",
        "lib/apk/db/installed": apk_installed(ALPINE_PACKAGES),
    }
)
PYTHON_LAYER = Layer.of(python_packages(certifi="2023.7.22", idna="3.7", requests="2.28.1", urllib3="1.26.4"))
NPM_LAYER = Layer.of(npm_packages(express="4.21.2", lodash="4.17.20", minimist="1.2.5", request="2.88.2"))
JAR_LAYER = Layer.of({JAR: java_archive("org.apache.logging.log4j", "log4j-core", "2.14.1")})

# fmt: off
DEBIAN_FINDINGS = frozenset({
    Finding("CVE-2011-3374", "apt", "2.6.1", "", "LOW", "affected"),
    Finding("CVE-2019-1010022", "libc6", "2.36-9+deb12u4", "", "LOW", "affected"),
    Finding("CVE-2024-2961", "libc6", "2.36-9+deb12u4", "2.36-9+deb12u6", "HIGH", "fixed"),
    Finding("CVE-2023-5363", "libssl3", "3.0.11-1~deb12u1", "3.0.11-1~deb12u2", "HIGH", "fixed"),
    Finding("CVE-2024-0727", "libssl3", "3.0.11-1~deb12u1", "3.0.13-1~deb12u1", "MEDIUM", "fixed"),
    Finding("CVE-2025-27587", "libssl3", "3.0.11-1~deb12u1", "", "UNKNOWN", "affected"),
    Finding("CVE-2023-5363", "openssl", "3.0.11-1~deb12u1", "3.0.11-1~deb12u2", "HIGH", "fixed"),
    Finding("CVE-2024-0727", "openssl", "3.0.11-1~deb12u1", "3.0.13-1~deb12u1", "MEDIUM", "fixed"),
    Finding("CVE-2025-27587", "openssl", "3.0.11-1~deb12u1", "", "UNKNOWN", "affected"),
    Finding("CVE-2023-45853", "zlib1g", "1:1.2.13.dfsg-1", "", "CRITICAL", "will_not_fix"),
})
#: The additional findings of the next day's database in Debian.
TOMORROWS_FINDINGS = frozenset({
    Finding("CVE-2025-15467", "libssl3", "3.0.11-1~deb12u1", "3.0.18-1~deb12u2", "CRITICAL", "fixed"),
    Finding("CVE-2025-15467", "openssl", "3.0.11-1~deb12u1", "3.0.18-1~deb12u2", "CRITICAL", "fixed"),
})
ALPINE_FINDINGS = frozenset({
    Finding("CVE-2023-42364", "busybox", "1.36.1-r28", "1.36.1-r29", "MEDIUM", "fixed"),
    Finding("CVE-2024-6119", "libcrypto3", "3.3.1-r3", "3.3.2-r0", "HIGH", "fixed"),
    Finding("CVE-2025-26519", "musl", "1.2.5-r0", "1.2.5-r1", "HIGH", "fixed"),
})
PYTHON_FINDINGS = frozenset({
    Finding("CVE-2024-39689", "certifi", "2023.7.22", "2024.7.4", "LOW", "fixed"),
    Finding("CVE-2023-32681", "requests", "2.28.1", "2.31.0", "MEDIUM", "fixed"),
    Finding("CVE-2021-33503", "urllib3", "1.26.4", "1.26.5", "HIGH", "fixed"),
    Finding("CVE-2023-43804", "urllib3", "1.26.4", "2.0.6, 1.26.17", "HIGH", "fixed"),
})
NPM_FINDINGS = frozenset({
    Finding("CVE-2021-23337", "lodash", "4.17.20", "4.17.21", "HIGH", "fixed"),
    Finding("CVE-2021-44906", "minimist", "1.2.5", "1.2.6, 0.2.4", "CRITICAL", "fixed"),
    Finding("CVE-2023-28155", "request", "2.88.2", "", "MEDIUM", "affected"),
})
_LOG4J = "org.apache.logging.log4j:log4j-core"
JAR_FINDINGS = frozenset({
    Finding("CVE-2021-44228", _LOG4J, "2.14.1", "2.15.0, 2.12.2, 2.3.1", "CRITICAL", "fixed"),
    Finding("CVE-2021-44832", _LOG4J, "2.14.1", "2.17.1", "MEDIUM", "fixed"),
    Finding("CVE-2021-45046", _LOG4J, "2.14.1", "2.16.0", "CRITICAL", "fixed"),
})
# fmt: on


# ── Ordinary images ──────────────────────────────────────────────────────────────────────────────────────────────────
def debian() -> Image:
    """Debian 12; DEBIAN_FINDINGS."""
    return Image.of(DEBIAN_LAYER)


def distroless() -> Image:
    """Debian 12 with a file for each package, as in distroless images; DEBIAN_FINDINGS."""
    packages = {f"{STATUS}.d/{package.name}": dpkg_status([package]) for package in DEBIAN_PACKAGES}
    return Image.of(Layer.of({**debian_release("12"), **packages}))


def alpine() -> Image:
    """Alpine 3.20; ALPINE_FINDINGS."""
    return Image.of(ALPINE_LAYER)


def python() -> Image:
    """Packages of Python without an operating system; PYTHON_FINDINGS."""
    return Image.of(PYTHON_LAYER)


def npm() -> Image:
    """Packages of npm without an operating system; NPM_FINDINGS."""
    return Image.of(NPM_LAYER)


def jar() -> Image:
    """A Java archive with pom.properties; JAR_FINDINGS."""
    return Image.of(JAR_LAYER)


def all_in_one() -> Image:
    """Debian, Python, npm and Java, a layer each, around a layer without software; the findings of all four."""
    return Image.of(DEBIAN_LAYER, Layer.of({"etc/motd": b"hello\n"}), PYTHON_LAYER, NPM_LAYER, JAR_LAYER)


def end_of_life() -> Image:
    """Debian 9, which has reached its end of life: recognised, no findings."""
    return Image.of(Layer.of({**debian_release("9"), STATUS: dpkg_status([Package("openssl", "1.1.0l-1~deb9u1")])}))


def _dpkg_under(**files: bytes) -> Image:
    """Return an old openssl of Debian under other release files in /etc, such as ``os_release=``."""
    etc = {f"etc/{name.replace('_', '-' if name == 'os_release' else '_')}": content for name, content in files.items()}
    return Image.of(Layer.of({**etc, STATUS: dpkg_status([Package("openssl", "3.0.11-1~deb12u1")])}))


def _apk_under(system: bytes, version: bytes) -> Image:
    """Return an old openssl of Alpine under a system of this name and version."""
    files = {"etc/os-release": b"ID=%s\nVERSION_ID=%s\n" % (system, version)}
    if system == b"alpine":
        files["etc/alpine-release"] = version + b"\n"
    return Image.of(Layer.of({**files, "lib/apk/db/installed": apk_installed([Package("libcrypto3", "3.3.1-r3")])}))


def uncovered() -> Mapping[str, tuple[Image, str]]:
    """Return images with an old openssl in systems without rows in the database, by Trivy's name of the system."""
    centos = dict.fromkeys(("etc/centos-release", "etc/redhat-release"), b"CentOS Stream release 9\n")
    centos["etc/os-release"] = b'NAME="CentOS Stream"\nID="centos"\nVERSION_ID="9"\n'
    return {
        "sid": (_dpkg_under(os_release=b"ID=debian\n", debian_version=b"trixie/sid\n"), "debian trixie/sid"),
        "kali": (_dpkg_under(os_release=b"ID=kali\n", debian_version=b"kali-rolling\n"), "debian kali-rolling"),
        "a later debian": (_dpkg_under(os_release=b"ID=debian\n", debian_version=b"99.1\n"), "debian 99.1"),
        "mint": (_dpkg_under(os_release=b'ID=linuxmint\nVERSION_ID="21.3"\nID_LIKE="ubuntu debian"\n'), ""),
        "deepin": (_dpkg_under(os_release=b'ID=deepin\nVERSION_ID="23"\n'), ""),
        "no system": (_dpkg_under(), ""),
        "edge": (_apk_under(b"alpine", b"3.23_alpha20250612"), "alpine 3.23_alpha20250612"),
        "a later alpine": (_apk_under(b"alpine", b"3.99.0"), "alpine 3.99.0"),
        "postmarketos": (_apk_under(b"postmarketos", b"v24.06"), ""),
        "centos stream": (Image.of(Layer.of(centos), PYTHON_LAYER), "centos-stream 9"),
        "no packages of the system": (Image.of(Layer.of(debian_release("12")), PYTHON_LAYER), "debian 12.5"),
    }


def kali_with_python() -> Image:
    """Kali, which has no rows in the database, and packages of Python; PYTHON_FINDINGS."""
    kali = {"etc/os-release": b"ID=kali\n", "etc/debian_version": b"kali-rolling\n"}
    return Image.of(Layer.of({**kali, STATUS: dpkg_status([Package("openssl", "3.0.11-1~deb12u1")])}), PYTHON_LAYER)


def scratch() -> Image:
    """One program without metadata: no operating system, no packages."""
    return Image.of(Layer.of({"program": b"\x7fELF" + random_bytes("program", 4096)}))


def zero_layers() -> Image:
    """No layer: no operating system, no packages."""
    return Image.of()


def two_platforms() -> Index:
    """Debian with Python for amd64 and with npm for arm64, the same base for both, and BuildKit's attestation."""
    amd64 = Image.of(DEBIAN_LAYER, PYTHON_LAYER)
    arm64 = Image.of(DEBIAN_LAYER, NPM_LAYER, architecture="arm64")
    return Index((amd64, arm64, attestation(amd64)))


FINDINGS: Mapping[Callable[[], Image], frozenset[Finding]] = {
    debian: DEBIAN_FINDINGS,
    distroless: DEBIAN_FINDINGS,
    alpine: ALPINE_FINDINGS,
    python: PYTHON_FINDINGS,
    npm: NPM_FINDINGS,
    jar: JAR_FINDINGS,
    all_in_one: DEBIAN_FINDINGS | PYTHON_FINDINGS | NPM_FINDINGS | JAR_FINDINGS,
    end_of_life: frozenset(),
    scratch: frozenset(),
    zero_layers: frozenset(),
}


# ── Artifacts ────────────────────────────────────────────────────────────────────────────────────────────────────────
def helm_chart() -> Image:
    """A Helm chart: from a registry it is refused by name; from a folder it looks like an image without software."""
    chart = {"apiVersion": "v2", "name": "chart", "version": "1.0.0"}
    content = gzip.compress(tar_of({"chart/Chart.yaml": canonical_json(chart)}), mtime=0)
    return Image(
        Blob("application/vnd.cncf.helm.config.v1+json", canonical_json(chart)),
        (Blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", content),),
    )


def wasm() -> Image:
    """A WebAssembly module: as with a Helm chart."""
    return Image(
        Blob("application/vnd.wasm.config.v0+json", canonical_json({"architecture": "wasm", "os": "wasip1"})),
        (Blob("application/wasm", b"\x00asm\x01\x00\x00\x00"),),
    )


def attestation(image: Image) -> Image:
    """An attestation of BuildKit beside an image in an index: looks like an image, is refused as a broken one."""
    predicate = "https://slsa.dev/provenance/v0.2"
    statement = {
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": predicate,
        "subject": [{"name": "image", "digest": {"sha256": image.manifest.digest.removeprefix("sha256:")}}],
        "predicate": {},
    }
    layer = Blob("application/vnd.in-toto+json", canonical_json(statement), {"in-toto.io/predicate-type": predicate})
    return Image(
        _config_of([layer.digest], "unknown", "unknown"),
        (layer,),
        annotations={
            "vnd.docker.reference.digest": image.manifest.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        },
    )


def signature(image: Image) -> Image:
    """A signature of cosign, ``sha256-….sig``: looks like an image, is refused as a broken one."""
    payload = {
        "critical": {
            "identity": {"docker-reference": ""},
            "image": {"docker-manifest-digest": image.manifest.digest},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    layer = Blob(
        "application/vnd.dev.cosign.simplesigning.v1+json",
        canonical_json(payload),
        {"dev.cosignproject.cosign/signature": "bm90IHJlYWxseSBzaWduZWQ="},
    )
    return Image(_config_of([layer.digest], "", ""), (layer,))


def _config_of(diff_ids: Iterable[str], architecture: str = "amd64", system: str = "linux") -> Blob:
    """Return a config with these diff_ids."""
    document = {
        "architecture": architecture,
        "os": system,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    return Blob(OCI_CONFIG, canonical_json(document))


# ── Images in disguise ───────────────────────────────────────────────────────────────────────────────────────────────
def disguises() -> Mapping[str, Image]:
    """Make images of Debian 12 whose manifests have unusual types. Clients run them, so a scan finds DEBIAN_FINDINGS."""
    image, layer = debian(), DEBIAN_LAYER
    config = image.config

    def made(config_type: str = OCI_CONFIG, layer_type: str = layer.media_type, **more: str) -> Image:
        return Image(Blob(config_type, config), (Blob(layer_type, layer),), more=more)

    return {
        "artifact type": made(artifactType="application/x"),
        "bytes": made(layer_type=OCTETS),
        "attestation": made(layer_type="application/vnd.in-toto+json"),
        "capitals": made(OCI_CONFIG.upper()),
        "space": made(f"{OCI_CONFIG} "),
        "parameter": made(f"{OCI_CONFIG}; charset=utf-8"),
        "default of docker": made(OCTETS, OCTETS),
        "unknown": made("application/vnd.acme.config+json", "application/vnd.acme.layer"),
        "unknown with layers": Image(Blob("application/vnd.acme.config", b'{"a": 1}'), (layer,)),
    }


def elsewhere() -> Image:
    """Debian 12 and a foreign layer: the image has no result."""
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    return Image(debian().config, (DEBIAN_LAYER, Blob(foreign, PYTHON_LAYER)))


def same_diff_ids() -> Image:
    """A harmless layer below Debian 12 with the same diff_id for both: Trivy would read the first one twice."""
    harmless = Layer.of({"etc/motd": b"hello\n"})
    return Image(_config_of([harmless.diff_id, harmless.diff_id]), (harmless, DEBIAN_LAYER))


def fewer_diff_ids() -> Image:
    """A harmless layer below Debian 12, and a config with the diff_id of the first one only."""
    harmless = Layer.of({"etc/motd": b"hello\n"})
    return Image(_config_of([harmless.diff_id]), (harmless, DEBIAN_LAYER))


# ── Hostile images ───────────────────────────────────────────────────────────────────────────────────────────────────
class ClaimedLayer(NamedTuple):
    """The compressed bytes of a layer, and the diff_id that the config claims."""

    diff_id: str
    blob: Blob


def bomb(mebibytes: int = 2048, path: str = STATUS) -> Image:
    """A file of zeros, compressed a thousandfold: Trivy writes it to its temporary folder twice."""
    zeros = bytes(MEBIBYTE)
    return _claimed(_repetitive_layer((_head(path, mebibytes * MEBIBYTE), 1), (zeros, mebibytes), (zeros, 1)))


def bombs(number: int = 10, mebibytes: int = 200) -> Image:
    """Files of zeros below the limit each: Trivy has all archives of a layer on the disk at once."""
    zeros = bytes(MEBIBYTE)
    files = [
        part
        for place in range(number)
        for part in ((_head(f"app/lib/{place}.jar", mebibytes * MEBIBYTE), 1), (zeros, mebibytes))
    ]
    return _claimed(_repetitive_layer(*files, (zeros, 1)))


def memory_bomb(mebibytes: int = 100) -> Image:
    """A package with a name of this length: Trivy uses fifty times as much memory."""
    start, end = b'{"version": "1.0.0", "name": "'.ljust(512, b"n"), b'"}'.ljust(512)
    head = _head("app/node_modules/long/package.json", len(start) + mebibytes * MEBIBYTE + len(end))
    return _claimed(_repetitive_layer((head + start, 1), (b"n" * MEBIBYTE, mebibytes), (end + bytes(1024), 1)))


def _claimed(*layers: ClaimedLayer) -> Image:
    """Return an image of these layers on top of Debian 12."""
    base = ClaimedLayer(DEBIAN_LAYER.diff_id, DEBIAN_LAYER)
    config = _config_of(layer.diff_id for layer in (base, *layers))
    return Image(config, [layer.blob for layer in (base, *layers)])


def _head(path: str, size: int) -> bytes:
    """Return the header of a file in a tar. The size must be a multiple of the block size."""
    member = tarfile.TarInfo(path)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def _repetitive_layer(*parts: tuple[bytes, int]) -> ClaimedLayer:
    """Return a layer whose tar repeats each of these parts. The whole tar is never in memory.

    The compressed form of a part is always the same, so it is compressed once.
    """
    packed = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]  # the header of gzip
    digest, checksum, size = hashlib.sha256(), 0, 0
    for content, times in parts:
        packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
        packed.append((packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)) * times)
        size += len(content) * times
        for _ in range(times):
            digest.update(content)
            checksum = zlib.crc32(content, checksum)
    packed += [b"\x03\x00", checksum.to_bytes(4, "little"), (size % 2**32).to_bytes(4, "little")]  # an empty block
    return ClaimedLayer(f"sha256:{digest.hexdigest()}", Blob(OCI_LAYER_GZIP, b"".join(packed)))


def poisoned() -> Image:
    """A layer without software with the diff_id of the layer of ``python()``; DEBIAN_FINDINGS.

    With a shared cache on disk Trivy would then find nothing in ``python()``.
    """
    return _claimed(ClaimedLayer(PYTHON_LAYER.diff_id, Layer.of({"etc/motd": b"hello\n"})))


def broken_tar() -> Image:
    """A valid gzip layer whose content is not a tar: refused."""
    return Image.of(DEBIAN_LAYER, Layer.packed(random_bytes("broken", 4096)))


def truncated_gzip() -> Image:
    """A truncated layer: refused."""
    whole = PYTHON_LAYER
    return _claimed(ClaimedLayer(PYTHON_LAYER.diff_id, Blob(OCI_LAYER_GZIP, whole[: len(whole) // 2])))


def config_not_json() -> Image:
    """A config that is not JSON: refused."""
    return Image(Blob(OCI_CONFIG, b"not JSON"), (DEBIAN_LAYER,))


def many_packages(number: int = 50_000) -> Image:
    """Debian 12 with so many more packages without a vulnerability; DEBIAN_FINDINGS."""
    packages = [Package(f"package-{place}", f"1.{place}-1") for place in range(number)]
    return Image.of(Layer.of({**debian_release("12"), STATUS: dpkg_status([*packages, *DEBIAN_PACKAGES])}))


def jar_not_a_zip() -> Image:
    """A file with the name of a Java archive: nothing is found in it, PYTHON_FINDINGS in the other layer."""
    return Image.of(PYTHON_LAYER, Layer.of({JAR: b"not a zip"}))


def strange_members() -> Image:
    """Members with paths outside the tar, links and devices; DEBIAN_FINDINGS.

    A careless program that unpacks it creates a file ``kcr-escaped`` outside, or reads a file of the machine.
    """
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in (f"{'../' * 12}tmp/kcr-escaped", "/tmp/kcr-escaped", "app/../../kcr-escaped"):
            archive.addfile(tarfile.TarInfo(path))
        for path, kind, target in (
            (f"{STATUS}.d/absolute", tarfile.SYMTYPE, "/etc/passwd"),
            (f"{STATUS}.d/relative", tarfile.SYMTYPE, f"{'../' * 12}etc/passwd"),
            (f"{STATUS}.d/hard", tarfile.LNKTYPE, "/etc/passwd"),
            ("app/node_modules/loop/package.json", tarfile.SYMTYPE, "package.json"),
            ("app/node_modules/memory/package.json", tarfile.CHRTYPE, ""),
            ("app/node_modules/disk/package.json", tarfile.BLKTYPE, ""),
            ("app/node_modules/pipe/package.json", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(path)
            member.type, member.linkname, member.devmajor, member.devminor = kind, target, 1, 1
            archive.addfile(member)
    return Image.of(DEBIAN_LAYER, Layer.packed(made.getvalue()))
