"""From what pynetbox and requests raise, which have no base in common, to our own errors."""

import re
from collections.abc import Iterator
from typing import Any

import pynetbox
import requests
from urllib3.exceptions import NewConnectionError

from ipam.netbox.errors import (
    ConnectionLost,
    Exhausted,
    Invalid,
    KeyTaken,
    NetBoxError,
    NotAuthorised,
    NotFound,
    NotNetBox,
    ServerError,
    TimedOut,
    Unavailable,
    Unreachable,
)
from ipam.netbox.records import KEY

__all__ = ["translated"]

_MOST_WORDS = 300
_PROXY = {429, 502, 503, 504}


def translated(failure: Exception, what: str, url: str) -> NetBoxError:
    """The failure of `what` (method and path) at `url`, by its name."""
    match failure:
        case pynetbox.RequestError() | pynetbox.AllocationError():
            return _answered(failure.req, what, url)
        case pynetbox.ContentError() if failure.req.status_code == 201:
            return ConnectionLost(f"NetBox did {what}, and its answer cannot be read")
        case pynetbox.ContentError():
            return _not_netbox(failure.req, url)
        case requests.TooManyRedirects():
            target = failure.response.headers.get("Location", "elsewhere") if failure.response is not None else ""
            return NotNetBox(f"{url} redirects to {target}: set NETBOX_URL to where NetBox itself answers")
        case requests.ConnectTimeout():
            return Unreachable(f"no NetBox answers at {url}: connecting took too long. Is NETBOX_URL right?")
        case requests.Timeout():
            return TimedOut(
                f"NetBox did not answer {what} within LASTMILE_NETBOX_TIMEOUT_SECONDS, and may be at it still"
            )
        case requests.exceptions.SSLError():
            return Unreachable(
                f"no safe connection to {url} ({_tls_words(failure)}): is its certificate valid, and the CA that "
                "signed it in LASTMILE_NETBOX_CA_FILE?"
            )
        case requests.ConnectionError() if _never_connected(failure):
            return Unreachable(f"no NetBox answers at {url}: is it running, and is NETBOX_URL right?")
        case requests.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            return ConnectionLost(f"the connection to NetBox ended before it had answered {what}")
        case requests.RequestException():  # its words may quote headers
            return Unreachable(f"{what} cannot be sent to {url} ({type(failure).__name__}): is NETBOX_URL right?")
        case OSError():
            return Unreachable(f"{what} cannot be sent to {url}: {failure.strerror or 'LASTMILE_NETBOX_CA_FILE?'}")
        case _:  # what pynetbox does with JSON that is none of NetBox's
            return NotNetBox(f"what {url} answers to {what} makes no sense as NetBox's ({type(failure).__name__})")


def _answered(reply: requests.Response, what: str, url: str) -> NetBoxError:
    """Of an answer that is no success."""
    status, words = reply.status_code, _words(reply)
    if status in _PROXY:
        unavailable = Unavailable(f"NetBox, or a proxy before it, does not take {what} now ({status})")
        unavailable.retry_after = _retry_after(reply)
        return unavailable
    if status >= 500:
        return ServerError(f"NetBox failed at {what} ({status}{words and f': {words}'}): its log says why")
    if status in (401, 403):
        return NotAuthorised(
            f"NetBox refuses {what} ({words or status}): is NETBOX_TOKEN right? docs/netbox.md says what its user needs"
        )
    if not words:
        return _not_netbox(reply, url)
    if status == 404:
        return NotFound(f"NetBox has no such thing ({what}): {words}")
    if status == 409 and what.endswith("/available-prefixes"):
        return Exhausted(f"NetBox has no room left ({what}): {words}")
    if status == 400 and f"Custom field '{KEY}' must have a unique value." in words:
        return KeyTaken("another prefix in NetBox carries this allocation key: look it up")
    return Invalid(f"NetBox refuses {what}: {words}")


def _not_netbox(reply: requests.Response, url: str) -> NotNetBox:
    kind = reply.headers.get("Content-Type", "nothing").partition(";")[0]
    return NotNetBox(f"what answers at {url} is not NetBox's API ({reply.status_code}, {kind}): is NETBOX_URL right?")


def _words(reply: requests.Response) -> str:
    """NetBox's own, on one line; empty where its answer is no JSON."""
    try:
        body = reply.json()
    except ValueError:
        return ""
    if reply.status_code >= 500 and isinstance(body, dict):
        body = [body.get("exception"), body.get("error")]  # the rest is about its version
    words = re.sub(r"\s+", " ", "; ".join(_sentences(body)))
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}…"


def _sentences(body: Any) -> Iterator[str]:
    """`{"prefix": ["Duplicate …"]}` as `prefix: Duplicate …`, however deep, also of lists."""
    if isinstance(body, dict):
        for name, value in body.items():
            label = "" if name in ("detail", "__all__", "non_field_errors") else f"{name}: "
            yield from (f"{label}{sentence}" for sentence in _sentences(value))
    elif isinstance(body, list):
        for value in body:
            yield from _sentences(value)
    elif body not in (None, ""):
        yield str(body)


def _retry_after(reply: requests.Response) -> float:
    """Seconds; the other form, a date, is not worth reading."""
    value = reply.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0


def _never_connected(failure: requests.ConnectionError) -> bool:
    reason = getattr(failure.args[0] if failure.args else None, "reason", None)
    return isinstance(reason, NewConnectionError)


def _tls_words(failure: requests.exceptions.SSLError) -> str:
    """OpenSSL's reason, as in `certificate verify failed: self-signed certificate`."""
    found = re.search(r"\] ([^()\"']+) \(_ssl", str(failure))
    return found[1] if found else "TLS failed"
