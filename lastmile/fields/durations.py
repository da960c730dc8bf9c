"""Durations as readable text."""

from datetime import timedelta

__all__ = ["format_duration"]

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def format_duration(length: timedelta | float) -> str:
    """Return a duration in its two largest units: "7 d", "3 h 20 min"; below a minute "12 s" or "0.4 s".

    A number is in seconds.
    """
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 or seconds == 0 else f"{seconds:.1f} s"
    parts: list[str] = []
    left = round(seconds)
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts))
