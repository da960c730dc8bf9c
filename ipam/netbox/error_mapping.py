"""Map the exceptions of pynetbox and requests, which have no common base, to the errors of Lastmile."""

import re
from collections.abc import Iterator
from typing import Any

import pynetbox
import requests
from urllib3.exceptions import NewConnectionError

from ipam.netbox.errors import (
    ConnectionLostError,
    KeyTakenError,
    NetBoxAuthorizationError,
    NetBoxError,
    NetBoxExhaustedError,
    NetBoxInvalidError,
    NetBoxNotFoundError,
    NetBoxNotReadyError,
    NetBoxServerError,
    NetBoxTenantMissingError,
    NetBoxTimeoutError,
    NetBoxUnavailableError,
    NetBoxUnreachableError,
    NotNetBoxError,
)
from ipam.netbox.records import KEY

__all__ = ["translated"]

_TOKEN_REFUSED = (
    r"Invalid (v\d )?token|Token (expired|disabled)|User inactive|Source IP .*|Invalid authorization header.*"
)

_SETUP = "run `lastmile netbox setup`"
_REQUIRED = (
    "NetBox requires custom field {} of every prefix: do not require it there, or not for prefixes. "
    "A default does not help"
)
_LACKING: tuple[tuple[str, type[NetBoxNotReadyError], str], ...] = (
    (
        r"Custom field '(\w+)' does not exist",
        NetBoxNotReadyError,
        f"NetBox has no custom field {{}} of prefixes: {_SETUP}",
    ),
    (r"tags: Related object not found .*'slug': '([^']+)'", NetBoxNotReadyError, f"NetBox has no tag {{}}: {_SETUP}"),
    (
        r"tenant: Related object not found .*'slug': '([^']+)'",
        NetBoxTenantMissingError,
        f"NetBox has no tenant {{}}: {_SETUP}",
    ),
    (r"Missing required custom field '((?!lastmile_)\w+)'", NetBoxNotReadyError, _REQUIRED),
    (r"custom field '((?!lastmile_)\w+)': Required field cannot be empty", NetBoxNotReadyError, _REQUIRED),
    (
        r"Invalid value for custom field '(lastmile_\w+)'",
        NetBoxNotReadyError,
        "custom field {} of NetBox is not as Lastmile needs it: `lastmile netbox check` says why",
    ),
)
"""Messages of NetBox that name what it lacks, in English, which every request asks for."""

_MOST_WORDS = 300
_PROXY = {429, 502, 503, 504}


def translated(failure: Exception, what: str, url: str) -> NetBoxError:
    """Return the error of Lastmile for the failure of `what` (method and path) at `url`."""
    match failure:
        case pynetbox.RequestError() | pynetbox.AllocationError():
            return _answered(failure.req, what, url)
        case pynetbox.ContentError() if failure.req.status_code == 201:
            return ConnectionLostError(f"NetBox did {what}, and its answer cannot be read")
        case pynetbox.ContentError():
            return _not_netbox(failure.req, url)
        case requests.TooManyRedirects():
            target = failure.response.headers.get("Location", "elsewhere") if failure.response is not None else ""
            return NotNetBoxError(f"{url} redirects to {target}: set NETBOX_URL to where NetBox itself answers")
        case requests.ConnectTimeout():
            return NetBoxUnreachableError(f"no NetBox answers at {url}: connecting took too long. Is NETBOX_URL right?")
        case requests.Timeout():
            return NetBoxTimeoutError(
                f"NetBox did not answer {what} within LASTMILE_NETBOX_TIMEOUT_SECONDS, and may be at it still"
            )
        case requests.exceptions.SSLError():
            return NetBoxUnreachableError(
                f"no safe connection to {url} ({_tls_words(failure)}): is its certificate valid, and the CA that "
                "signed it in LASTMILE_NETBOX_CA_FILE?"
            )
        case requests.ConnectionError() if _never_connected(failure):
            return NetBoxUnreachableError(f"no NetBox answers at {url}: is it running, and is NETBOX_URL right?")
        case requests.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            return ConnectionLostError(f"the connection to NetBox ended before it had answered {what}")
        case requests.RequestException():  # its message may quote headers
            return NetBoxUnreachableError(
                f"{what} cannot be sent to {url} ({type(failure).__name__}): is NETBOX_URL right?"
            )
        case OSError():
            return NetBoxUnreachableError(
                f"{what} cannot be sent to {url}: {failure.strerror or 'LASTMILE_NETBOX_CA_FILE?'}"
            )
        case _:  # an exception of pynetbox for JSON that is not NetBox's
            return NotNetBoxError(f"what {url} answers to {what} makes no sense as NetBox's ({type(failure).__name__})")


