"""Web pages of other origins: none may call the API, except those of the settings."""

from dataclasses import replace

import httpx
import pytest
from pydantic import ValidationError

from lastmile.api.app import create_app
from lastmile.api.context import ApiContext
from lastmile.settings import Settings

PAGE = "https://crm.example.net"
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}


def client(context: ApiContext, origins: str | None) -> httpx.AsyncClient:
    app = create_app(replace(context, settings=Settings(api_cors_origins=origins)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers={"Origin": PAGE})


async def test_no_page_of_another_origin_may_call_by_default(context: ApiContext) -> None:
    async with client(context, None) as api:
        asked = await api.options("/v1/orders", headers=ASKED)
        assert (asked.status_code, asked.json()["type"]) == (405, "/problems/method-not-allowed")
        assert not [name for name in (await api.get("/healthz")).headers if name.startswith("access-control")]


async def test_page_of_the_settings_may_call_and_read_the_problem(context: ApiContext) -> None:
    async with client(context, f"https://portal.example.net, {PAGE}") as api:
        asked = await api.options("/v1/orders", headers=ASKED)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, PAGE)
        refused = await api.get("/v1/orders")
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
        assert "X-Request-ID" in refused.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in refused.headers


async def test_other_page_is_refused_with_a_problem(context: ApiContext) -> None:
    async with client(context, "https://portal.example.net") as api:
        asked = await api.options("/v1/orders", headers=ASKED)
        assert (asked.status_code, asked.json()["type"]) == (403, "/problems/cross-origin")
        assert "access-control-allow-origin" not in (await api.get("/healthz")).headers


@pytest.mark.parametrize("written", ["*", "crm.example.net", "https://crm.example.net/", "https://a,", ""])
def test_origins_that_are_no_origins_are_refused(written: str) -> None:
    with pytest.raises(ValidationError):
        Settings(api_cors_origins=written)
