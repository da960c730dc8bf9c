"""From a bearer token to its principal: API keys and tokens, remembered for 60 seconds at most."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from lastmile.api.auth.authenticator import REMEMBERED_SECONDS, Authenticator
from lastmile.api.auth.key_sets import IssuerKeys
from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.tokens import LEEWAY_SECONDS, InvalidTokenError, TokenVerifier
from lastmile.db import Database
from lastmile.services.api_keys import NewApiKey, PrincipalKind, create_api_key, revoke_api_key
from tests.support.token_issuer import AUDIENCE, TokenIssuer, make_key


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = time.time()

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer.running([make_key("ES256", "k")]) as issuer:
        yield issuer


async def test_api_key_is_remembered_until_a_minute_after_its_last_check(database: Database, clock: Clock) -> None:
    new = NewApiKey(name="crm", tenant="acme", permissions=frozenset({"orders:write", "of:a-later-version"}))
    key = await create_api_key(database, new, actor="")
    authenticator = Authenticator(database, None, clock=clock)
    principal = await authenticator.authenticate(key.text)
    assert (principal.subject, principal.tenant) == (f"api-key/{key.api_key.id}", "acme")
    assert (principal.permissions, principal.kind) == ({Permission.ORDERS_WRITE}, PrincipalKind.PERSON)

    await revoke_api_key(database, key.api_key.id, actor="")
    statements: list[Any] = []
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *of: statements.append(of))
    clock.seconds += REMEMBERED_SECONDS - 1
    assert await authenticator.authenticate(key.text) == principal
    assert statements == []
    clock.seconds += 1
    with pytest.raises(InvalidTokenError, match="unknown, expired or revoked"):
        await authenticator.authenticate(key.text)


async def test_token_is_not_remembered_beyond_its_expiry(database: Database, clock: Clock, issuer: TokenIssuer) -> None:
    verifier = TokenVerifier(IssuerKeys(issuer.url), audience=AUDIENCE, issuer=issuer.url, now=clock)
    authenticator = Authenticator(database, verifier, clock=clock, now=clock)
    token = issuer.token(exp=int(clock()) + 10)
    await authenticator.authenticate(token)
    clock.seconds += 9 + LEEWAY_SECONDS
    assert (await authenticator.authenticate(token)).subject == "ada"
    clock.seconds += 2
    with pytest.raises(InvalidTokenError, match="has expired"):
        await authenticator.authenticate(token)


async def test_token_without_a_configured_issuer_is_refused(database: Database, issuer: TokenIssuer) -> None:
    with pytest.raises(InvalidTokenError, match="accepts only API keys, which begin with lm_"):
        await Authenticator(database, None).authenticate(issuer.token())
