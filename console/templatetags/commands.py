"""What to type: the lines of each program for one image or artifact, with the address that this installation serves."""

from __future__ import annotations

from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django import template
from django.conf import settings
from django.utils.translation import gettext as _

from registry.oci import configs, media_types, names

if TYPE_CHECKING:
    from datetime import datetime

    from console.queries.repositories import Commands
    from registry.models import Manifest, Tag

register = template.Library()
_Lines = dict[str, list[tuple[str, str, bool]]]  # by program: what it does, the line, whether it pushes
_NOT_PULLED = ("application/vnd.buildkit.", "application/vnd.dev.cosign.", "application/vnd.dev.sigstore.")


class Kind(StrEnum):
    """What a manifest is for the program that pulls it. NONE: no person pulls it (a signature, a build cache)."""

    IMAGE = "image"
    CHART = "chart"
    ARTIFACT = "artifact"
    NONE = "none"


def kind_of(manifest: Manifest) -> Kind:
    """What a manifest is, by its artifactType or the type of its config."""
    kind = manifest.artifact_type
    if manifest.subject or kind.startswith(_NOT_PULLED):
        return Kind.NONE
    if kind == media_types.HELM_CONFIG:
        return Kind.CHART
    return Kind.IMAGE if not kind or configs.is_image_type(kind) else Kind.ARTIFACT


@register.simple_tag
def pull_command(uri: str, tag: Tag) -> str:
    """The line that pulls a tag: docker for images, helm for charts, oras for other artifacts; "" where none does."""
    return _pull(kind_of(tag.manifest), uri, f"{uri}:{tag.name}", tag.name)


@register.simple_tag
def pull_command_as_of(uri: str, tag: Tag, moment: datetime) -> str:
    """The line that pulls what the tag pointed to at a moment; "" if no program pulls it."""
    past = f"{tag.name}--at-{moment.astimezone(UTC):%Y%m%dt%H%Mz}"
    return _pull(kind_of(tag.manifest), uri, f"{uri}:{past}", past) if names.is_past_tag(past) else ""


def _pull(kind: Kind, uri: str, reference: str, tag: str) -> str:
    if kind == Kind.CHART:
        version = f" --version {tag.replace('_', '+')}" if tag else ""
        return f"helm pull oci://{uri if tag else reference}{version}{_plain('--plain-http')}"
    if kind == Kind.ARTIFACT:
        return f"oras pull{_plain('--plain-http')} {reference}"
    return "" if kind == Kind.NONE else f"docker pull {reference}"


# ── Logging in, pushing and pulling ──────────────────────────────────────────────────────────────────────────────────
@register.inclusion_tag("console/parts/_programs.html")
def push_and_pull(commands: Commands, name: str, may_push: bool, key: str, kind: Kind = Kind.IMAGE) -> dict[str, Any]:
    """Log in, push and pull, for each program that does it. ``name``: the image's; ``key``: the ID of a key or ""."""
    lines = {Kind.CHART: _helm, Kind.ARTIFACT: _oras}.get(kind, _images)(commands, name, key)
    allowed = {
        program: [(words, line) for words, line, pushes in rows if may_push or not pushes]
        for program, rows in lines.items()
    }
    return {"programs": allowed}


def _images(commands: Commands, name: str, key: str) -> _Lines:
    host, uri, local = commands.host, commands.uri, name.rpartition("/")[2]
    copy = f"skopeo copy{_plain('--dest-tls-verify=false')} docker-daemon:{local}:TAG docker://{uri}:TAG"
    fetch = f"skopeo copy{_plain('--src-tls-verify=false')} docker://{uri}:TAG docker-daemon:{local}:TAG"
    lines = {
        program: [
            (_login_words(key), f"{program} login{insecure}{_user(key)} {host}", False),
            (_("Name a local image"), f"{program} tag {local}:TAG {uri}:TAG", True),
            (_("Push"), f"{program} push{insecure} {uri}:TAG", True),
            (_("Pull"), f"{program} pull{insecure} {uri}:TAG", False),
        ]
        for program, insecure in (("docker", ""), ("podman", _plain()), ("buildah", _plain()))
    }
    lines["skopeo"] = [
        (_login_words(key), f"skopeo login{_plain()}{_user(key)} {host}", False),
        (_("Push"), copy, True),
        (_("Pull"), fetch, False),
    ]
    return lines


def _helm(commands: Commands, name: str, key: str) -> _Lines:
    home, _slash, chart = commands.uri.rpartition("/")
    plain = _plain("--plain-http")
    return {
        "helm": [
            (_login_words(key), f"helm registry login{plain}{_user(key)} {commands.host}", False),
            (_("Push"), f"helm push{plain} {chart}-VERSION.tgz oci://{home}", True),
            (_("Pull"), f"helm pull{plain} oci://{commands.uri} --version VERSION", False),
            (_("Install"), f"helm install{plain} {chart} oci://{commands.uri} --version VERSION", False),
        ]
    }


