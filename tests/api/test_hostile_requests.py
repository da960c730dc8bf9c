"""Hostile requests over a socket: each gets a problem that says what to do, and none is a fault."""

import asyncio
import json
from typing import Any

from lastmile.api.http_protocol import LARGEST_HEAD
from lastmile.api.problems import PROBLEM_TYPES
from lastmile.api.requests import LARGEST_BODY
from lastmile.db import Database
from tests.support.api_keys import authorization, make_api_key
from tests.support.http_requests import ask

JSON = "Content-Type: application/json"


def http(line: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request as bytes, with the headers that it needs and the key of the test's caller."""
    lines = [f"{line} HTTP/1.1", "Host: api", "Authorization: Bearer KEY", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body


def order(body: bytes, *headers: str) -> bytes:
    return http("POST /v1/orders", *(headers or (JSON,)), body=body)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return http("POST /v1/orders", JSON, "Transfer-Encoding: chunked") + body + end


def suspend(**fields: Any) -> bytes:
    return order(json.dumps({"operation": "suspend", "order_id": "O-1", "subscriber_ref": "S-1", **fields}).encode())


REQUESTS: dict[str, tuple[bytes, str]] = {
    "NUL in the path": (http("GET /v1/orders/a%00b"), "invalid"),
    "NUL in the path, as it is": (http("GET /v1/orders/a\0b"), "malformed"),
    "NUL in a filter": (http("GET /v1/orders?subscriber=%00"), "invalid"),
    "NUL in a free filter": (http("GET /v1/orders?requested_by=a%00b"), "invalid"),
    "NUL in the name of a filter": (http("GET /v1/orders?%00=1"), "invalid"),
    "NUL in a search": (http("GET /v1/subscribers?q=%00"), "invalid"),
    "NUL in a body": (suspend(reason="a\0b"), "invalid"),
    "NUL in the name of a field": (suspend(**{"\0": 1}), "invalid"),
    "NUL in a header": (http("GET /v1/orders", "X-Request-ID: a\0b"), "malformed"),
    "10^400 as a number": (order(b'{"operation": "suspend", "order_id": 1e400}'), "invalid"),
    "10^400 in digits": (order(b'{"operation": "suspend", "order_id": 1' + b"0" * 400 + b"}"), "invalid"),
    "5000 digits": (order(b'{"operation": ' + b"1" * 5000 + b"}"), "malformed"),
    "a page of 10^400": (http("GET /v1/orders?limit=1" + "0" * 400), "invalid"),
    "a page of no number": (http("GET /v1/orders?limit=NaN"), "invalid"),
    "a negative page": (http("GET /v1/orders?limit=-1"), "invalid"),
    "an id over 64 bits": (http(f"GET /v1/delegations/{2**64}"), "invalid"),
    "a negative id": (http("GET /v1/delegations/-1"), "invalid"),
    "a moment outside of all calendars": (http("GET /v1/orders?created_at__gte=9999-12-31T23:59:59Z"), "invalid"),
    "a moment as a number": (http("GET /v1/orders?created_at__gte=0"), "invalid"),
    "5 MB": (order(b" " * (5 << 20)), "too-large"),
    "a body over the limit in chunks": (chunked(b" " * LARGEST_BODY, b" "), "too-large"),
    "chunks without an end": (chunked(*[b" " * 65_536] * (LARGEST_BODY // 65_536 + 1), end=b""), "too-large"),
    "a chunk without a length": (chunked(end=b"x\r\n"), "malformed"),
    "a length and chunks": (http("POST /v1/orders", "Content-Length: 5", "Transfer-Encoding: chunked"), "malformed"),
    "two lengths": (http("POST /v1/orders", "Content-Length: 5", "Content-Length: 6"), "malformed"),
    "a negative length": (http("POST /v1/orders", "Content-Length: -1"), "malformed"),
    "a length that is no number": (http("POST /v1/orders", "Content-Length: many"), "malformed"),
    "100 000 open lists": (order(b"[" * 100_000), "malformed"),
    "100 000 lists": (order(b"[" * 100_000 + b"]" * 100_000), "malformed"),
    "900 objects in an order": (suspend(line=json.loads('{"line": ' * 900 + "1" + "}" * 900)), "invalid"),
    "a lone surrogate in a body": (order(rb'{"operation": "suspend", "order_id": "\ud800"}'), "invalid"),
    "a lone surrogate as a field": (order(rb'{"operation": "suspend", "\ud800": 1}'), "invalid"),
    "a lone surrogate as the operation": (order(rb'{"operation": "\udfff"}'), "invalid"),
    "a surrogate in UTF-8": (order(b'{"operation": "\xed\xa0\x80"}'), "malformed"),
    "a surrogate in the path": (http("GET /v1/orders/%ED%A0%80"), "invalid"),
    "bytes that are no UTF-8 in a filter": (http("GET /v1/orders?subscriber=%FF%FE"), "invalid"),
    "UTF-16": (order('{"operation": "suspend"}'.encode("utf-16")), "malformed"),
    "another charset": (order(b"{}", "Content-Type: application/json; charset=latin-1"), "unsupported-media-type"),
    "another media type": (order(b"<order/>", "Content-Type: application/xml"), "unsupported-media-type"),
    "a form": (
        order(b"operation=suspend", "Content-Type: application/x-www-form-urlencoded"),
        "unsupported-media-type",
    ),
    "no media type": (order(b"{}", "X-Type: none"), "unsupported-media-type"),
    "no body": (http("POST /v1/orders", JSON), "invalid"),
    "a name twice": (order(b'{"operation": "suspend", "operation": "resume"}'), "malformed"),
    "a list instead of an order": (order(b"[]"), "invalid"),
    "null instead of an order": (order(b"null"), "invalid"),
    "an object as the operation": (order(b'{"operation": {}}'), "invalid"),
    "an unknown operation": (order(b'{"operation": "DROP TABLE orders"}'), "invalid"),
    "an unknown filter": (http("GET /v1/orders?staus=running"), "invalid"),
    "a filter of another list": (http("GET /v1/subscribers?operation=suspend"), "invalid"),
    "an empty filter": (http("GET /v1/orders?status="), "invalid"),
    "a cursor of a client's own": (http("GET /v1/orders?cursor=WyJhIl0"), "invalid"),
    "a cursor that is no base64": (http("GET /v1/orders?cursor=%F0%9F%92%A9"), "invalid"),
    "an empty cursor": (http("GET /v1/orders?cursor="), "invalid"),
    "a cursor of 2001 characters": (http("GET /v1/orders?cursor=" + "A" * 2001), "invalid"),
    "two tenants": (http("GET /v1/orders?tenant=other&tenant=acme2"), "wrong-tenant"),
    "a quote as the tenant": (http("GET /v1/orders?tenant=a'b"), "invalid"),
    "Prefer beyond its length": (http("POST /v1/orders", JSON, "Prefer: " + "w" * 201, body=b"{}"), "invalid"),
    "Last-Event-ID of no event": (http("GET /v1/orders/O-9/events", "Last-Event-ID: \xff"), "not-found"),
    "Idempotency-Key with a quote": (
        http("POST /network/subscribers/S-1/ipv6/revoke", "Idempotency-Key: '"),
        "invalid",
    ),
    "an address with a zone": (http("GET /v1/holders?address=fe80::1%25eth0"), "invalid"),
    "an address of 10 000 digits": (http("GET /v1/holders?address=" + "1" * 10_000), "invalid"),
    "a prefix with host bits": (http("GET /v1/delegations?within=2001:db8::1/32"), "invalid"),
    "dots in the path": (http("GET /v1/orders/../../etc/passwd"), "not-found"),
    "encoded dots in the path": (http("GET /docs/%2e%2e%2f%2e%2e%2fapp.py"), "not-found"),
    "a path that is encoded twice": (http("GET /docs/%252e%252e%252fapp.py"), "not-found"),
    "an encoding that is cut": (http("GET /v1/orders/%2"), "invalid"),
    "a path of two slashes": (http("GET //v1/orders"), "not-found"),
    "a path of 8000 characters": (http("GET /" + "a" * 8000), "not-found"),
    "a path in UTF-8": (http("GET /v1/orders/\xc3\xa9"), "malformed"),
    "an address of another server": (http("GET http://elsewhere/v1/nothing"), "not-found"),
    "another Host": (http("GET /nothing").replace(b"Host: api", b"Host: evil.example:99999"), "not-found"),
    "no Host": (http("GET /nothing").replace(b"Host: api\r\n", b""), "not-found"),
    "two Hosts": (http("GET /nothing", "Host: evil.example"), "not-found"),
    "an unknown method": (http("BREW /v1/orders"), "malformed"),
    "a method of another path": (http("DELETE /v1/orders"), "method-not-allowed"),
    "TRACE": (http("TRACE /v1/orders"), "method-not-allowed"),
    "CONNECT": (http("CONNECT api:443"), "malformed"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "malformed"),
    "another version": (b"GET / HTTP/9.9\r\nHost: api\r\n\r\n", "malformed"),
    "a header without a name": (http("GET /v1/orders", ": nothing"), "malformed"),
    "a header with a line break": (http("GET /v1/orders", "X-A: 1\n 2: 3"), "malformed"),
    "headers over the limit": (
        http("GET /v1/orders", *[f"X-{n}: {'a' * 1000}" for n in range(70)]),
        "headers-too-large",
    ),
    "one header over the limit": (http("GET /v1/orders", "X-A: " + "a" * (LARGEST_HEAD + 1)), "headers-too-large"),
    "an upgrade": (http("GET /nothing", "Connection: Upgrade", "Upgrade: websocket"), "not-found"),
    "a token of 9000 characters": (
        http("GET /v1/orders").replace(b"KEY", b"a" * 9000),
        "unauthorized",
    ),
    "a token that is no ASCII": (http("GET /v1/orders").replace(b"KEY", b"\xff\xfe"), "unauthorized"),
    "no token and no JSON": (order(b"{").replace(b"Authorization", b"X-Nothing"), "unauthorized"),
}
"""Each request with the type of its problem."""


async def test_every_hostile_request_is_answered_with_its_problem(served: int, database: Database) -> None:
    key = authorization(await make_api_key(database))["Authorization"].encode()
    wrong: dict[str, Any] = {}
    for name, (request, slug) in REQUESTS.items():
        try:
            status, headers, body = await ask(served, request.replace(b"Bearer KEY", key))
        except asyncio.IncompleteReadError:
            wrong[name] = "no answer"
            continue
        problem = json.loads(body) if headers["content-type"] == "application/problem+json" else {}
        asked = problem.get("type"), status, problem.get("status"), problem.get("instance")
        if asked != (f"/problems/{slug}", PROBLEM_TYPES[slug].status, status, headers.get("x-request-id")):
            wrong[name] = (asked, body[:200])
        elif slug == "invalid" and not all("parameter" in one or "pointer" in one for one in problem["errors"]):
            wrong[name] = problem
        elif slug == "unauthorized" and not headers["www-authenticate"].startswith("Bearer "):
            wrong[name] = headers
    assert wrong == {}
    status, _, _ = await ask(served, http("GET /v1/orders").replace(b"Bearer KEY", key))
    assert status == 200, "the server serves others afterwards"
