"""Traces: what OpenTelemetry makes of runs and their steps, sent to a collector.

Imported only where one is configured: OpenTelemetry comes with the extra `tracing`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Status
from temporalio.client import Plugin
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, create_tracer_provider

__all__ = ["tracing"]

LAST_EXPORT_SECONDS = 5
"""How long a collector that does not answer may hold up the end."""


@asynccontextmanager
async def tracing(collector: str) -> AsyncIterator[Plugin]:
    """A plugin for the process's client; what is left to send is sent at the end.

    `collector` takes OTLP over HTTP. OpenTelemetry's own environment variables say the rest: headers, certificates,
    sampling, the service's name.
    """
    resource = Resource.create({SERVICE_NAME: "lastmile"}).merge(OTELResourceDetector().detect())
    provider = create_tracer_provider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_WithoutWords(endpoint=f"{collector.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
    try:
        yield OpenTelemetryPlugin(add_temporal_spans=True)
    finally:
        await asyncio.wait([asyncio.create_task(asyncio.to_thread(provider.shutdown))], timeout=LAST_EXPORT_SECONDS)


class _WithoutWords(OTLPSpanExporter):
    """Of failures tells the type alone, as the logs do and for the same reason (telemetry.logs)."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return super().export([_without_words(span) for span in spans])


def _without_words(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_type_alone(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _type_alone(event: Event) -> Event:
    kept = {name: value for name, value in (event.attributes or {}).items() if name == "exception.type"}
    return Event(event.name, kept, event.timestamp)
