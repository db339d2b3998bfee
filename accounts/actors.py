"""The one who acts, as every rule of this house sees it: never a request, never a session."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody acting, with the limits of the way they came in.

    ``user_id`` None: nobody in particular (anonymous), or the system itself when ``is_system``.
    ``key_id``: the access key that was used; it must still be alive whenever a right is asked for.
    ``project_id``: the only project in which the key has rights (None: all of the user's).
    ``key_expires_at``: when that key ends, in seconds since 1970 (None: never), so that its holder can be warned.
    ``scope``: what a token was issued for, repository id -> actions; None when no token limits the actor.
    ``address`` and ``client`` (the user agent) are for the history.
    """

    user_id: int | None = None
    key_id: int | None = None
    key_expires_at: float | None = None
    label: str = "anonymous"
    pull_only: bool = False
    project_id: int | None = None
    scope: dict[int, frozenset[str]] | None = field(default=None, hash=False)
    is_system: bool = False
    address: str = ""
    client: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody signed in."""
        return self.user_id is None and not self.is_system


ANONYMOUS = Actor()
SYSTEM = Actor(label="system", is_system=True)


def command_actor(command: str) -> Actor:
    """The operator at the command line, as the history shows them."""
    return Actor(label=f"manage.py {command}", is_system=True)
