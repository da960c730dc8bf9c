"""The codec server: the Temporal UI and the `temporal` command send it what they cannot read.

The protocol is Temporal's remote codec: POST of `Payloads` as proto3 JSON to `/decode` and `/encode`, the namespace in
`X-Namespace`. Who asks says so by HTTP Basic (RFC 7617): a browser does, once its user has logged in here (`GET /`) and
the UI sends its requests with credentials; `temporal` does with `--codec-auth`.
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
"""Bytes of one request; a run's whole history page is less."""
SHORTEST_PASSWORD = 16

log = structlog.get_logger("lastmile.codec")

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def parse_users(written: str) -> dict[str, str]:
    """Passwords by name, from `name:password,name:password`. Raises `ValueError`, which shows no password."""
    users: dict[str, str] = {}
    for position, entry in enumerate(filter(None, written.split(",")), 1):
        name, _, password = entry.strip().partition(":")
        if not name or len(password) < SHORTEST_PASSWORD:
            raise ValueError(
                f"entry {position} is not `name:password` with a password of {SHORTEST_PASSWORD} characters or more"
            )
        if name in users:
            raise ValueError(f"two users are named {name}")
        users[name] = password
    if not users:
        raise ValueError("there is no user in it")
    return users


class _RejectedRequestError(LastmileError):
    """An answer that is not what was asked for."""

    def __init__(self, status: str, words: str, *headers: tuple[str, str]) -> None:
        super().__init__(words)
        self.status = status
        self.headers = list(headers)


class CodecServer:
    """A WSGI application."""

    def __init__(self, keys: KeyRing, users: Mapping[str, str], origin: str | None) -> None:
        """`origin` is the Temporal UI's: browsers show our answers to its pages, and to those of no other."""
        codec = EncryptionCodec(keys)
        self._does = {"/decode": codec.decrypted, "/encode": codec.encrypted}
        self._users = {name: password.encode() for name, password in users.items()}
        self._origin = origin

    def __call__(self, request: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        headers = [("Cache-Control", "no-store"), ("Vary", "Origin")]
        try:
            headers += self._cors(request)
            status, kind, body = self._answer(request)
        except _RejectedRequestError as refusal:
            status, kind, body = refusal.status, "text/plain; charset=utf-8", f"{refusal}\n".encode()
            headers += refusal.headers
        start_response(status, [*headers, ("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _cors(self, request: Mapping[str, Any]) -> list[tuple[str, str]]:
        origin = request.get("HTTP_ORIGIN")
        if origin is None:  # no page in a browser
            return []
        if origin != self._origin:
            raise _RejectedRequestError(
                "403 Forbidden", f"pages of {origin} are not served: LASTMILE_CODEC_ORIGIN is another"
            )
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", "POST"),
            ("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace"),
        ]

    def _answer(self, request: Mapping[str, Any]) -> tuple[str, str, bytes]:
        method, path = request["REQUEST_METHOD"], request["PATH_INFO"]
        if method == "OPTIONS" and path in self._does:  # a browser asks before it sends, without credentials
            return "204 No Content", "text/plain", b""
        user = self._user(request.get("HTTP_AUTHORIZATION", ""))
        if method == "GET" and path == "/":
            return "200 OK", "text/plain; charset=utf-8", f"{user} may decode payloads from here.\n".encode()
        if path not in self._does:
            raise _RejectedRequestError("404 Not Found", "POST to /decode or /encode")
        if method != "POST":
            raise _RejectedRequestError("405 Method Not Allowed", "POST", ("Allow", "POST, OPTIONS"))
        payloads = _payloads(request)
        try:
            done = Payloads(payloads=map(self._does[path], payloads.payloads))
        except DecryptionError as failure:
            raise _RejectedRequestError("422 Unprocessable Entity", str(failure)) from None
        # Who has looked at customers' data is worth a line.
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
                "log in as one of LASTMILE_CODEC_USERS",
                ("WWW-Authenticate", 'Basic realm="Lastmile payloads", charset="UTF-8"'),
            )
        return name


def _payloads(request: Mapping[str, Any]) -> Payloads:
    length = request.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > LARGEST:
        raise _RejectedRequestError("413 Content Too Large", f"at most {LARGEST} bytes")
    try:
        return Parse(request["wsgi.input"].read(int(length)), Payloads())
    except (ParseError, UnicodeDecodeError) as failure:
        raise _RejectedRequestError("400 Bad Request", f"the body is no Payloads message as JSON: {failure}") from None
