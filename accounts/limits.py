"""The limits of an access key: actions of the registry API, repositories, networks.

Each limit is a text of words separated by spaces, as ``AccessKey`` stores it; "" is no limit.

    actions        pull push
    repositories   shop/web shop/team-*       PROJECT/REPOSITORY; * stands for any characters
    networks       10.0.0.0/8 2001:db8::/32
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from . import networks as addresses
from .errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection
    from ipaddress import IPv4Network, IPv6Network

ACTIONS = ("pull", "push", "delete")
MOST = 20  # repositories, and networks: tokens carry them
MAX_PATTERN = 110
_PATTERN = re.compile(r"[a-z0-9*][a-z0-9*._-]*/[a-z0-9*][a-z0-9*._-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits as a person gives them; ``repositories`` and ``networks`` are separated by spaces, commas or lines."""

    actions: Collection[str] = ACTIONS
    repositories: str = ""
    networks: str = ""


NONE = Limits()


def read_actions(actions: Collection[str]) -> str:
    """The limit to these actions, "" when they are all. Raises Refusal."""
    if not actions or not set(actions) <= set(ACTIONS):
        raise Refusal(_("choose what the key may do: pull, push, delete"))
    return "" if set(actions) == set(ACTIONS) else " ".join(action for action in ACTIONS if action in actions)


def read_repositories(text: str, project: str = "") -> str:
    """The limit to the repositories that a person typed, separated by spaces, commas or lines. Raises Refusal.

    ``project``: the project of the names without one.
    """
    found = []
    for word in _words(text):
        pattern = word if "/" in word or not project else f"{project}/{word}"
        if len(pattern) > MAX_PATTERN or not _PATTERN.fullmatch(pattern):
            example = "shop/web, shop/team-*" if not project else "web, team-*"
            raise Refusal(_("%(typed)s is no name of a repository: write %(example)s") % _said(word, example))
        found.append(pattern)
    return _joined(found)


def read_networks(text: str) -> str:
    """The limit to the networks that a person typed, separated by spaces, commas or lines. Raises Refusal."""
    found = []
    for word in _words(text):
        try:
            found.append(str(ip_network(word)))
        except ValueError as error:
            words = _("%(typed)s is no network: write an address, or a network such as %(example)s")
            raise Refusal(words % _said(word, "10.0.0.0/8")) from error
    return _joined(found)


@lru_cache(maxsize=1024)
def regex(repositories: str) -> str:
    """The limit as a regular expression of PROJECT/REPOSITORY, which Python and PostgreSQL read alike."""
    words = repositories.replace(".", r"\.").replace("*", "[^/]*").split()
    return f"^({'|'.join(words)})$"


def reaches(repositories: str, path: str) -> bool:
    """Whether the limit allows this PROJECT/REPOSITORY."""
    return not repositories or re.search(regex(repositories), path) is not None


def covers(networks: str, address: str) -> bool:
    """Whether the limit allows a client with this address."""
    if not networks:
        return True
    try:
        found = addresses.parsed(address)
    except ValueError:
        return False
    return any(found in network for network in _parsed(networks))


@lru_cache(maxsize=1024)
def _parsed(networks: str) -> list[IPv4Network | IPv6Network]:
    return [ip_network(word) for word in networks.split()]


def _words(text: str) -> list[str]:
    return text.replace(",", " ").lower().split()


def _joined(found: list[str]) -> str:
    if len(found) > MOST:
        raise Refusal(_("a limit has at most %(count)s entries") % {"count": MOST})
    return " ".join(dict.fromkeys(found))


def _said(typed: str, example: str) -> dict[str, str]:
    return {"typed": typed[:MAX_PATTERN], "example": example}
