"""The OpenAPI 3.1 document, made by drf-spectacular from what the views declare (api.base.operation)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import patched_settings
from rest_framework import serializers

from accounts.models import AuditEvent, IssuerKind, OrganizationRole, ProjectRole, RepositoryRole
from registry.doctor import results
from registry.models import CleanupRun, Collection, Event
from scanning.models import Delivery, Report, Scan

from . import cleanup, problems
from .base import ApiView, Operation, query_of
from .fields import DELETED, KEY_STATES, SEVERITIES

JSON = "application/json"
OPENAPI = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "KCR management API",
    "DESCRIPTION": "Everything that the console manages, for programs. Credentials are an access key that may use this"
    " API: Basic with its ID and secret, or Bearer with its secret.",
    "VERSION": "1",
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": True,
    "COMPONENT_SPLIT_REQUEST": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    # Fields of the same name have different values in several objects: generated clients have a class for each.
    "ENUM_NAME_OVERRIDES": {
        "CleanupDecisionEnum": cleanup.DECISIONS,
        "CleanupRunStateEnum": CleanupRun.State.values,
        "CollectionStateEnum": Collection.State.values,
        "DeletionKindEnum": DELETED,
        "DeliveryStateEnum": Delivery.State.values,
        "EventActionEnum": Event.Action.values,
        "IssuerKindEnum": IssuerKind.values,
        "KeyStateEnum": KEY_STATES,
        "OrganizationEventActionEnum": AuditEvent.Action.values,
        "OrganizationRoleEnum": OrganizationRole.values,
        "ProbeStateEnum": [str(state) for state in results.State],
        "ProjectRoleEnum": ProjectRole.values,
        "ReportStateEnum": Report.State.values,
        "RepositoryRoleEnum": RepositoryRole.values,
        "ScanStateEnum": Scan.State.values,
        "SeverityEnum": SEVERITIES,
    },
}
ETAG = {
    "If-Match": "the ETag that you saw: the request is refused (412) if the thing is another one now",
    "If-None-Match": "`*`: the request is refused (412) if the thing exists",
}


class ErrorJson(serializers.Serializer[Any]):
    """One thing that is wrong in the request."""

    pointer = serializers.CharField(help_text="where: a JSON pointer into the body, or a parameter")
    detail = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """Why a request was refused (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    code = serializers.CharField()
    request_id = serializers.CharField()
    errors = ErrorJson(many=True, required=False)  # type: ignore[assignment]  # the name that RFC 9457 has


def statuses(declared: Operation, method: str, path: str) -> list[int]:
    """The statuses of refusals that the operation can have."""
    found = {400, 401, 403, 406, 429, 503}
    if "{" in path or declared.action is None:
        found.add(404)
    if method in {"POST", "PUT", "PATCH", "DELETE"}:
        found |= {409, 422}
    if method in {"POST", "PUT", "PATCH"}:
        found |= {413, 415}
    if declared.is_conditional:
        found |= {412, 428}
    return sorted(found)


class Schema(AutoSchema):
    """How drf-spectacular reads a view of this API."""

    view: Any

    @property
    def declared(self) -> Operation:
        """What the method declares."""
        found: Operation = getattr(self.view, self.method.lower()).operation
        return found

    def get_operation_id(self) -> str:
        """Verb and route: getRepository, listTags."""
        route = self.view.route_name
        verb = {"GET": "list" if self.declared.is_list else "get", "PUT": "put", "POST": "post"}.get(
            self.method, self.method.lower()
        )
        return f"{verb}_{route}"

    def get_tags(self) -> list[str]:
        """The noun."""
        return [self.view.noun]

    def get_summary(self) -> str:
        """The first sentence of the method's docstring."""
        return self._words().partition(". ")[0].rstrip(".")

    def get_description(self) -> str:  # type: ignore[override]  # drf-spectacular's signature
        """The docstring of the method."""
        return self._words()

    def _words(self) -> str:
        return " ".join((getattr(self.view, self.method.lower()).__doc__ or "").split())

    def get_auth(self) -> list[dict[str, list[str]]]:
        """An access key, in one of two forms."""
        return [{"basic": []}, {"bearer": []}]

    def get_request_serializer(self) -> Any:
        """The body."""
        return self.declared.body

    def map_parsers(self) -> list[str]:
        """Bodies are JSON."""
        return [JSON]

    def _get_parameters(self) -> list[dict[str, Any]]:
        """Those of the path, the query string and the header."""
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": schema, "description": words}
            for name, (schema, words) in self.view.path_parameters.items()
        ]
        query = query_of(self.declared)
        if query is not None:
            for name, field in query().fields.items():
                schema = self._map_serializer_field(field, "request")
                words = schema.pop("description", "")
                shown = {"name": name, "in": "query", "required": field.required, "schema": schema}
                parameters.append(shown | ({"description": words} if words else {}))
        headers = dict(ETAG) if self.declared.is_conditional else {}
        if self.method == "POST":
            headers["Idempotency-Key"] = "the same key with the same request within a day acts once"
        for name, words in headers.items():
            schema = {"type": "string", **({"minLength": 1, "maxLength": 64} if name == "Idempotency-Key" else {})}
            parameters.append({"name": name, "in": "header", "required": False, "schema": schema, "description": words})
        return parameters

    def _get_response_bodies(self, direction: str = "response") -> dict[str, Any]:
        """The answers, and the refusals."""
        declared, found = self.declared, {}
        for status in declared.statuses:
            found[str(status)] = self._success(declared, status)
        component = self.resolve_serializer(Problem, "response")
        for status in statuses(declared, self.method, self.path):
            titles = {each.title for each in problems.PROBLEMS.values() if each.status == status}
            content = {problems.MEDIA_TYPE: {"schema": component.ref}}
            found[str(status)] = {"description": " / ".join(sorted(titles)), "content": content}
        return found

    def _success(self, declared: Operation, status: int) -> dict[str, Any]:
        if declared.answer is None:
            return {"description": "Done"}
        component = self.resolve_serializer(declared.answer, "response")
        schema: dict[str, Any] = component.ref if component else {"type": "object"}
        if declared.is_list:
            schema = {
                "type": "object",
                "required": ["items", "next"],
                "properties": {
                    "items": {"type": "array", "items": component.ref},
                    "next": {"type": ["string", "null"], "description": "the address of the next page; null: the last"},
                },
            }
        words = {200: "Done", 201: "Created", 202: "Accepted"}.get(status, "Done")
        return {"description": words, "content": {JSON: {"schema": schema}}}


