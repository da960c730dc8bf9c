"""Structured logs without personal data and secrets: readable text on a terminal, JSON elsewhere.

The message of an exception can contain such data: a driver's error quotes a value, an error of Lastmile a subscriber's
prefix. So every log line with an exception has only its type and traceback. The message is in the run in Temporal,
whose id the log line has.
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
"""The logged fields of the Temporal SDK's core. `error` is gRPC's status. The field `failure` contains messages."""


def set_up_logging(log_format: Literal["auto", "console", "json"] = "auto", log_level: str = "INFO") -> None:
    """Write the log records of structlog and of the standard library to standard error, in the configured format."""
    readable = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _reduce_foreign_record,
        _remove_exception_messages,
        _escape_control_characters,
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
    # At DEBUG, libraries log whole requests and replies, with personal data and secrets.
    root.setLevel(max(logging.INFO, logging.getLevelName(log_level)))
    logging.getLogger("lastmile").setLevel(log_level)
    logging.captureWarnings(True)
    _quieten_temporal()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,  # else the line of each step would be built before it is dropped
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _quieten_temporal() -> None:
    """Remove the text that the SDK appends to each message, and the failures that `activities.interceptor` logs."""
    temporalio.workflow.logger.workflow_info_on_message = False
    temporalio.activity.logger.activity_info_on_message = False
    temporalio.activity.logger.base_logger.addFilter(_is_not_step_failure)


def _is_not_step_failure(record: logging.LogRecord) -> bool:
    failed = getattr(record, "__temporal_error_identifier", None) == "ActivityFailure"
    return not (failed and record.exc_info and isinstance(record.exc_info[1], temporalio.exceptions.ApplicationError))


def _reduce_foreign_record(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep the first line of a record of the standard library, and the run from the SDK's details."""
    if "_record" not in event:
        return event
    # asyncio appends failures with their messages on further lines.
    event["event"] = str(event["event"]).partition("\n")[0]
    core = event.pop("temporal_log", None)
    about = {name: core.fields[name] for name in _CORE_FIELDS if name in core.fields} if core else {}
    if run := event.pop("temporal_workflow", None) or event.pop("temporal_activity", None):
        about |= {"workflow_id": run["workflow_id"], "run_id": run.get("run_id") or run.get("workflow_run_id")}
    event.pop("__temporal_error_identifier", None)
    return {**about, **event}


def _remove_exception_messages(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace an exception by the types and frames of its traceback."""
    failure = event.pop("exc_info", None)
    if failure is True:
        failure = sys.exc_info()
    if isinstance(failure, tuple):
        failure = failure[1]
    if isinstance(failure, BaseException):
        event["exception"] = "\n".join(_chain(failure))
    return event


def _escape_control_characters(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape control characters in values, so that no value can forge a line of the log."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escape(value, keep_lines=name == "exception")
    return event


def _chain(failure: BaseException) -> list[str]:
    """Return the traceback and type of the failure, after those of its cause."""
    cause = failure.__cause__ or failure.__context__
    frames = "".join(traceback.format_tb(failure.__traceback__))
    return [*(_chain(cause) if cause else ()), f"{frames}{type(failure).__module__}.{type(failure).__qualname__}"]
