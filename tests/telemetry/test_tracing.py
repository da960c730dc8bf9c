"""Tests of traces that a collector receives over HTTP."""

import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.addressing import Addressing, IPv4Mode
from lastmile.devstack.ports import HOST
from tests.support.orders import Orders
from tests.support.processes import Environment, healthy, port_of, started
from tests.support.readme import ROOT

NOBODY = f"http://{HOST}:1"


class Collector(ThreadingHTTPServer):
    """A collector that stores the spans that it receives (OpenTelemetry Protocol, section OTLP/HTTP)."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Request)
        self.received: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def services(self) -> set[str]:
        return {
            attribute.value.string_value
            for request in self.received
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }


class _Request(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        right = (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        if right:
            self.server.received.append(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if right else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def work(environment: Environment, lastmile: Lastmile, orders: Orders) -> None:
    """Run a provision order and a refused order, whose address is in no pool. Then stop the worker."""
    async with started(environment) as process:
        await healthy(port_of(environment))
        assert (await lastmile.execute(orders.provision())).status is ResultStatus.COMPLETED
        nowhere = Addressing(ipv4_mode=IPv4Mode.STATIC, ipv4_address="198.51.100.77")
        refused = await lastmile.execute(orders.provision("O-2", 1, addressing=nowhere))
        assert "198.51.100.77" in refused.reason
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_tracing_of_a_run_has_spans_of_its_steps(
    environment: Environment, lastmile: Lastmile, orders: Orders, collector: Collector
) -> None:
    await work(environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, lastmile, orders)

    assert collector.services() == {"lastmile"}
    spans = {span.span_id: span for span in collector.spans()}
    [first, _] = [span for span in spans.values() if span.name == "RunWorkflow:Provision"]
    steps = {
        span.name: spans[span.parent_span_id]
        for span in spans.values()
        if span.trace_id == first.trace_id and span.name.startswith(("RunActivity:", "RunStep:"))
    }
    start = steps["RunActivity:open_order"]
    assert start.name == "StartActivity:open_order"
    assert start.parent_span_id == first.span_id
    for step in ("create_customer", "allocate_ip_address", "create_billing_service", "close_order"):
        assert steps[f"RunStep:{step}"].name == "RunActivity:open_order"
    assert first.end_time_unix_nano > first.start_time_unix_nano


async def test_tracing_of_a_failure_has_only_its_type(
    environment: Environment, lastmile: Lastmile, orders: Orders, collector: Collector
) -> None:
    await work(environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/"}, lastmile, orders)

    failed = {span.name: span for span in collector.spans() if span.status.code == Status.STATUS_CODE_ERROR}
    assert failed.keys() >= {"RunStep:allocate_ip_address", "RunWorkflow:Provision"}
    for span in failed.values():
        assert span.status.message == ""
        [event] = span.events
        assert {attribute.key for attribute in event.attributes} == {"exception.type"}
    received = b"".join(request.SerializeToString() for request in collector.received)
    for words in (b"198.51.100", b"2001:db8:", b"Ada Example", b"acme.lastmile", b"ACME0", b"00:1a:2b"):
        assert words not in received


async def test_tracing_without_a_collector_does_not_delay_the_end(
    environment: Environment, lastmile: Lastmile, orders: Orders
) -> None:
    await work(environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY}, lastmile, orders)


async def test_tracing_without_opentelemetry_names_the_package(
    environment: Environment, tmp_path: Path, owner_url: str
) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # hides the installed one
    path = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    lacking = environment | {"PYTHONPATH": path, "OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY}
    del lacking["DATABASE_URL"]
    async with started(lacking, code=ROOT) as process:  # an interpreter of its own reads PYTHONPATH
        _, words = await process.communicate()
    assert process.returncode == 2
    assert b"OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed" in words
    assert b"pip install 'lastmile[tracing]'" in words
    assert b"DATABASE_URL is not set" in words, "all that is missing at once"
    assert b"Traceback" not in words
