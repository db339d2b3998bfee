"""Encrypts the secrets of subscriptions with KCR_SECRET_KEY."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from accounts.errors import Refusal
from accounts.keys import hash_secret


def seal(secret: str) -> str:
    """The secret as the database keeps it."""
    return _cipher().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """The secret in the clear. Raises Refusal if KCR_SECRET_KEY has changed since it was stored."""
    try:
        return _cipher().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise Refusal("the secret was stored under another KCR_SECRET_KEY: make a new one in the console") from error


def _cipher() -> MultiFernet:
    """Encrypts with KCR_SECRET_KEY; decrypts with KCR_SECRET_KEY_FALLBACKS as well."""
    keys = (hash_secret("webhook secrets", secret) for secret in [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])
    return MultiFernet([Fernet(base64.urlsafe_b64encode(bytes.fromhex(key))) for key in keys])
