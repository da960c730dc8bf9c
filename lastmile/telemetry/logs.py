"""Logs: structured, without personal data and secrets. Readable on a terminal, JSON elsewhere.

Such data would slip in with the words of failures: a driver's error quotes a value, one of ours a subscriber's prefix.
So of a failure is logged what kind it is and where it was raised, whoever logs it; its words are in the run in
Temporal, which the line names.
"""

import logging
import sys
import traceback
from typing import Literal

import structlog
import temporalio.activity
import temporalio.exceptions
import temporalio.workflow
from structlog.typing import EventDict, Processor, WrappedLogger

from lastmile.fields.unsafe import escape

__all__ = ["set_up_logging"]

_CORE_FIELDS = ("attempt", "error", "run_id", "task_queue", "workflow_id")
"""What is shown of the fields of the Temporal SDK's core; its `error` is gRPC's. `failure` has words."""


def set_up_logging(log_format: Literal["auto", "console", "json"] = "auto", log_level: str = "INFO") -> None:
    """Send structlog's and the standard library's records to standard error, in the configured format."""
    readable = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _of_others,
        _without_words,
        _escaped,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer()
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
    # At DEBUG others log what goes over the wire, with everything in it.
    root.setLevel(max(logging.INFO, logging.getLevelName(log_level)))
    logging.getLogger("lastmile").setLevel(log_level)
    logging.captureWarnings(True)
    _quieten_temporal()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _quieten_temporal() -> None:
    """What its adapters append to each message is in fields; what `activities.interceptor` logs is not logged twice."""
    temporalio.workflow.logger.workflow_info_on_message = False
    temporalio.activity.logger.activity_info_on_message = False
    temporalio.activity.logger.base_logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    failed = getattr(record, "__temporal_error_identifier", None) == "ActivityFailure"
    return not (failed and record.exc_info and isinstance(record.exc_info[1], temporalio.exceptions.ApplicationError))


def _of_others(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of a record that did not come by structlog: the first line, and from the SDK's details which run it is about."""
    if "_record" not in event:
        return event
    # asyncio puts failures with their words on further lines.
    event["event"] = str(event["event"]).partition("\n")[0]
    core = event.pop("temporal_log", None)
    about = {name: core.fields[name] for name in _CORE_FIELDS if name in core.fields} if core else {}
    if run := event.pop("temporal_workflow", None) or event.pop("temporal_activity", None):
        about |= {"workflow_id": run["workflow_id"], "run_id": run.get("run_id") or run.get("workflow_run_id")}
    event.pop("__temporal_error_identifier", None)
    return {**about, **event}


def _without_words(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A failure as the types and frames of its traceback."""
    failure = event.pop("exc_info", None)
    if failure is True:
        failure = sys.exc_info()
    if isinstance(failure, tuple):
        failure = failure[1]
    if isinstance(failure, BaseException):
        event["exception"] = "\n".join(_chain(failure))
    return event


def _escaped(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Values without control characters: a line of a log is one line, and none can be forged."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escape(value, keep_lines=name == "exception")
    return event


def _chain(failure: BaseException) -> list[str]:
    """The failure, and before it what it came from."""
    before = failure.__cause__ or failure.__context__
    frames = "".join(traceback.format_tb(failure.__traceback__))
    return [*(_chain(before) if before else ()), f"{frames}{type(failure).__module__}.{type(failure).__qualname__}"]
