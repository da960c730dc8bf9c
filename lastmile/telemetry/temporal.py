"""The logs and metrics of the Temporal SDK: logs go to `logging`, metrics to the same `/metrics` as Lastmile's."""

import logging
import socket
from collections.abc import Iterable
from urllib.request import ProxyHandler, build_opener

import structlog
from prometheus_client import REGISTRY, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

__all__ = ["TemporalMetrics", "forward_temporal_logs", "observe_temporal"]

log = structlog.get_logger("lastmile.telemetry")

HOST = "127.0.0.1"
TRIES = 5


def forward_temporal_logs() -> None:
    """Send the warnings of the SDK's core to `logging` instead of the terminal.

    Call this function before the process creates its first client. A process without log configuration drops the
    warnings.
    """
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=_to_logging())), error_if_already_set=False)


def observe_temporal() -> "TemporalMetrics":
    """Forward the SDK's logs, and add its metrics to the registry.

    Call this function once in a process, before the process creates its first client.

    Raises:
        OSError: no port is free for the SDK's metrics.
    """
    metrics = TemporalMetrics()
    Runtime.set_default(metrics.runtime, error_if_already_set=False)
    REGISTRY.register(metrics)
    return metrics


def _to_logging() -> LoggingConfig:
    logger = logging.getLogger("temporalio.core")
    logger.addHandler(logging.NullHandler())
    return LoggingConfig(
        filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
        # The fields contain failures with their messages. `lastmile.telemetry.logs` selects the harmless fields.
        forwarding=LogForwardingConfig(
            logger=logger, append_log_fields_to_message=False, prepend_target_on_message=False
        ),
    )


class TemporalMetrics(Collector):
    """A collector of the SDK's metrics.

    The SDK exports metrics only on its own port. The collector chooses a free port, and reads it at each scrape.
    """

    def __init__(self) -> None:
        for left in reversed(range(TRIES)):
            address = f"{HOST}:{_free_port()}"
            try:
                self.runtime = Runtime(telemetry=_telemetry(address))
            except ValueError as failure:  # another process has taken the port meanwhile
                if not left:
                    raise OSError(str(failure)) from failure
            else:
                break
        self._url = f"http://{address}/metrics"
        self._opener = build_opener(ProxyHandler({}))

    def describe(self) -> Iterable[Metric]:
        """Return no metric, so that the registration does not read the port."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the SDK's metrics; none if the port does not answer."""
        try:
            with self._opener.open(self._url, timeout=5) as answer:
                return list(text_string_to_metric_families(answer.read().decode()))
        except OSError as failure:
            log.warning("temporal.metrics_missing", kind=type(failure).__name__)
            return ()  # the scrape still shows the other metrics

    def count_pollers(self) -> int:
        """Return the number of polls for workflow tasks that the worker of this process keeps open or retries."""
        return sum(
            int(sample.value)
            for family in self.collect()
            if family.name == "temporal_num_pollers"
            for sample in family.samples
            if sample.labels["poller_type"] == "workflow_task"
        )


def _telemetry(address: str) -> TelemetryConfig:
    # Dashboards and alerts rely on these names. The SDKs for different languages have different defaults.
    prometheus = PrometheusConfig(
        bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    return TelemetryConfig(logging=_to_logging(), metrics=prometheus, attach_service_name=False)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])
