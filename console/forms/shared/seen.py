"""What the person was looking at when they changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core import signing

if TYPE_CHECKING:
    from console.forms.shared.form import Form


def seen(form: Form) -> dict[str, Any] | None:
    """What the person was looking at; None when the form does not say, or was tampered with."""
    try:
        found: dict[str, Any] = signing.loads(form.cleaned_data["seen"])
    except signing.BadSignature:
        return None
    return found
