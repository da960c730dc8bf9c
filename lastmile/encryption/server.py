"""The codec server, which decrypts payloads for the Temporal UI and the `temporal` command.

The protocol is Temporal's remote codec: POST of `Payloads` as proto3 JSON to `/decode` and `/encode`, with the
namespace in `X-Namespace`. Users authenticate by HTTP Basic (RFC 7617). In a browser, the user logs in at `GET /`, and
the UI sends its requests with credentials. The `temporal` command has the option `--codec-auth`.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from temporalio.api.common.v1 import Payloads

from lastmile.encryption.codec import EncryptionCodec
from lastmile.encryption.keys import DecryptionError, KeyRing
from lastmile.errors import LastmileError

__all__ = ["CodecServer", "parse_users"]

LARGEST = 16 * 1024 * 1024
"""The maximum size of a request in bytes, more than a page of a run's history."""
SHORTEST_PASSWORD = 16

log = structlog.get_logger("lastmile.codec")

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def parse_users(written: str) -> dict[str, str]:
    """Parse `name:password,name:password` into passwords by user name.

    Raises:
        ValueError: the text is malformed. The message contains no password.
    """
    users: dict[str, str] = {}
    for position, entry in enumerate(filter(None, written.split(",")), 1):
        name, _, password = entry.strip().partition(":")
        if not name or len(password) < SHORTEST_PASSWORD:
            raise ValueError(
                f"entry {position} is not `name:password` with a password of {SHORTEST_PASSWORD} characters or more"
            )
        if name in users:
            raise ValueError(f"two users have the name {name}")
        users[name] = password
    if not users:
        raise ValueError("contains no user")
    return users


class _RejectedRequestError(LastmileError):
    """A request that the server rejects with an HTTP status."""

    def __init__(self, status: str, words: str, *headers: tuple[str, str]) -> None:
        super().__init__(words)
        self.status = status
        self.headers = list(headers)


class CodecServer:
    """The codec server, a WSGI application."""

    def __init__(self, keys: KeyRing, users: Mapping[str, str], origin: str | None) -> None:
        """Create the application. Browsers pass its responses only to pages of `origin`, the Temporal UI."""
        codec = EncryptionCodec(keys)
        self._operations = {"/decode": codec.decrypt, "/encode": codec.encrypt}
        self._users = {name: password.encode() for name, password in users.items()}
        self._origin = origin

    def __call__(self, request: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        headers = [("Cache-Control", "no-store"), ("Vary", "Origin")]
        try:
            headers += self._cors(request)
            status, kind, body = self._answer(request)
        except _RejectedRequestError as error:
            status, kind, body = error.status, "text/plain; charset=utf-8", f"{error}\n".encode()
            headers += error.headers
        start_response(status, [*headers, ("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _cors(self, request: Mapping[str, Any]) -> list[tuple[str, str]]:
        origin = request.get("HTTP_ORIGIN")
        if origin is None:  # the client is not a browser
            return []
        if origin != self._origin:
            raise _RejectedRequestError("403 Forbidden", f"Origin {origin} is not the one of LASTMILE_CODEC_ORIGIN.")
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", "POST"),
            ("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace"),
        ]

    def _answer(self, request: Mapping[str, Any]) -> tuple[str, str, bytes]:
        method, path = request["REQUEST_METHOD"], request["PATH_INFO"]
        if method == "OPTIONS" and path in self._operations:  # a CORS preflight request, without credentials
            return "204 No Content", "text/plain", b""
        user = self._user(request.get("HTTP_AUTHORIZATION", ""))
        if method == "GET" and path == "/":
            return "200 OK", "text/plain; charset=utf-8", f"{user} may decode payloads from here.\n".encode()
        if path not in self._operations:
            raise _RejectedRequestError("404 Not Found", "Send a POST request to /decode or /encode.")
        if method != "POST":
            raise _RejectedRequestError("405 Method Not Allowed", "Send a POST request.", ("Allow", "POST, OPTIONS"))
        payloads = _payloads(request)
        try:
            done = Payloads(payloads=map(self._operations[path], payloads.payloads))
        except DecryptionError as failure:
            raise _RejectedRequestError("422 Unprocessable Entity", str(failure)) from None
        # The log shows which user has decrypted customers' data.
        namespace = request.get("HTTP_X_NAMESPACE", "")
        log.info("codec.answered", what=path[1:], user=user, namespace=namespace, payloads=len(done.payloads))
        return "200 OK", "application/json", MessageToJson(done).encode()

    def _user(self, authorization: str) -> str:
        try:
            scheme, _, sent = authorization.partition(" ")
            name, _, password = base64.b64decode(sent, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            scheme = name = password = ""
        known = self._users.get(name, b"")
        right = hmac.compare_digest(known, password.encode())
        if scheme.lower() != "basic" or not known or not right:
            raise _RejectedRequestError(
                "401 Unauthorized",
                "Log in as a user of LASTMILE_CODEC_USERS.",
                ("WWW-Authenticate", 'Basic realm="Lastmile payloads", charset="UTF-8"'),
            )
        return name


def _payloads(request: Mapping[str, Any]) -> Payloads:
    length = request.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > LARGEST:
        raise _RejectedRequestError("413 Content Too Large", f"A request has at most {LARGEST} bytes.")
    try:
        return Parse(request["wsgi.input"].read(int(length)), Payloads())
    except (ParseError, UnicodeDecodeError) as failure:
        raise _RejectedRequestError(
            "400 Bad Request", f"The body is not a Payloads message in JSON: {failure}"
        ) from None
