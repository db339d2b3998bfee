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
    """The name that a client gives itself: "Firefox (Linux)", "console, Chrome (macOS)", "docker/27.3.1"."""
    if "Mozilla/" not in client:
        return client.partition(" ")[0]
    door = "console, " if client.startswith("console") else ""
    browser = next((words for mark, words in BROWSERS if mark in client), _("a browser"))
    system = next((words for mark, words in SYSTEMS if mark in client), "")
    return f"{door}{browser} ({system})" if system else f"{door}{browser}"
