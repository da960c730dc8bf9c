"""Logs: structured, without personal data and secrets. Readable on a terminal, JSON elsewhere."""

import logging
import sys

import structlog
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from settings import Settings

__all__ = ["forward_temporal_logs", "set_up_logging"]


def set_up_logging(settings: Settings) -> None:
    """Send structlog's and the standard library's records to standard error, in the configured format."""
    readable = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    forward_temporal_logs()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def forward_temporal_logs() -> None:
    """Give the warnings of the Temporal SDK's core, which would go to the terminal as they are, to `logging`.

    Before the first client is made. A process without log set-up of its own hears nothing of them.
    """
    logger = logging.getLogger("temporalio.core")
    logger.addHandler(logging.NullHandler())
    to_logging = LoggingConfig(
        filter=TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding=LogForwardingConfig(logger=logger)
    )
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=to_logging)), error_if_already_set=False)
