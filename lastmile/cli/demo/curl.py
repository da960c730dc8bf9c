"""The demo's order over the REST API: sent with `curl`, as a program in another language would send it."""

import asyncio
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from lastmile.cli.output import print_text
from lastmile.contract import AnyOrder, OrderResult
from lastmile.errors import LastmileError

__all__ = ["CurlFailedError", "send_with_curl"]

WAIT_SECONDS = 30
"""How long one request waits for the end of the order."""
OPEN = {"waiting", "running", "rolling_back", "parked"}


class CurlFailedError(LastmileError):
    """The order got no result over the REST API. The message has the answer."""


async def send_with_curl(api_url: str, token_file: Path | None, order: AnyOrder) -> OrderResult | None:
    """Show the command that sends the order, run it, and return the result.

    Return None where this is not possible, after saying why. Raises `CurlFailedError`.
    """
    if token_file is None or shutil.which("curl") is None:
        why = "curl is not installed" if token_file else "the stack has no token of the API for a database of yours"
        print_text(f"Left out: {why}, so order {order.order_id} goes to Temporal like the others.")
        return None
    command = _command(api_url, token_file, order)
    print_text(f"Order {order.order_id} goes through the REST API, the others to Temporal:\n$ {command}")
    while True:
        answer = await _run(command)
        if answer.get("result"):
            return OrderResult.model_validate(answer["result"])
        if answer.get("status") not in OPEN:
            raise CurlFailedError(str(answer.get("detail") or answer.get("reason") or answer))
        # The order is not at its end yet. To send it again is safe, and waits for the same order.


def _command(api_url: str, token_file: Path, order: AnyOrder) -> str:
    body = {"operation": order.operation.value} | order.model_dump(mode="json", exclude_defaults=True)
    token = f'"Authorization: Bearer $(cat {shlex.quote(str(token_file))})"'
    return (
        f"curl -sS {api_url}/v1/orders -H {token} -H 'Prefer: wait={WAIT_SECONDS}' "
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    )


async def _run(command: str) -> dict[str, Any]:
    curl = await asyncio.create_subprocess_shell(
        command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "no_proxy": "127.0.0.1"},  # the user's proxy for the Internet does not apply
    )
    out, err = await curl.communicate()
    try:
        answer: dict[str, Any] = json.loads(out)
    except ValueError:
        words = (err or out).decode(errors="replace").strip()
        raise CurlFailedError(words or f"curl ended with status {curl.returncode}") from None
    return answer
