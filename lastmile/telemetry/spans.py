"""Spans of Lastmile's own, where the process sends traces (`lastmile.telemetry.tracing`)."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

__all__ = ["span"]


def span(name: str) -> AbstractContextManager[Any]:
    """Return a span inside the current one; without tracing, nothing. OpenTelemetry comes with an extra."""
    tracing = sys.modules.get("opentelemetry.trace")
    return nullcontext() if tracing is None else tracing.get_tracer("lastmile").start_as_current_span(name)
