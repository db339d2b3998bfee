"""The actor of a change or read, as permission rules and audit logs see it: never a request, never a session."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Actor:
    """A user, an anonymous visitor or the system, with the limits of the credentials that were used.

    ``user_id`` is None for an anonymous visitor, and for the system (``is_system``).
    ``key_id``: the access key that was used; it must still be alive whenever a right is asked for.
    ``actions``: the only actions that the key allows (None: all).
    ``project_id``: the only project in which the key has rights (None: all of the user's).
    ``repositories``: the only repositories in which it has rights, ``networks``: where it may be used from, both as in
    ``accounts.limits``.
    ``key_expires_at``: when that key ends, in seconds since 1970 (None: never), so that its holder can be warned.
    ``counts_pulls``: False if pulls with the key are left out of the statistics.
    ``management``: whether the key may be used at the management API.
    ``scope``: what a token was issued for, repository id -> actions; None when no token limits the actor.
    ``via``: where the ID token of the session came from (trust_rules.provenance); None for a key that a person made.
    ``address`` and ``client`` (the User-Agent) are for the audit log.
    """

    user_id: int | None = None
    key_id: int | None = None
    key_expires_at: float | None = None
    label: str = "anonymous"
    actions: frozenset[str] | None = None
    project_id: int | None = None
    repositories: str = ""
    networks: str = ""
    counts_pulls: bool = True
    management: bool = False
    scope: dict[int, frozenset[str]] | None = field(default=None, hash=False)
    via: dict[str, str] | None = field(default=None, hash=False)
    is_system: bool = False
    address: str = ""
    client: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Whether the actor came without credentials, and is not the system."""
        return self.user_id is None and not self.is_system


ANONYMOUS = Actor()
SYSTEM = Actor(label="system", is_system=True)


def command_actor(command: str) -> Actor:
    """The operator who runs a command of manage.py, as the audit log names them."""
    return Actor(label=f"manage.py {command}", is_system=True)
