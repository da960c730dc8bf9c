"""Tokens of an identity provider, against a real issuer: which are accepted, and how often its keys are fetched."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import pytest
from joserfc.jwk import Key, OctKey

from lastmile.api.auth.key_sets import IssuerKeys, StaticKeys
from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.tokens import LEEWAY_SECONDS, InvalidTokenError, TokenVerifier
from lastmile.errors import InvalidInputError, UnavailableError
from lastmile.services.api_keys import PrincipalKind
from tests.support.token_issuer import AUDIENCE, TokenIssuer, make_key


@cache
def keys() -> list[Key]:
    """Return the issuer's keys, made once: an RSA key takes a moment."""
    return [make_key(algorithm, algorithm) for algorithm in ("RS256", "ES256", "Ed25519")]


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer.running(keys()) as issuer:
        yield issuer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(issuer: TokenIssuer, clock: Clock) -> AsyncIterator[TokenVerifier]:
    source = IssuerKeys(issuer.url, clock=clock)
    yield TokenVerifier(source, audience=AUDIENCE, issuer=issuer.url)
    await source.close()


async def refusal(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(InvalidTokenError) as refused:
        await verifier.verify(token)
    return str(refused.value)


@pytest.mark.parametrize(("key", "algorithm"), [(0, "RS256"), (1, "ES256"), (2, "Ed25519"), (2, "EdDSA")])
async def test_token_of_each_allowed_algorithm_gives_its_principal(
    issuer: TokenIssuer, verifier: TokenVerifier, key: int, algorithm: str
) -> None:
    principal = await verifier.verify(issuer.token(keys()[key], algorithm=algorithm, aud=["another", AUDIENCE]))
    assert (principal.subject, principal.tenant, principal.kind) == ("ada", "acme", PrincipalKind.PERSON)
    assert principal.permissions == {Permission.ORDERS_READ}
    assert principal.expires is not None


async def test_token_of_the_platform_says_so(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    assert (await verifier.verify(issuer.token(tenant="*"))).tenant is None
    assert (await verifier.verify(issuer.token(scope=None))).permissions == frozenset()


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "https://other.example.net"}, "has a wrong value of the claim aud"),
        ({"aud": None}, "lacks the claim aud"),
        ({"iss": "https://evil.example.net"}, "has a wrong value of the claim iss"),
        ({"iss": None}, "lacks the claim iss"),
        ({"exp": None}, "lacks the claim exp"),
        ({"exp": "tomorrow"}, "a wrong value of the claim exp"),
        ({"nbf": 4_102_444_800}, "a wrong value of the claim nbf"),
        ({"tenant": None}, "lacks the claim tenant"),
        ({"tenant": ""}, "a wrong value of the claim tenant"),
        ({"tenant": "Acme!"}, "must be the id of a tenant"),
        ({"tenant": ["acme"]}, "must be the id of a tenant"),
        ({"sub": None}, "lacks the claim sub"),
        ({"sub": 7}, "a wrong value of the claim sub"),
        ({"sub": "a\0b"}, "printable characters"),
        ({"sub": "x" * 101}, "1 to 100 printable characters"),
        ({"sub": "api-key/0123456789ab"}, "must not begin with api-key/"),
        ({"scope": ["orders:read"]}, "claim scope of the token must be text"),
    ],
    ids=str,
)
async def test_token_with_a_wrong_claim_is_refused_with_the_claim(
    issuer: TokenIssuer, verifier: TokenVerifier, claims: dict[str, object], words: str
) -> None:
    assert words in await refusal(verifier, issuer.token(**claims))


async def test_token_is_accepted_until_the_leeway_after_its_expiry(issuer: TokenIssuer) -> None:
    expires = int(time.time()) + 300
    now = Clock()
    verifier = TokenVerifier(IssuerKeys(issuer.url), audience=AUDIENCE, issuer=issuer.url, now=now)
    token = issuer.token(exp=expires)
    now.seconds = expires + LEEWAY_SECONDS - 1
    assert (await verifier.verify(token)).subject == "ada"
    now.seconds = expires + LEEWAY_SECONDS
    assert "has expired" in await refusal(verifier, token)
    assert (await verifier.verify(issuer.token(exp=10**400))).subject == "ada"


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_token_that_is_not_signed_by_the_issuer_is_refused(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    header, payload, signature = issuer.token().split(".")
    assert "does not match" in await refusal(verifier, f"{header}.{part({'sub': 'eve'})}.{signature}")
    assert "does not match" in await refusal(verifier, issuer.token(make_key("RS256", "RS256")))
    unsigned = part({"alg": "none", "kid": "RS256"})
    assert "not allowed. Allowed: RS256, ES256" in await refusal(verifier, f"{unsigned}.{payload}.{signature}")
    # The public key as the secret of a symmetric algorithm.
    symmetric = part({"alg": "HS256", "kid": "RS256"})
    mac = hmac.digest(keys()[0].as_pem(private=False), f"{symmetric}.{payload}".encode(), "sha256")
    forged = base64.urlsafe_b64encode(mac).decode().rstrip("=")
    assert "not allowed" in await refusal(verifier, f"{symmetric}.{payload}.{forged}")
    assert "not a signed" in await refusal(verifier, issuer.token(keys()[1], kid="RS256"))
    critical = part({"alg": "RS256", "kid": "RS256", "crit": ["unheard-of"], "unheard-of": 1})
    assert "not a signed" in await refusal(verifier, f"{critical}.{payload}.{signature}")


@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "a.b", "a.b.c", "é.é.é", "a." * 9_000, f"{'W1tb' * 100}.e30.x"),
        *(f"{part(header)}.{part({})}.x" for header in ([], {"alg": []}, {"alg": "RS256", "kid": 7})),
    ],
)
async def test_text_that_is_no_token_is_refused(verifier: TokenVerifier, token: str) -> None:
    assert "JSON Web Token" in await refusal(verifier, token)


