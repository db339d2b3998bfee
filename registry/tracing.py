"""OpenTelemetry: spans of requests, statements, calls of S3, tasks, Trivy and notifications, sent with OTLP over HTTP.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is set. When off nothing here is installed: no middleware,
no wrapper of statements, no signal, and no module of OpenTelemetry is imported.

Names of repositories, images, people and values of statements are in no span.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from django.conf import settings

from registry.server.clients import is_trusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from django.http import HttpRequest, HttpResponse

TRACER = "kcr"
PARENT = "traceparent"  # the header of W3C Trace Context, in requests and in messages of the queue
QUEUED_AT = "kcr_queued_at"
SERVER_ERROR = 500

_lock = threading.Lock()
_of_process: tuple[int, Any] = (0, None)  # a fork needs a provider of its own: threads send the spans


def span(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """A span around a block, below the present one; nothing when tracing is off."""
    if not settings.TRACING:
        return nullcontext()
    found: AbstractContextManager[Any] = _tracer().start_as_current_span(name, attributes=attributes)
    return found


def install() -> None:
    """Watch tasks and statements of this process. Called once, when tracing is on."""
    from celery import signals  # noqa: PLC0415  only when tracing is on
    from django.db.backends.signals import connection_created  # noqa: PLC0415

    connection_created.connect(_watch_connection)
    signals.before_task_publish.connect(_before_publish)
    signals.task_prerun.connect(_before_run)
    signals.task_postrun.connect(_after_run)
    signals.worker_process_shutdown.connect(flush)
    signals.worker_shutdown.connect(flush)


def _provider() -> Any:
    """The provider of this process."""
    global _of_process  # noqa: PLW0603
    if _of_process[0] == os.getpid():
        return _of_process[1]
    with _lock:
        if _of_process[0] != os.getpid():
            _of_process = os.getpid(), _made()
        return _of_process[1]


def _made() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    # The variables of OpenTelemetry say where to, which sampler, and so on.
    provider = TracerProvider(resource=Resource.create(settings.TRACING_RESOURCE))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _tracer() -> Any:
    return _provider().get_tracer(TRACER)


def flush(**kwargs: Any) -> None:
    """Send the spans that wait. A process of a worker ends without the exit handlers of Python."""
    if _of_process[0] == os.getpid():
        _of_process[1].force_flush(5_000)


def _is_recording() -> bool:
    from opentelemetry import trace  # noqa: PLC0415

    return bool(trace.get_current_span().is_recording())


def _extracted(parent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({PARENT: parent} if parent else {})


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class TracingMiddleware:
    """Outermost: a span of the application. A blob is sent afterwards. Installed only when tracing is on.

    The trace of a client is continued if a trusted proxy passes it on: others cannot choose what is recorded.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415

        if request.path_info == "/healthz":
            return self.get_response(request)
        is_known = is_trusted(request.META.get("REMOTE_ADDR", ""))
        context = _extracted(request.META.get("HTTP_TRACEPARENT", "") if is_known else "")
        with _tracer().start_as_current_span(request.method or "", context=context, kind=SpanKind.SERVER) as current:
            response = self.get_response(request)
            match = request.resolver_match
            route = (match.view_name if match else "") or "none"
            current.update_name(f"{request.method} {route}")
            current.set_attributes(
                {
                    "http.request.method": request.method or "",
                    "http.route": route,
                    "http.response.status_code": response.status_code,
                    "url.scheme": request.scheme or "",
                    "kcr.request_id": getattr(request, "id", ""),
                }
            )
            if response.status_code >= SERVER_ERROR:
                current.set_status(StatusCode.ERROR)
        return response


class TraceFilter(logging.Filter):
    """Adds ``trace_id`` and ``span_id`` to log lines that belong to a trace. Installed only when tracing is on."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; it is always logged."""
        from opentelemetry import trace  # noqa: PLC0415

        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id, record.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        return True


# ── Statements ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _watch_connection(connection: Any, **kwargs: Any) -> None:
    if _statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(_statement)


def _statement(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    """A span around a statement, without its values. None outside of a trace."""
    if not _is_recording():
        return execute(sql, params, many, context)
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    text = sql if isinstance(sql, str) else str(sql)
    verb = text.lstrip("( \n").partition(" ")[0].upper()[:20]
    system = context["connection"].vendor
    attributes = {"db.system.name": system, "db.operation.name": verb, "db.query.text": text[:2000]}
    with _tracer().start_as_current_span(f"{system} {verb}", kind=SpanKind.CLIENT, attributes=attributes):
        return execute(sql, params, many, context)


# ── S3 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
def watch_s3(client: Any) -> None:
    """Make a span of each call of a client of boto3. Its name is that of the operation; keys are not in it."""
    events = client.meta.events
    events.register("before-call.s3", _before_call)
    for name in ("after-call.s3", "after-call-error.s3"):
        events.register(name, _after_call)


def _before_call(model: Any, context: dict[str, Any], **kwargs: Any) -> None:
    if _is_recording():
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        context["kcr_span"] = _tracer().start_span(
            f"S3 {model.name}", kind=SpanKind.CLIENT, attributes={"rpc.system": "aws-api", "rpc.method": model.name}
        )


def _after_call(
    context: dict[str, Any], http_response: Any = None, exception: BaseException | None = None, **kwargs: Any
) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    current = context.pop("kcr_span", None)
    if current is None:
        return
    if http_response is not None:
        current.set_attribute("http.response.status_code", http_response.status_code)
    if exception is not None or (http_response is not None and http_response.status_code >= SERVER_ERROR):
        current.set_status(StatusCode.ERROR)
    current.end()


# ── Tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────
_running = threading.local()


def _before_publish(headers: dict[str, Any], **kwargs: Any) -> None:
    """Put the present trace into the message."""
    from opentelemetry.trace import SpanKind  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    headers[QUEUED_AT] = time.time()
    if _is_recording():
        with _tracer().start_as_current_span(f"enqueue {headers.get('task', '')}", kind=SpanKind.PRODUCER):
            TraceContextTextMapPropagator().inject(headers)


def _before_run(task: Any, **kwargs: Any) -> None:
    """Begin the span of a task, below the span that queued it."""
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    sent = {**(getattr(task.request, "headers", None) or {}), **task.request.__dict__}
    queued_at = sent.get(QUEUED_AT)
    attributes = {"messaging.operation.name": "run", "kcr.task": task.name}
    if isinstance(queued_at, int | float):
        attributes["kcr.waited_seconds"] = round(max(0.0, time.time() - queued_at), 3)
    block = _tracer().start_as_current_span(
        f"run {task.name}",
        context=_extracted(str(sent.get(PARENT) or "")),
        kind=SpanKind.CONSUMER,
        attributes=attributes,
    )
    block.__enter__()
    _running.blocks = [*getattr(_running, "blocks", ()), block]


def _after_run(state: str | None = None, **kwargs: Any) -> None:
    from opentelemetry import trace  # noqa: PLC0415

    blocks = getattr(_running, "blocks", [])
    if not blocks:
        return
    if state == "FAILURE":
        trace.get_current_span().set_status(trace.StatusCode.ERROR)
    blocks.pop().__exit__(None, None, None)
