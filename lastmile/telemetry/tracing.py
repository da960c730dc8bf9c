"""Traces of runs and their steps, sent to an OpenTelemetry collector.

A process imports this module only if a collector is configured: OpenTelemetry comes with the extra `tracing`.
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
"""The maximum delay of the end of the process by a collector that does not answer."""


@asynccontextmanager
async def tracing(collector: str) -> AsyncIterator[Plugin]:
    """Provide the plugin for the process's client, and send the remaining spans at the end.

    `collector` is the URL of a collector for OTLP over HTTP. OpenTelemetry's own environment variables set the headers,
    certificates, sampling and the service's name.
    """
    resource = Resource.create({SERVICE_NAME: "lastmile"}).merge(OTELResourceDetector().detect())
    provider = create_tracer_provider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_MessageFreeExporter(endpoint=f"{collector.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
    try:
        yield OpenTelemetryPlugin(add_temporal_spans=True)
    finally:
        await asyncio.wait([asyncio.create_task(asyncio.to_thread(provider.shutdown))], timeout=LAST_EXPORT_SECONDS)


class _MessageFreeExporter(OTLPSpanExporter):
    """An exporter that removes the messages of exceptions, since they can contain personal data and secrets."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export the spans without messages."""
        return super().export([_remove_messages(span) for span in spans])


def _remove_messages(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_keep_type(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _keep_type(event: Event) -> Event:
    kept = {name: value for name, value in (event.attributes or {}).items() if name == "exception.type"}
    return Event(event.name, kept, event.timestamp)
