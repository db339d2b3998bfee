"""The start page: how to push the first image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.shortcuts import render

from registry import hosts

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def show(request: HttpRequest) -> HttpResponse:
    """The commands of a first push, with the names of this installation. Tells nobody which projects exist."""
    project_host = hosts.Host("PROJECT").service
    bare = hosts.BARE.uri("PROJECT/REPOSITORY/IMAGE:TAG") if settings.BARE_HOST_NAMES else ""
    context = {"host": hosts.BARE.service, "bare": bare, "project_host": project_host}
    return render(request, "console/start.html", context)
