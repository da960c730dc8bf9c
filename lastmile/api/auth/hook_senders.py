"""The requirement of a route that CRMs call by webhook: the request comes from the source that its path names."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from weakref import WeakValueDictionary

from fastapi import Path, Request, Security
from fastapi.security import APIKeyQuery

from lastmile.api.context import Context
from lastmile.api.problems import ProblemError
from lastmile.api.remembered import Remembered
from lastmile.services.hooks.sources import HookSource, StoredSource, find_source
from lastmile.services.hooks.verification import HookRequest

__all__ = ["HookGate", "HookSender", "VerifiedSource"]

REMEMBERED_SECONDS = 10
"""How long a process of the API knows a source that was removed, or has a new secret."""

_TOKEN = APIKeyQuery(
    name="token",
    auto_error=False,
    scheme_name="hook",
    description="The secret of the source (`lastmile hooks add`). It can also be a bearer token or the password of "
    "HTTP Basic. A source whose CRM signs its requests needs the signature instead.",
)


class HookGate:
    """The sources that a process of the API remembers, and the turns of their requests."""

    def __init__(self) -> None:
        self._known: Remembered[StoredSource] = Remembered()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def known(self, name: str) -> StoredSource | None:
        """Return the source, if it is remembered."""
        return self._known.get(name.encode())

    def remember(self, stored: StoredSource) -> None:
        """Remember the source for seconds."""
        self._known.put(stored.source.name.encode(), stored, REMEMBERED_SECONDS)

    def turn(self, name: str) -> asyncio.Lock:
        """Return the lock of the source, which lets one request in after the other, as they came."""
        return self._turns.setdefault(name, asyncio.Lock())


class HookSender:
    """A dependency that gives the source of a request, if the request has the secret or the signature of the source.

    The requests of a source are worked off one after the other, in the sequence in which they came: otherwise a
    suspension could overtake its own cancellation. A source has no rate limit: it is a system that the operator has
    chosen, and most CRMs send an event only once.
    """

    async def __call__(
        self,
        request: Request,
        context: Context,
        source: Annotated[str, Path(pattern="^[a-z0-9-]{1,24}$", description="The name of the source.")],
        token: Annotated[str | None, Security(_TOKEN)],
    ) -> AsyncIterator[HookSource]:
        gate: HookGate = request.app.state.hook_gate
        sent = HookRequest(request.headers, token, await request.body())
        # Nothing is awaited between here and the turn of a request with the right secret. A request with a wrong one
        # waits for no turn, so that many of them hold up no event.
        stored = gate.known(source)
        if stored is not None and not stored.verify(sent):
            raise _unauthorized()
        async with gate.turn(source):
            if stored is None:
                stored = await find_source(context.database, source, context.settings.key_ring)
                if stored is not None:
                    gate.remember(stored)
                if stored is None or not stored.verify(sent):
                    raise _unauthorized()
            yield stored.source


VerifiedSource = Annotated[HookSource, Security(HookSender())]
"""The parameter of a route that receives the source of its request."""


def _unauthorized() -> ProblemError:
    return ProblemError(
        "unauthorized",
        "The request has neither the secret nor the signature of this hook source, or there is no such source. "
        "`lastmile hooks sources` lists the sources.",
        headers={"WWW-Authenticate": 'Basic realm="lastmile hooks"'},
    )
