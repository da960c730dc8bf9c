"""An API that is away, refuses the token or is something else: each is a clear sentence without the token."""

import asyncio
from pathlib import Path

import httpx
import pytest

from lastmile.api.problem_handlers import SLUGS, to_problem
from lastmile.api.problems import PROBLEM_TYPES, ProblemError, Violation, problem_response
from lastmile.client.api.failures import AccessRefusedError, ApiUnavailableError, to_error
from lastmile.client.api.orders import LastmileApi
from lastmile.client.errors import (
    AlreadyRunningError,
    ClientError,
    NotRunningError,
    NotScheduledError,
    OrderIdReusedError,
    PastPivotError,
)
from lastmile.db import Database
from lastmile.errors import InvalidInputError, LastmileError
from lastmile.subscribers.errors import LineStateError, UnknownSubscriberError
from tests.support.api_keys import make_api_key
from tests.support.orders import Orders
from tests.support.other_servers import answering, answering_in_turn, certificate, tls

SECRET = f"lm_{'a1' * 6}_{'b2' * 32}"
SAME = {
    AlreadyRunningError,
    OrderIdReusedError,
    PastPivotError,
    NotRunningError,
    NotScheduledError,
    UnknownSubscriberError,
    LineStateError,
    InvalidInputError,
}
"""The errors that a client gets. Of others it learns whether the same request can succeed later."""


def answered(problem: ProblemError) -> LastmileError:
    """Return the error that a client makes of the API's answer."""
    answer = problem_response(problem, "r-1")
    return to_error(httpx.Response(answer.status_code, headers=answer.headers, content=answer.body), "http://api")


@pytest.mark.parametrize("kind", SLUGS)
def test_error_of_a_request_is_the_same_error_for_the_caller(kind: type[Exception]) -> None:
    problem = to_problem(kind("the reason"))
    assert problem is not None
    error = answered(problem)
    other = ApiUnavailableError if problem.type.status == 503 else ClientError
    assert type(error) is next((same for same in SAME if SLUGS[same] == problem.type.slug), other)
    assert "the reason" in str(error)


@pytest.mark.parametrize("slug", PROBLEM_TYPES)
def test_every_problem_has_an_error_with_its_detail(slug: str) -> None:
    error = answered(ProblemError(slug, "the reason", errors=[Violation(detail="too long", pointer="/plan/name")]))
    assert isinstance(error, LastmileError)
    assert "the reason" in str(error) or (slug == "fault" and "r-1" in str(error))
    assert ("/plan/name: too long" in str(error)) == (slug == "invalid")


def test_busy_subscriber_names_the_order_in_the_way() -> None:
    error = answered(ProblemError("subscriber-busy", "busy", running={"order_id": "O-1", "operation": "provision"}))
    assert isinstance(error, AlreadyRunningError)
    assert (error.order_id, error.operation) == ("O-1", "provision")


async def failure(url: str, token: str = SECRET) -> LastmileError:
    """Return the error of a first request."""
    async with LastmileApi(url, token) as lastmile:
        with pytest.raises(LastmileError) as raised:
            await lastmile.caller()
    assert token not in f"{raised.value} {raised.value!r} {raised.value.__cause__!r}"
    return raised.value


@pytest.mark.parametrize(
    ("head", "body", "words"),
    [
        ("502 Bad Gateway", "<html>nginx</html>", "answers with status 502, and not as Lastmile's API does"),
        ("200 OK", "<html>hello</html>", "answers, and not as Lastmile's API does"),
        (
            "308 Permanent Redirect\r\nLocation: https://elsewhere.example/",
            "",
            "redirects to https://elsewhere.example/",
        ),
        ("503 Busy", '{"type": "/problems/unavailable", "detail": "The database is away."}', "The database is away"),
        ("500 Oh", '{"type": "/problems/fault", "instance": "r-7"}', "Report it with the request id r-7"),
        ("404 No", '["not", "a problem"]', "answers with status 404, and not as"),
    ],
)
async def test_unexpected_answer_is_explained(head: str, body: str, words: str) -> None:
    async with answering(head, body) as url:
        assert words in str(await failure(url))


async def test_api_that_is_away_is_named_with_the_setting() -> None:
    error = await failure("http://127.0.0.1:1")
    assert str(error) == ("The API at http://127.0.0.1:1 does not answer. Check LASTMILE_API_URL and the network.")


async def test_tls_failures_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = certificate(tmp_path)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 another protocol\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as plain:
        error = await failure(f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}")
        assert "does not answer by TLS" in str(error)
    caller = '{"subject": "x", "tenant": null, "permissions": [], "expires": null}'
    async with answering("200 OK", caller) as url, tls(url, made) as secure:
        words = str(await failure(secure))
        assert "cannot be verified (self-signed certificate)" in words
        assert "SSL_CERT_FILE names the CA" in words
        monkeypatch.setenv("SSL_CERT_FILE", str(made[0]))
        async with LastmileApi(secure, SECRET) as lastmile:
            assert (await lastmile.caller()).subject == "x"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(InvalidInputError, match="SSL_CERT_FILE"):
        LastmileApi(secure, SECRET)


async def test_token_that_is_wrong_or_permits_too_little_is_refused(
    url: str, database: Database, orders: Orders
) -> None:
    error = await failure(url)
    assert isinstance(error, AccessRefusedError)
    assert "does not accept LASTMILE_API_TOKEN" in str(error)
    reader = await make_api_key(database, {"orders:read"})
    async with LastmileApi(url, reader.text) as lastmile:
        caller = await lastmile.caller()
        assert (caller.tenant, caller.permissions) == ("acme", ["orders:read"])
        with pytest.raises(AccessRefusedError, match="needs the permission orders:write"):
            await lastmile.start(orders.provision())
        with pytest.raises(AccessRefusedError, match="for tenant acme"):
            await lastmile.progress("other", orders.ref)


async def test_request_beyond_the_rate_is_sent_again_when_the_api_says() -> None:
    answers = (
        ("429 Slower\r\nRetry-After: 0", '{"type": "/problems/too-many-requests"}'),
        ("503 Away\r\nRetry-After: 0", '{"type": "/problems/unavailable"}'),
        ("200 OK", '{"results": []}'),
    )
    async with answering_in_turn(*answers) as (url, requests), LastmileApi(url, SECRET) as lastmile:
        assert await lastmile.parked_runs() == []
        assert len(requests) == 3


def test_client_of_a_wrong_setting_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTMILE_API_URL", "http://:")
    with pytest.raises(InvalidInputError, match=r"cannot be used:\n  LASTMILE_API_URL"):
        LastmileApi.connect()
