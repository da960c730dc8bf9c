"""The settings of tokens: which issuer and which keys an API accepts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from lastmile.api.auth.gate import open_gate
from lastmile.api.auth.tokens import InvalidTokenError
from lastmile.db import Database
from lastmile.settings import Settings
from lastmile.validation_messages import setting_mistakes
from tests.support.token_issuer import AUDIENCE, TokenIssuer, make_key


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer.running([make_key("ES256", "k")]) as issuer:
        yield issuer


async def test_issuer_of_the_settings_signs_accepted_tokens(database: Database, issuer: TokenIssuer) -> None:
    settings = Settings(api_oidc_issuer=issuer.url, api_audience=AUDIENCE)
    async with open_gate(settings, database) as gate:
        assert (await gate.authenticator.authenticate(issuer.token())).subject == "ada"


async def test_key_file_of_the_settings_replaces_the_issuers_keys(
    database: Database, issuer: TokenIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [issuer.published[0].as_dict(private=False)]}))
    settings = Settings(api_oidc_issuer=issuer.url, api_jwks_file=file, api_audience=AUDIENCE)
    async with open_gate(settings, database) as gate:
        assert (await gate.authenticator.authenticate(issuer.token())).subject == "ada"
        with pytest.raises(InvalidTokenError, match="claim iss"):
            await gate.authenticator.authenticate(issuer.token(iss="https://another.example.net"))
    assert issuer.asked == []


async def test_settings_without_an_issuer_accept_api_keys_alone(database: Database, issuer: TokenIssuer) -> None:
    async with open_gate(Settings(), database) as gate:
        with pytest.raises(InvalidTokenError, match="only API keys"):
            await gate.authenticator.authenticate(issuer.token())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"api_oidc_issuer": "https://id.example.net"}, "LASTMILE_API_AUDIENCE: must be set where"),
        ({"api_oidc_issuer": "http://id.example.net", "api_audience": "a"}, "LASTMILE_API_OIDC_ISSUER: must be a URL"),
        ({"api_oidc_issuer": "http://localhost.example.net", "api_audience": "a"}, "must be a URL that begins with"),
        ({"api_jwks_file": "/none", "api_audience": "a"}, "LASTMILE_API_JWKS_FILE: must be an existing file"),
    ],
    ids=str,
)
def test_wrong_settings_of_tokens_are_refused_with_the_rule(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**settings)  # type: ignore[arg-type]
    assert words in "\n".join(setting_mistakes(refused.value, Settings))