def endpoints() -> list[Any]:
    """Path, path, method and view of each operation, as drf-spectacular wants them."""
    found = []
    for route, path, name, view_class in routes():
        for method in view_class().allowed():
            more = {"schema": Schema(), "route_name": name, "path_parameters": parameters(route)}
            view: Any = type(view_class.__name__, (view_class,), more)
            found.append((path, path, method, view.as_view()))
    return found


def routes() -> list[tuple[str, str, str, type[ApiView]]]:
    """Each route of a view: its Django route, its path in OpenAPI, its name, its class."""
    from . import urls  # noqa: PLC0415

    return list(_walk(urls.urlpatterns, ""))


def _walk(patterns: Any, above: str) -> Any:
    for pattern in patterns:
        route = above + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from _walk(pattern.url_patterns, route)
        elif hasattr(pattern.callback, "cls") or hasattr(pattern.callback, "view_class"):
            path = "/api/" + "".join(
                f"{{{part.partition('>')[0].rpartition(':')[2]}}}{part.partition('>')[2]}" if number else part
                for number, part in enumerate(route.split("<"))
            )
            yield route, path, pattern.name, pattern.callback.cls


SCHEMAS: dict[str, dict[str, Any]] = {
    "int": {"type": "integer", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
}
WORDS = {
    "organization": "the name of the organization",
    "account": "the name of the service account",
    "project": "the ID of the project",
    "repository": "the name of the repository",
    "image": "the name of the image; slashes in it may be written as they are or as %2F",
    "tag": "the name of the tag",
    "digest": "the digest of the manifest",
    "email": "the e-mail address of a person or service account",
    "identifier": "the ID of the access key",
}


def parameters(route: str) -> dict[str, tuple[dict[str, Any], str]]:
    """The parameters of a route: schema and words, by name."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for part in route.split("<")[1:]:
        kind, _colon, name = part.partition(">")[0].rpartition(":")
        schema = SCHEMAS.get(kind, {"type": "string", "minLength": 1})
        found[name] = (schema, WORDS.get(name, f"the id of the {name.replace('_', ' ')}"))
    return found


def generate() -> dict[str, Any]:
    """The document."""
    with patched_settings(OPENAPI):
        generator = SchemaGenerator(patterns=[])
        generator.endpoints = endpoints()
        made: dict[str, Any] = generator.get_schema(request=None, public=True)
    made["servers"] = [{"url": settings.PUBLIC_URL}]
    schemes = {"basic": {"type": "http", "scheme": "basic"}, "bearer": {"type": "http", "scheme": "bearer"}}
    made.setdefault("components", {})["securitySchemes"] = schemes
    for name, schema in made["components"]["schemas"].items():
        if name.endswith(("Wanted", "Changes")):
            schema["additionalProperties"] = False
    return made