async def test_keys_are_fetched_once_for_concurrent_tokens(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    issuer.answering.clear()
    tokens = [asyncio.create_task(verifier.verify(issuer.token(sub=f"user-{n}"))) for n in range(20)]
    await asyncio.to_thread(issuer.waiting.wait)
    tokens.pop().cancel()
    issuer.answering.set()
    assert len(await asyncio.gather(*tokens)) == 19
    assert issuer.count() == 1


async def test_unknown_key_is_fetched_at_most_every_30_seconds(
    issuer: TokenIssuer, verifier: TokenVerifier, clock: Clock
) -> None:
    await verifier.verify(issuer.token())
    new = make_key("ES256", "new")
    issuer.published.append(new)
    assert "does not publish" in await refusal(verifier, issuer.token(new))
    assert issuer.count() == 1
    clock.seconds += 30
    assert (await verifier.verify(issuer.token(new))).subject == "ada"
    assert issuer.count() == 2
    for n in range(20):
        await refusal(verifier, issuer.token(make_key("ES256", f"invented-{n}")))
    assert issuer.count() == 2


async def test_withdrawn_key_is_refused_after_ten_minutes(issuer: TokenIssuer, clock: Clock) -> None:
    source = IssuerKeys(issuer.url, clock=clock)
    verifier = TokenVerifier(source, audience=AUDIENCE, issuer=issuer.url)
    token = issuer.token()
    await verifier.verify(token)
    del issuer.published[0]
    clock.seconds += 599
    await verifier.verify(token)
    clock.seconds += 1
    await source.keys()  # begins the request, and does not wait for it
    await source.fetched()
    assert "does not publish" in await refusal(verifier, token)


async def test_issuer_that_fails_is_asked_again_and_its_last_keys_stay_valid(issuer: TokenIssuer, clock: Clock) -> None:
    source = IssuerKeys(issuer.url, clock=clock)
    verifier = TokenVerifier(source, audience=AUDIENCE, issuer=issuer.url)
    issuer.broken = True
    for _ in range(5):
        with pytest.raises(UnavailableError, match=r"issuer http\S+/realm answers .*status 500.*Try again in a moment"):
            await verifier.verify(issuer.token())
    assert len(issuer.asked) == 1
    issuer.broken = False
    clock.seconds += 5
    await verifier.verify(issuer.token())
    issuer.broken = True
    clock.seconds += 600
    await verifier.verify(issuer.token())
    await source.fetched()
    await verifier.verify(issuer.token())


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"issuer": "https://evil.example.net"}, "that of another issuer"),
        ({"jwks_uri": None}, "no jwks_uri"),
        ({"jwks_uri": "http://127.0.0.1:1/keys"}, "does not answer"),
    ],
)
async def test_wrong_discovery_document_is_reported(
    issuer: TokenIssuer, verifier: TokenVerifier, document: dict[str, object], problem: str
) -> None:
    issuer.document = document
    with pytest.raises(UnavailableError, match=problem):
        await verifier.verify(issuer.token())


async def test_keys_of_a_file_verify_tokens_without_an_issuer(issuer: TokenIssuer, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = OctKey.generate_key(256, {"kid": "secret"})
    published = [secret.as_dict(private=True), {"kty": "new"}, keys()[1].as_dict(private=False)]
    file.write_text(json.dumps({"keys": published}))
    verifier = TokenVerifier(StaticKeys(file), audience=AUDIENCE)
    assert (await verifier.verify(issuer.token(keys()[1], iss=None, kid=None))).subject == "ada"
    assert "not allowed" in await refusal(verifier, issuer.token(secret))
    assert issuer.asked == []
    for wrong in ("", "[]", "{}", '{"keys": []}', json.dumps({"keys": published[:2]})):
        file.write_text(wrong)
        with pytest.raises(InvalidInputError, match=r"LASTMILE_API_JWKS_FILE: \S+keys.json is not a JSON Web Key Set"):
            StaticKeys(file)
