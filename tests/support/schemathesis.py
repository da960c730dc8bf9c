"""Runs of schemathesis, which makes requests from the OpenAPI document of a running API and checks the answers."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from lastmile.api.auth.gate import Gate
from lastmile.api.context import ApiContext
from lastmile.api.rate_limits import Allowance, Rate, RateLimiter
from lastmile.api.serve import http_server
from tests.support.api_keys import authorization, make_api_key
from tests.support.http_requests import serving

__all__ = ["check_document"]

CONFIGURATION = Path(__file__).parents[1] / "api" / "schemathesis.toml"


async def check_document(context: ApiContext, directory: Path, *options: str) -> None:
    """Serve the API, and check the operations of its document. Fails with the failures that schemathesis finds."""
    key = authorization(await make_api_key(context.database))["Authorization"]
    async with _unlimited(context) as port:
        process = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).parent / "schemathesis", "--config-file", CONFIGURATION, "run"),
            f"http://127.0.0.1:{port}/openapi.json",
            *("--header", f"Authorization: {key}", "--no-color", "--continue-on-failure", *options),
            cwd=directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@asynccontextmanager
async def _unlimited(context: ApiContext) -> AsyncIterator[int]:
    """Serve the API without rate limits, since schemathesis sends thousands of requests; return the port."""
    gate = Gate(context.gate.authenticator, _NoLimits(context.database))
    async with serving(http_server(replace(context, gate=gate))) as port:
        yield port


class _NoLimits(RateLimiter):
    """Lets every request through."""

    async def take(self, rate: Rate, tenant: str | None, subject: str) -> Allowance:
        return Allowance(rate, rate.burst, 0)
