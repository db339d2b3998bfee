"""ID tokens of other issuers (OpenID Connect Core 1.0, section 2; RFC 7515, 7519): reading and verification.

A token that fails any check raises InvalidIdToken. The message is for the log: callers give one answer for all of them.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jwt
from jwt.utils import base64url_decode

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TOKEN = 16 * 1024
MAX_KEYS = 50  # of an issuer
LEEWAY = 60.0  # seconds that clocks of two servers may differ
MAX_LIFETIME = 24 * 3600.0  # seconds from ``iat`` to ``exp``
LATEST = 1e11  # seconds since 1970
LEAST_RSA_BITS = 2048
MAX_NAME = 256  # characters of a key's identifier
# By algorithm: the type of its key, and the curve.
ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
}
_HEADER = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256", "cty"})
_PUBLIC = ("kty", "kid", "alg", "use", "n", "e", "crv", "x", "y")
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class InvalidIdToken(ValueError):
    """The token is not one of the issuer for this audience and time."""


@dataclass(frozen=True, slots=True)
class Peeked:
    """What a token says before its signature is verified: algorithm, key ("": no name) and issuer."""

    algorithm: str
    key_id: str
    issuer: str


def looks_like(secret: str) -> bool:
    """Whether a password looks like an ID token. It has three parts, and the first part is JSON in base64url."""
    return secret.startswith("eyJ") and secret.count(".") == 2


def peek(text: str) -> Peeked:
    """Read the header and ``iss``, which is believed only to find the issuer's keys. Raises InvalidIdToken."""
    if len(text) > MAX_TOKEN or not _SHAPE.fullmatch(text):
        raise InvalidIdToken("it does not have the form of a token")
    header, claims = (_object(part) for part in text.split(".")[:2])
    if not header.keys() <= _HEADER:
        raise InvalidIdToken(f"unexpected in its header: {', '.join(sorted(header.keys() - _HEADER))[:100]}")
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise InvalidIdToken("its algorithm is not accepted")
    if "kid" in header and (not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_NAME):
        raise InvalidIdToken("its header names no key")
    if not isinstance(kind, str) or kind.upper() != "JWT" or "cty" in header:
        raise InvalidIdToken("it is a token of another kind")
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise InvalidIdToken("it names no issuer")
    return Peeked(algorithm, key_id or "", issuer)


def verify(text: str, peeked: Peeked, jwk: dict[str, str], *, issuer: str, audience: str) -> dict[str, Any]:
    """The claims of a token that this key signed, for this audience and now. Raises InvalidIdToken."""
    key = _key(json.dumps(jwk, sort_keys=True), peeked.algorithm)
    try:
        payload = jwt.PyJWS().decode_complete(text, key, algorithms=[peeked.algorithm])["payload"]
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise InvalidIdToken("its signature is wrong") from error
    claims = _parsed(payload)
    if claims.get("iss") != issuer:
        raise InvalidIdToken("it is of another issuer")
    if claims.get("aud") not in (audience, [audience]):
        raise InvalidIdToken(f"it is for another audience than {audience}")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise InvalidIdToken("it has no subject")
    _check_time(claims, time.time())
    return claims


def usable(jwk: object) -> dict[str, str] | None:
    """The public part of a key of a JWKS (RFC 7517) that tokens may be signed with; None for any other key."""
    if not isinstance(jwk, dict):
        return None
    found = {name: jwk[name] for name in _PUBLIC if name in jwk}
    if not all(isinstance(value, str) for value in found.values()) or not 0 < len(found.get("kid", "")) <= MAX_NAME:
        return None
    if found.get("use", "sig") != "sig":
        return None
    for algorithm in [found["alg"]] if "alg" in found else ALGORITHMS:
        try:
            _key(json.dumps(found, sort_keys=True), algorithm)
        except InvalidIdToken:
            continue
        return found
    return None


def read_keys(text: bytes | str) -> list[dict[str, str]]:
    """The usable keys of a JWKS. Raises InvalidIdToken if it is none, has too many keys, or none that is usable."""
    entries = _parsed(text).get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise InvalidIdToken(f"it holds no list of at most {MAX_KEYS} keys")
    found = [jwk for entry in entries if (jwk := usable(entry)) is not None]
    if not found:
        raise InvalidIdToken("it holds no public key for signatures that has a kid")
    return found


def find_key(keys: Sequence[dict[str, str]], key_id: str) -> dict[str, str] | None:
    """The key of this identifier; None if there is none, or several.

    A token of an issuer with a single key may leave the identifier out (OpenID Connect Core 1.0, section 10.1).
    """
    found = [jwk for jwk in keys if key_id in {"", jwk["kid"]}]
    return found[0] if len(found) == 1 else None


def read_object(text: bytes | str) -> dict[str, Any]:
    """A JSON object without duplicate names and without NaN or Infinity. Raises InvalidIdToken."""
    return _parsed(text)


def _check_time(claims: dict[str, Any], now: float) -> None:
    expires, issued = _number(claims.get("exp")), _number(claims.get("iat"))
    begins = _number(claims.get("nbf", issued))
    if expires <= now - LEEWAY:
        raise InvalidIdToken("it has expired")
    if max(issued, begins) > now + LEEWAY:
        raise InvalidIdToken("it is of the future: compare the clocks of the issuer and of this registry")
    if not 0 < expires - issued <= MAX_LIFETIME:
        raise InvalidIdToken("it is valid for too long")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LATEST:
        raise InvalidIdToken("it does not say when it was issued and expires")
    return float(value)


@lru_cache(maxsize=1024)
def _key(jwk: str, algorithm: str) -> Any:
    """The public key, if it is one for the algorithm. Raises InvalidIdToken."""
    fields = json.loads(jwk)
    kind, curve = ALGORITHMS.get(algorithm, ("", None))
    if fields.get("kty") != kind or (curve and fields.get("crv") != curve):
        raise InvalidIdToken("its key is not of its algorithm")
    if fields.get("alg", algorithm) != algorithm:
        raise InvalidIdToken("its key is for another algorithm")
    try:
        key: Any = jwt.PyJWK(fields, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise InvalidIdToken("its key cannot be read") from error
    if kind == "RSA" and key.key_size < LEAST_RSA_BITS:
        raise InvalidIdToken("its key is too short")
    return key


def _object(part: str) -> dict[str, Any]:
    try:
        content = base64url_decode(part)
    except ValueError as error:
        raise InvalidIdToken("it is not base64url") from error
    return _parsed(content)


def _parsed(text: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidIdToken("it is not JSON") from error
    if not isinstance(found, dict):
        raise InvalidIdToken("it is not a JSON object")
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)