def _oras(commands: Commands, name: str, key: str) -> _Lines:
    plain = _plain("--plain-http")
    return {
        "oras": [
            (_login_words(key), f"oras login{plain}{_user(key)} {commands.host}", False),
            (_("Push"), f"oras push{plain} {commands.uri}:TAG FILE", True),
            (_("Pull"), f"oras pull{plain} {commands.uri}:TAG", False),
        ]
    }


def _login_words(key: str) -> str:
    if key:
        return _("Log in. The program asks for the secret of your access key.")
    return _("Log in, with the ID and secret of an access key")


def _user(key: str) -> str:
    return f" --username {key}" if key else ""


@register.inclusion_tag("console/parts/_programs.html")
def pull_of(uri: str, manifest: Manifest, tag: str = "") -> dict[str, Any]:
    """Pull one manifest by its digest, and by its tag when it has one, with each program that does it."""
    kind, digest = kind_of(manifest), manifest.digest
    wanted = [(_("By tag"), f"{uri}:{tag}", tag)] if tag else []
    wanted.append((_("By digest (immutable)"), f"{uri}@{digest}", ""))
    if kind in {Kind.CHART, Kind.ARTIFACT}:
        program = "helm" if kind == Kind.CHART else "oras"
        return {"programs": {program: [(words, _pull(kind, uri, image, name)) for words, image, name in wanted]}}
    local = uri.rpartition("/")[2]
    copy = f"skopeo copy{_plain('--src-tls-verify=false')}"
    lines = {
        program: [(words, f"{program} pull{insecure} {image}") for words, image, _name in wanted]
        for program, insecure in (("docker", ""), ("podman", _plain()), ("buildah", _plain()))
    }
    lines["skopeo"] = [(words, f"{copy} docker://{image} oci:{local}") for words, image, _name in wanted]
    return {"programs": lines}


# ── Clusters and build systems ───────────────────────────────────────────────────────────────────────────────────────
@register.inclusion_tag("console/parts/_automation.html")
def automation(commands: Commands, name: str, may_push: bool, key: str) -> dict[str, Any]:
    """What clusters, build systems and compose files need to use an image, as texts to copy."""
    app, image = name.rpartition("/")[2], f"{commands.uri}:TAG"
    words = {"host": commands.host, "uri": commands.uri, "image": image, "app": app, "key": key or "KEY_ID"}
    return {
        "groups": [
            (title, [(what, text % words) for what, text in texts])
            for title, texts, pushes in _automations()
            if may_push or not pushes
        ]
    }


@register.inclusion_tag("console/parts/_automation.html")
def login_of_programs(host: str, uri: str, key: str) -> dict[str, Any]:
    """What logs in with this key in GitHub Actions, GitLab CI and Kubernetes, as texts to copy."""
    words = {"host": host, "uri": uri, "image": f"{uri}:TAG", "app": "app", "key": key}
    return {
        "groups": [
            (title, [(what, text % words) for what, text in texts])
            for title, texts, _pushes in _automations()
            if title != "Compose"
        ]
    }


def _automations() -> list[tuple[str, list[tuple[str, str]], bool]]:
    """Title, texts with what each is, and whether it pushes."""
    return [
        (
            "Kubernetes",
            [(_("Pull secret. Put the secret of the key in SECRET."), _KUBECTL), (_("In the pod"), _POD)],
            False,
        ),
        ("GitHub Actions", [(_("Store the secret of the key as the secret KCR_SECRET."), _GITHUB)], True),
        ("GitLab CI", [(_("Store the secret of the key as the masked variable KCR_SECRET."), _GITLAB)], True),
        ("Compose", [("compose.yaml", _COMPOSE)], False),
    ]


_KUBECTL = (
    "kubectl create secret docker-registry kcr"
    " --docker-server=%(host)s --docker-username=%(key)s --docker-password=SECRET"
)
_POD = """spec:
  imagePullSecrets:
    - name: kcr
  containers:
    - name: %(app)s
      image: %(image)s"""
_GITHUB = """- uses: docker/login-action@v3
  with:
    registry: %(host)s
    username: %(key)s
    password: ${{ secrets.KCR_SECRET }}
- uses: docker/build-push-action@v6
  with:
    push: true
    tags: %(uri)s:${{ github.sha }}"""
_GITLAB = """push:
  image: docker:28
  services: ["docker:28-dind"]
  script:
    - echo "$KCR_SECRET" | docker login %(host)s --username %(key)s --password-stdin
    - docker build --tag %(uri)s:$CI_COMMIT_SHORT_SHA .
    - docker push %(uri)s:$CI_COMMIT_SHORT_SHA"""
_COMPOSE = """services:
  %(app)s:
    image: %(image)s"""


def _plain(option: str = "--tls-verify=false") -> str:
    """What podman and skopeo must be told where there is no TLS; docker knows that localhost has none."""
    return "" if settings.IS_HTTPS else f" {option}"