def _answered(reply: requests.Response, what: str, url: str) -> NetBoxError:
    """Return the error for an answer that is no success."""
    status, words = reply.status_code, _words(reply)
    if status in _PROXY:
        unavailable = NetBoxUnavailableError(f"NetBox, or a proxy before it, does not take {what} now ({status})")
        unavailable.retry_after = _retry_after(reply)
        return unavailable
    if status >= 500:
        return NetBoxServerError(f"NetBox failed at {what} ({status}{words and f': {words}'}): its log says why")
    if status in (401, 403):
        return _not_authorised(words or str(status), what)
    if not words:
        return _not_netbox(reply, url)
    if status == 404:
        return NetBoxNotFoundError(f"NetBox has no such thing ({what}): {words}")
    if status == 409 and what.endswith("/available-prefixes"):
        return NetBoxExhaustedError(f"NetBox has no room left ({what}): {words}")
    if status == 400 and f"Custom field '{KEY}' must have a unique value." in words:
        return KeyTakenError(
            "another prefix in NetBox carries this allocation key. Where Lastmile does not find that prefix, a "
            "constraint of the token's permissions hides it: let the permission reach every prefix of the pools"
        )
    return _lacking(words) or NetBoxInvalidError(f"NetBox refuses {what}: {words}{_advice(what, words)}")


def _not_authorised(words: str, what: str) -> NetBoxAuthorizationError:
    if re.fullmatch(_TOKEN_REFUSED, words):
        return NetBoxAuthorizationError(
            f"NetBox does not accept the token ({words})",
            "enable or renew it in NetBox, or set another NETBOX_TOKEN",
        )
    return NetBoxAuthorizationError(
        f"NetBox does not let the token do {what} ({words})",
        "is NETBOX_TOKEN right, does it allow writes, and has its user the permissions in docs/operations/netbox.md, "
        "with constraints that reach the pools?",
    )


def _lacking(words: str) -> NetBoxNotReadyError | None:
    """Return the error for an answer 400 that is caused by the set-up of NetBox; None for another cause."""
    for pattern, kind, remedy in _LACKING:
        if found := re.search(pattern, words):
            return kind(remedy.format(found[1]))
    return None


def _advice(what: str, words: str) -> str:
    """Return advice where a validator or a protection rule of this NetBox can be the cause."""
    if words.startswith("prefix: Duplicate prefix"):
        return ""
    # NetBox validates a new prefix before it stores the tags: the custom field is all that shows whose prefix it is.
    rule = "protection rule (PROTECTION_RULES)" if what.startswith("DELETE") else "validator (CUSTOM_VALIDATORS)"
    return f". If this is a {rule} of NetBox, let it pass prefixes that have a value in custom field {KEY}"


def _not_netbox(reply: requests.Response, url: str) -> NotNetBoxError:
    kind = reply.headers.get("Content-Type", "nothing").partition(";")[0]
    return NotNetBoxError(
        f"what answers at {url} is not NetBox's API ({reply.status_code}, {kind}): is NETBOX_URL right?"
    )


def _words(reply: requests.Response) -> str:
    """Return NetBox's message on one line; empty where the answer is no JSON."""
    try:
        body = reply.json()
    except ValueError:
        return ""
    if reply.status_code >= 500 and isinstance(body, dict):
        body = [body.get("exception"), body.get("error")]  # the rest is about its version
    words = re.sub(r"\s+", " ", "; ".join(_sentences(body)))
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}…"


def _sentences(body: Any) -> Iterator[str]:
    """Yield `prefix: Duplicate …` for `{"prefix": ["Duplicate …"]}`, at any depth, also in lists."""
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
    """Return the seconds of `Retry-After`; 0 for its other form, a date."""
    value = reply.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0


def _never_connected(failure: requests.ConnectionError) -> bool:
    reason = getattr(failure.args[0] if failure.args else None, "reason", None)
    return isinstance(reason, NewConnectionError)


def _tls_words(failure: requests.exceptions.SSLError) -> str:
    """Return OpenSSL's reason, as in `certificate verify failed: self-signed certificate`."""
    found = re.search(r"\] ([^()\"']+) \(_ssl", str(failure))
    return found[1] if found else "TLS failed"
