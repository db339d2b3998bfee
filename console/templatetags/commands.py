"""What to type: the lines of each program for one image, with the address that this installation serves."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.utils.translation import gettext as _

register = template.Library()


@register.inclusion_tag("console/parts/_programs.html")
def push_and_pull(host: str, uri: str, name: str, may_push: bool) -> dict[str, Any]:
    """Log in, name, push, pull, for each program. ``uri`` ends before the tag, ``name`` is what the image is called."""
    local = name.rpartition("/")[2]
    login, tag = _("Log in, with the ID and secret of an access key"), _("Name a local image")
    push, pull = _("Push"), _("Pull")
    copy = f"skopeo copy{_plain('--dest-tls-verify=false')} docker-daemon:{local}:TAG docker://{uri}:TAG"
    fetch = f"skopeo copy{_plain('--src-tls-verify=false')} docker://{uri}:TAG docker-daemon:{local}:TAG"
    lines = {
        "docker": [
            (login, f"docker login {host}", False),
            (tag, f"docker tag {local}:TAG {uri}:TAG", True),
            (push, f"docker push {uri}:TAG", True),
            (pull, f"docker pull {uri}:TAG", False),
        ],
        "podman": [
            (login, f"podman login{_plain()} {host}", False),
            (tag, f"podman tag {local}:TAG {uri}:TAG", True),
            (push, f"podman push{_plain()} {uri}:TAG", True),
            (pull, f"podman pull{_plain()} {uri}:TAG", False),
        ],
        "skopeo": [
            (login, f"skopeo login{_plain()} {host}", False),
            (push, copy, True),
            (pull, fetch, False),
        ],
    }
    allowed = {
        program: [(words, line) for words, line, pushes in rows if may_push or not pushes]
        for program, rows in lines.items()
    }
    return {"programs": allowed}


@register.inclusion_tag("console/parts/_programs.html")
def pull_of(uri: str, digest: str, tag: str = "") -> dict[str, Any]:
    """Pull one digest, and by its tag when it has one, with each program."""
    wanted = [(_("By tag"), f"{uri}:{tag}")] if tag else []
    wanted.append((_("By digest, the same for ever"), f"{uri}@{digest}"))
    local = uri.rpartition("/")[2]
    copy = f"skopeo copy{_plain('--src-tls-verify=false')}"
    lines = {
        "docker": [(words, f"docker pull {image}") for words, image in wanted],
        "podman": [(words, f"podman pull{_plain()} {image}") for words, image in wanted],
        "skopeo": [(words, f"{copy} docker://{image} oci:{local}") for words, image in wanted],
    }
    return {"programs": lines}


def _plain(option: str = "--tls-verify=false") -> str:
    """What podman and skopeo must be told where there is no TLS; docker knows that localhost has none."""
    return "" if settings.IS_HTTPS else f" {option}"
