"""The values that a person saw before they changed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core import signing

if TYPE_CHECKING:
    from console.forms.shared.form import Form


def seen(form: Form) -> dict[str, Any] | None:
    """The values that the signed field ``seen`` holds; None if it is missing or its signature is wrong."""
    try:
        found: dict[str, Any] = signing.loads(form.cleaned_data["seen"])
    except signing.BadSignature:
        return None
    return found
