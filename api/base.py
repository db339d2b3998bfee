"""The base class of all views: credentials, permission, body, paging, preconditions and answers, each in one place.

A method of a view declares with ``operation`` what it takes, what it gives and which action it is. The same declaration
is checked here and described in the OpenAPI document (api.schema).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import urlencode

from django.http import HttpResponse, QueryDict
from rest_framework import serializers
from rest_framework.views import APIView

from accounts.actors import ANONYMOUS, Actor
from accounts.models import Organization, OrganizationMembership, OrganizationRole, Project, User
from registry import access, errors, hosts
from registry.access import Action
from registry.models import Image, Repository
from registry.oci import names
from registry.v2 import http

from . import authentication, idempotency, problems, rates
from .fields import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet
    from django.http import HttpRequest

MAX_BODY = 1_000_000  # bytes
MAX_PAGE, PAGE = 500, 100
METHODS = ("get", "post", "put", "patch", "delete")
Serializer = type[serializers.Serializer[Any]]
Method = TypeVar("Method", bound=Callable[..., Any])


class PageQuery(serializers.Serializer[Any]):
    """Which page of a list."""

    limit = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=PAGE, help_text="entries of the page")
    after = Text(
        max_length=255, required=False, help_text="the next page: take it from `next` of the answer, not by hand"
    )


@dataclass(frozen=True, slots=True)
class Operation:
    """What a method of a view declares.

    ``action``: what it takes in the project of the path; None if the path has no project. ``organization``: the role
    that it takes in the organization of the path. ``is_operator``: operators of the installation only. None of them: a
    valid key is all that it takes. ``answer`` None: no content. ``is_list``: pages of answers.
    ``statuses``: of success, the usual one first. ``may_be_absent``: what the path names last need not exist.
    ``is_conditional``: takes If-Match and If-None-Match. ``secret``: a field of the answer that is shown only once.
    """

    action: Action | None
    organization: OrganizationRole | None = None
    is_operator: bool = False
    answer: Serializer | None = None
    body: Serializer | None = None
    query: Serializer | None = None
    statuses: tuple[int, ...] = (200,)
    is_list: bool = False
    may_be_absent: bool = False
    is_conditional: bool = False
    secret: str = ""


def operation(action: Action | None, answer: Serializer | None = None, **declared: Any) -> Callable[[Method], Method]:
    """Declare a method of a view."""
    if answer is None:
        declared.setdefault("statuses", (204,))

    def decorate(method: Method) -> Method:
        method.operation = Operation(action, answer=answer, **declared)  # type: ignore[attr-defined]
        return method

    return decorate


@dataclass(slots=True)
class Answer:
    """What a method returns when it is more than the representation. ``location``: the address of what was made."""

    data: Any = None
    status: int = 0
    etag: str = ""
    location: str = ""


@dataclass(slots=True)
class Page:
    """One page of a list: the representations, and the cursor of the next page ("" if this is the last)."""

    items: list[dict[str, Any]]
    after: str = ""


@dataclass(slots=True)
class _Sent:
    """Body and query string as the serializers of the operation read them."""

    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)


def etag_of(value: Any) -> str:
    """The ETag of settings: a hash of their JSON."""
    text = json.dumps(value, sort_keys=True, default=str)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


class ApiView(APIView):
    """A view of the API. Of APIView it uses the choice of the class and what drf-spectacular reads of it."""

    schema: Any = None
    http_method_names: Sequence[str] = ("head", *METHODS)
    noun: ClassVar[str] = ""

    _rate: rates.Rate | None = None
    actor: Actor = ANONYMOUS
    organization: Organization
    project: Project
    repository: Repository
    image: Image
    actions: frozenset[Action] = frozenset()

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer the request."""
        self.request, self.args, self.kwargs = request, args, kwargs
        try:
            response = self._answer(request, kwargs)
        except Exception as error:
            response = problems.answer(request, self._judged(error))
        response.headers.setdefault("Cache-Control", "no-store")
        if self._rate:
            for name, value in self._rate.headers.items():
                response.headers[name] = value
        if request.method == "HEAD":
            response.content = b""
        return response

    def _judged(self, error: Exception) -> Exception:
        """A change by others is a failed precondition if the request had one."""
        if isinstance(error, errors.Changed) and self.has_precondition:
            return problems.PreconditionFailed(error.message)
        return error

    def _answer(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse:
        if not hosts.is_bare(request.get_host()) or "\0" in request.path_info:
            raise problems.NotFound("the API is served at the host of KCR_PUBLIC_URL only")
        name = "get" if request.method == "HEAD" else (request.method or "").lower()
        method = getattr(self, name, None) if name in METHODS else None
        self.actor = authentication.actor_of(request)
        self._rate = rates.count(self.actor)
        rates.require(self._rate)
        if method is None:
            raise problems.MethodNotAllowed(allow=self.allowed())
        declared: Operation = method.operation
        if not (request.accepts("application/json") or request.accepts(problems.MEDIA_TYPE)):
            raise problems.NotAcceptable
        self._find(declared, kwargs)
        content = _content(request) if name in {"post", "put", "patch"} else b""
        sent = _Sent(_body(request, declared, content, is_partial=name == "patch"), _query(request, declared))
        self.body, self.query = sent.body, sent.query
        record = idempotency.begin(request, self.actor, content) if name == "post" else None
        if record is not None and record.status is not None:
            return self._replay(record)
        try:
            made = method(**{key: value for key, value in kwargs.items() if key not in PLACES})
            response, shown = self._render(declared, made)
        except Exception:
            if record is not None:
                idempotency.forget(record)
            raise
        if record is not None:
            kept = {**shown, declared.secret: None} if declared.secret else shown
            idempotency.finish(record, response.status_code, response.headers.get("Location", ""), kept)
        return response

    def allowed(self) -> list[str]:
        """The methods of this path."""
        return [name.upper() for name in METHODS if hasattr(self, name)]

    # ── Where ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _find(self, declared: Operation, kwargs: dict[str, Any]) -> None:
        """Find what the path names, and ask whether the actor may do this. Raises NotFound, Denied."""
        if declared.is_operator:
            self._require_operator()
        if "organization" in kwargs:
            self._find_organization(declared, kwargs["organization"])
        if "project" not in kwargs:
            return
        self.actions = access.actions_in_project(self.actor, kwargs["project"])
        is_last = declared.may_be_absent and set(kwargs) == {"project"}
        project = Project.objects.select_related("organization").filter(name=kwargs["project"]).first()
        if project is None or Action.VIEW not in self.actions:
            if is_last:
                return
            raise problems.NotFound(f"there is no project {kwargs['project']}, or you may not see it")
        self.project = project
        if declared.action is not None:
            self.require(declared.action)
        if "repository" in kwargs:
            self._find_repository(declared, kwargs)

    def _require_operator(self) -> None:
        """Other people get the answer that a path has that there is none of."""
        if not User.objects.filter(pk=self.actor.user_id or 0, is_superuser=True).exists():
            raise problems.NotFound("the API has no such path")
        self._require_whole("is used for this installation")

    def _find_organization(self, declared: Operation, name: str) -> None:
        own = OrganizationMembership.objects.filter(organization__name=name, user=self.actor.user_id or 0)
        membership = own.select_related("organization").first()
        if membership is None:
            raise problems.NotFound(f"there is no organization {name}, or you do not belong to it")
        self._require_whole("acts in organizations")
        if declared.organization == OrganizationRole.OWNER != membership.role:
            raise errors.Denied(f"you belong to {name}, but this takes the role {access.Role.OWNER}")
        self.organization = membership.organization

    def _require_whole(self, words: str) -> None:
        """Raises Denied for a key that is limited to a project or to repositories."""
        if self.actor.project_id is not None or self.actor.repositories:
            raise errors.Denied(f"only a key that is not limited to a project or to repositories {words}")

    def _find_repository(self, declared: Operation, kwargs: dict[str, Any]) -> None:
        name = names.ImageName(self.project.name, kwargs["repository"], kwargs.get("image", ""))
        repository = Repository.objects.named(name).first()
        if repository is None:
            if declared.may_be_absent and "image" not in kwargs:
                return
            raise problems.NotFound(f"the project {self.project} has no repository {kwargs['repository']}")
        repository.project = self.project
        self.repository = repository
        if "image" in kwargs:
            image = Image.objects.live().filter(repository=repository, name=kwargs["image"]).first()
            if image is None:
                raise problems.NotFound(f"{repository} has no image {kwargs['image']}")
            image.repository = repository
            self.image = image

    def require(self, action: Action) -> None:
        """Raises Denied if the actor may not do this in the project of the path."""
        if action not in self.actions:
            raise errors.Denied(
                f"you may see the project {self.project}, but this takes the role {access.takes(action)}"
            )

    # ── Preconditions ────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def has_precondition(self) -> bool:
        """Whether the request has If-Match."""
        return "HTTP_IF_MATCH" in self.request.META

    def check(self, etag: str) -> None:
        """Compare If-Match and If-None-Match with the present ETag, "" if the thing does not exist.

        Raises PreconditionFailed. A weak ETag matches nothing (RFC 9110, section 13.1.1).
        """
        wanted, unwanted = self.request.headers.get("If-Match"), self.request.headers.get("If-None-Match")
        if wanted is not None and not (etag and _names(wanted, etag)):
            raise problems.PreconditionFailed
        if unwanted is not None and etag and _names(unwanted, etag):
            raise problems.PreconditionFailed("this exists already")

    # ── Lists and answers ────────────────────────────────────────────────────────────────────────────────────────────
    def page(self, rows: QuerySet[Any], column: str, represent: Callable[[Any], dict[str, Any]]) -> Page:
        """A page of rows in the order of a unique column ("-pk": newest first). The cursor is its last value."""
        name, falls = column.lstrip("-"), column.startswith("-")
        value = self.after() if name == "pk" else self.query.get("after")
        if value is not None:
            rows = rows.filter(**{f"{name}__{'lt' if falls else 'gt'}": value})
        limit = self.query["limit"]
        found = list(rows.order_by(column)[: limit + 1])
        last = ""
        if len(found) > limit:
            thing: Any = found[limit - 1]
            for step in name.split("__"):
                thing = getattr(thing, step)
            last = str(thing)
        return Page([represent(row) for row in found[:limit]], last)

    def after(self) -> int | None:
        """The cursor of a list in the order of ids; None for the first page. Raises BadRequest."""
        text = self.query.get("after")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise problems.BadRequest("take `after` from `next` of the page before")
        return int(text)

    def filters(self, *parameters: str) -> dict[str, Any]:
        """Those of these parameters that are given."""
        return {name: self.query[name] for name in parameters if name in self.query}

    def _render(self, declared: Operation, made: Any) -> tuple[HttpResponse, Any]:
        """The answer, and its JSON."""
        answer = made if isinstance(made, Answer) else Answer(made)
        status = answer.status or declared.statuses[0]
        headers = {"ETag": answer.etag} if answer.etag else {}
        if answer.location:
            headers["Location"] = answer.location
        if self.request.method in {"GET", "HEAD"} and answer.etag and http.has_already(self.request, answer.etag):
            response = HttpResponse(status=304, headers=headers)
            del response.headers["Content-Type"]
            return response, None
        if declared.answer is None:
            response = HttpResponse(status=status, headers=headers)
            del response.headers["Content-Type"]
            return response, None
        data: Any
        if isinstance(answer.data, Page):
            data = {"items": [declared.answer(item).data for item in answer.data.items], "next": None}
            if answer.data.after:
                data["next"] = self._next(answer.data.after)
                headers["Link"] = f'<{data["next"]}>; rel="next"'
        else:
            data = declared.answer(answer.data).data
        return _json(data, status, headers), data

    def _next(self, after: str) -> str:
        query: QueryDict = self.request.GET.copy()
        query["after"] = after
        return f"{self.request.path}?{urlencode(list(_pairs(query)))}"

    def _replay(self, record: Any) -> HttpResponse:
        headers = {"Idempotency-Replayed": "true"} | ({"Location": record.location} if record.location else {})
        if record.body is None:
            response = HttpResponse(status=record.status, headers=headers)
            del response.headers["Content-Type"]
            return response
        return _json(record.body, record.status, headers)


PLACES = frozenset({"organization", "project", "repository", "image"})


def _json(data: Any, status: int, headers: dict[str, str]) -> HttpResponse:
    return HttpResponse(
        json.dumps(data, ensure_ascii=False), status=status, content_type="application/json", headers=headers
    )


def _pairs(query: QueryDict) -> Any:
    for name, values in query.lists():
        for value in values:
            yield name, value


def _names(header: str, etag: str) -> bool:
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or etag in tags


def _content(request: HttpRequest) -> bytes:
    try:
        content = http.bounded_body(request, MAX_BODY)
    except errors.SizeInvalid as error:
        raise problems.BadRequest(error.message) from error
    if content is None:
        raise problems.TooLarge(f"a body has at most {MAX_BODY:,} bytes")
    return content


def _body(request: HttpRequest, declared: Operation, content: bytes, *, is_partial: bool) -> dict[str, Any]:
    """The body as its serializer reads it. Raises NotJson, BadRequest, Invalid."""
    if declared.body is None:
        if content.strip() not in {b"", b"{}"}:
            raise problems.Invalid("this request takes no body")
        return {}
    media_type = (request.content_type or "").lower()
    if content and media_type not in {"application/json", "application/merge-patch+json"}:
        raise problems.NotJson
    try:
        data = json.loads(content.decode() or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise problems.BadRequest("the body is not JSON") from error
    serializer = declared.body(data=data, partial=is_partial)
    if not serializer.is_valid():
        raise problems.Invalid(errors=list(_pointers(serializer.errors)))
    found: dict[str, Any] = dict(serializer.validated_data)
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _query(request: HttpRequest, declared: Operation) -> dict[str, Any]:
    """The query string as its serializer reads it. Raises BadRequest, also for parameters that there are none of."""
    kind = query_of(declared)
    fields: Any = kind().fields if kind else {}
    if unknown := sorted(set(request.GET) - set(fields)):
        raise problems.BadRequest(f"there is no parameter {', '.join(unknown)[:100]}")
    if kind is None:
        return {}
    serializer = kind(data=request.GET.dict())  # in a QueryDict, a switch that is not given would be off
    if not serializer.is_valid():
        raise problems.BadRequest("a parameter is not valid", errors=list(_pointers(serializer.errors)))
    found: dict[str, Any] = dict(serializer.validated_data)
    return found


def query_of(declared: Operation) -> Serializer | None:
    """The serializer of the query string: the operation's own fields, and those of pages."""
    bases = [each for each in (declared.query, PageQuery if declared.is_list else None) if each]
    return type(declared.query.__name__, tuple(bases), {}) if len(bases) > 1 else next(iter(bases), None)  # type: ignore[union-attr]


def _pointers(found: Any, pointer: str = "") -> Any:
    """What is wrong, each with a JSON pointer (RFC 6901)."""
    if isinstance(found, dict):
        for name, below in found.items():
            step = "" if name == "non_field_errors" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from _pointers(below, pointer + step)
        return
    for each in found:
        if isinstance(each, dict | list):
            yield from _pointers(each, pointer)
        else:
            yield {"pointer": pointer, "detail": str(each)}
