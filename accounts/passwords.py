"""Passwords of the console: the only module that checks or sets one for a request.

A check takes 100 MB and a tenth of a second on purpose (Argon2). So each is counted (`accounts.guesses`), and only a
few run at once. A browser that has signed in to the account before has a cookie. It is counted apart from strangers,
so that strangers can neither lock it out nor take the last place. A network with ten failures lets an account sign in
that signed in from there lately; a wrong password gets the answer of every other account.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth.hashers import make_password
from django.core import signing
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from . import guesses
from .models import AuditEvent, User
from .networks import network_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES, PLACES_FOR_STRANGERS = 3, 2
PATIENCE = 2.0  # seconds
BUSY_SECONDS = 5
BROWSER_SALT = "kcr.browser"
BROWSER_AGE = 400 * 24 * 3600  # seconds; browsers keep no cookie for longer
USERS_OF_A_BROWSER = 5
HOME_DAYS, HOME_SIGN_INS = timedelta(days=30), 100  # the latest sign-ins tell from which networks an account comes


class Busy(guesses.Slowed):
    """Too many passwords are being checked: try again in a few seconds."""


class Places:
    """Limits how many passwords a process checks at once: ``places`` in all, ``for_strangers`` of them for strangers.

    An account has one place, so that a client with many requests gets no larger share.
    """

    def __init__(self, places: int, for_strangers: int) -> None:
        self.places, self.for_strangers = places, for_strangers
        self._changed = threading.Condition()
        self._taken: dict[str, bool] = {}

    @contextmanager
    def take(self, account: str, *, is_stranger: bool) -> Iterator[None]:
        """Hold a place. Raises Busy when none becomes free in PATIENCE seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_free(account, is_stranger), PATIENCE):
                raise Busy(BUSY_SECONDS)
            self._taken[account] = is_stranger
        try:
            yield
        finally:
            with self._changed:
                del self._taken[account]
                self._changed.notify_all()

    def _is_free(self, account: str, is_stranger: bool) -> bool:
        strangers = sum(self._taken.values())
        is_full = len(self._taken) >= self.places or (is_stranger and strangers >= self.for_strangers)
        return not is_full and account not in self._taken


_places = Places(PLACES, PLACES_FOR_STRANGERS)


# ── Checking ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def authenticate(email: str, password: str, *, address: str, browser: str = "") -> User:
    """Return the active user with this e-mail address and password. ``browser``: the cookie that `remember` made.

    An unknown address costs as much time as a wrong password. Raises WrongCredentials; TooManyFailures when the network
    or the account has had too many; Busy.
    """
    email = email.lower()[:254]
    user = User.objects.people().filter(email=email, is_active=True).first()
    name = _name_of_browser(user, browser) if user else ""
    is_at_home = not name and _is_at_home(user, address)
    if name:
        attempt = guesses.begin(f"browser\0{name}", None)
    else:
        attempt = guesses.begin(email, address, is_at_home=is_at_home)
    try:
        is_right = _is_right(email, user, password, is_stranger=not name)
    except Busy:
        attempt.delete()
        raise
    if user is None or not is_right:
        if is_at_home:
            guesses.require_room_for(attempt)  # the answer must not tell that the account signs in from here
        raise guesses.WrongCredentials("wrong e-mail address or password")
    attempt.delete()
    return user


def is_right(email: str, password: str, *, address: str) -> bool:
    """Whether the password is right, for a hint; counted as a failure unless it is. False when busy.

    Raises TooManyFailures.
    """
    email = email.lower()[:254]
    user = User.objects.people().filter(email=email, is_active=True).first()
    attempt = guesses.begin(email, address)
    try:
        is_right = _is_right(email, user, password, is_stranger=True)
    except Busy:
        return False
    if is_right:
        attempt.delete()
    return is_right


def change(user: User, current: str, new: str) -> None:
    """Set a password for a signed-in user who gives the current one.

    Raises WrongCredentials; TooManyFailures, counted for this user alone; Busy.
    """
    attempt = guesses.begin(f"own\0{user.pk}", None)
    try:
        with _places.take(user.email, is_stranger=False):
            is_right = user.check_password(current)
            if is_right:
                _set(user, new)
    except Busy:
        attempt.delete()
        raise
    if not is_right:
        raise guesses.WrongCredentials("this is not the current password")
    attempt.delete()


def set_new(user: User, new: str) -> None:
    """Set a password for a user who came by the link of a mail. Raises Busy."""
    with _places.take(user.email, is_stranger=False):
        _set(user, new)


def set_by_operator(user: User, new: str) -> bool:
    """Set a password that an operator gives; False if the user has it already. Raises Busy."""
    with _places.take(user.email, is_stranger=False):
        if user.check_password(new):
            return False
        _set(user, new)
    return True


def hashed(email: str, new: str) -> str:
    """The hash of a new password, for the account of this address. Raises Busy."""
    with _places.take(email, is_stranger=False):
        return make_password(new)


def _set(user: User, new: str) -> None:
    user.set_password(new)
    user.save(update_fields=["password"])


def _is_at_home(user: User | None, address: str) -> bool:
    """Whether the user signed in from this network lately. One query, for unknown users too."""
    sign_ins = AuditEvent.objects.filter(
        person=user.pk if user else 0,
        organization=None,
        action=AuditEvent.Action.SIGN_IN,
        at__gt=timezone.now() - HOME_DAYS,
    )
    latest = sign_ins.order_by("-at").values_list("address", flat=True)[:HOME_SIGN_INS]
    return network_of(address) in {network_of(each) for each in latest if each}


def _is_right(email: str, user: User | None, password: str, *, is_stranger: bool) -> bool:
    with _places.take(email, is_stranger=is_stranger):
        if user is None:
            make_password(password)  # an unknown address must not answer faster than a wrong password
            return False
        return user.check_password(password)


# ── Browsers that have signed in before ──────────────────────────────────────────────────────────────────────────────
def remember(user: User, browser: str) -> str:
    """The cookie of a browser in which the user signed in now. ``browser``: the cookie that it had, "" for none.

    It is no login. It ends with the password: a browser that knew the former one is a stranger.
    """
    others = [entry for entry in _entries(browser) if entry[0] != user.pk]
    entry = [user.pk, secrets.token_urlsafe(9), user.get_session_auth_hash()]
    return signing.dumps([entry, *others][:USERS_OF_A_BROWSER], salt=BROWSER_SALT)


def _name_of_browser(user: User, browser: str) -> str:
    """The random name of a browser in which the user signed in before; "" for all others."""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    for pk, name, proof in _entries(browser):
        if pk == user.pk and any(constant_time_compare(proof, each) for each in hashes):
            return str(name)
    return ""


def _entries(browser: str) -> list[Any]:
    """User, name and proof of each user of a browser."""
    try:
        return list(signing.loads(browser, salt=BROWSER_SALT, max_age=BROWSER_AGE))
    except signing.BadSignature:
        return []
