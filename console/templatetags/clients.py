"""Clients (browsers, docker) in words."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext as _

register = template.Library()
# In the order in which they are looked for: most browsers also claim to be another one.
BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    *(("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad")),
    *(("Windows", "Windows"), ("Mac OS", "macOS"), ("Linux", "Linux")),
)


@register.filter
def client_words(client: str) -> str:
    """A client's User-Agent in words: "Firefox (Linux)", "docker/27.3.1".

    ``views.shared.place.actor`` stores "console, " before the User-Agent of a browser: "console, Chrome (macOS)".
    """
    if "Mozilla/" not in client:
        return client.partition(" ")[0]
    # Translators: before the name of a browser: an event was caused in the console, not by docker
    door = _("console") + ", " if client.startswith("console") else ""
    browser = next((words for mark, words in BROWSERS if mark in client), _("a browser"))
    system = next((words for mark, words in SYSTEMS if mark in client), "")
    return f"{door}{browser} ({system})" if system else f"{door}{browser}"
