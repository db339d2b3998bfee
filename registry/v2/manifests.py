"""GET, PUT and DELETE of manifests (distribution-spec 1.1, "Pulling manifests", "Pushing Manifests", "Deleting")."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.urls import reverse

from registry import access, manifests, trash
from registry.access import Action
from registry.database.transactions import release_connection
from registry.oci import media_types
from registry.statistics.pulls import Kind, counter

from . import http
from .base import ImageView

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class ManifestView(ImageView):
    """``/v2/<name>/manifests/<reference>``: the reference is a tag or a digest."""

    actions: ClassVar = {"GET": Action.PULL, "HEAD": Action.PULL, "PUT": Action.PUSH, "DELETE": Action.DELETE}

    def get(self, request: HttpRequest, name: str, reference: str) -> HttpResponse:
        """The exact bytes that were pushed, with the type that they were pushed as."""
        manifest = manifests.permitted_manifest(self.actor, self.name, reference, to_pull=request.method == "GET")
        headers = {
            "Docker_Content_Digest": manifest.digest,
            "ETag": f'"{manifest.digest}"',
            "Last_Modified": http.date(manifest.changed_at),
            "Cache_Control": "no-cache",  # a date alone would let a cache guess for how long a tag stays the same
        }
        if http.has_already(request, headers["ETag"]):
            return http.empty(304, **headers, Content_Length=len(manifest.content))
        if self.actor.counts_pulls:
            kind = Kind.CHECK if request.method == "HEAD" else Kind.PULL
            counter.note(manifest.image_id, manifest.counted_as, kind)
        return http.content(request, manifest.content, manifest.media_type, **headers)

    def put(self, request: HttpRequest, name: str, reference: str) -> HttpResponse:
        """Store a manifest; ``?tag=`` (repeated) sets more tags in the same act."""
        if self.token is None:  # a token was issued for this action, but any user's key gets here
            access.require(self.actor, Action.PUSH, self.name)
            release_connection()
        body = http.manifest_body(request)
        # Asked again: the right may have ended while the body arrived.
        repository = access.require(self.actor, Action.PUSH, self.name)
        push = manifests.push(
            self.actor,
            repository,
            self.name,
            reference,
            body,
            content_type=media_types.without_parameters(request.META.get("CONTENT_TYPE", "")),
            more_tags=request.GET.getlist("tag"),
        )
        for tag in push.tags:
            counter.note(push.manifest.image_id, tag, Kind.PUSH)
        digest = push.manifest.digest
        if not push.is_new:
            counter.note(push.manifest.image_id, digest, Kind.PUSH)
        location = reverse("v2:manifest", kwargs={"name": name, "reference": digest})
        response = http.empty(201, Location=location, Docker_Content_Digest=digest)
        if push.manifest.subject:
            response.headers["OCI-Subject"] = push.manifest.subject
        if request.GET.getlist("tag"):
            response.headers["OCI-Tag"] = ", ".join(push.tags)
        return response

    def delete(self, request: HttpRequest, name: str, reference: str) -> HttpResponse:
        """Delete a tag, or a digest with all its tags. The console can restore both."""
        repository = access.require(self.actor, Action.DELETE, self.name)
        trash.delete_references(self.actor, repository, self.name, [reference])
        return http.empty(202)
