"""Change a subscriber's live sessions (CoA-Request) or end them (Disconnect-Request)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from lastmile.contract.addressing import Purpose
from lastmile.contract.suspension import Refusal
from lastmile.db import Database
from lastmile.radius.attributes import InvalidAttributeError
from lastmile.radius.catalogue import Catalogue, read_catalogue
from lastmile.radius.dynauth import DynamicAuthorization, Nas, RadiusReply, Reply, Session
from lastmile.radius.escaping import printable, unescaped
from lastmile.radius.groups import Group
from lastmile.radius.reply_attributes import REPLY_ATTRIBUTES
from lastmile.radius.sessions import find_open_sessions, has_unaccounted_login

__all__ = ["OpenSession", "Sessions"]

# What a CoA-Request can change; the other addresses identify the session in one (RFC 5176, 3.6).
CHANGEABLE = frozenset({REPLY_ATTRIBUTES[Purpose.IPV6_PD]})

# A login just before the account was blocked appears in radacct a moment later: look again.
DISCONNECT_ROUNDS = 3
# How long a NAS may take from Access-Accept to Accounting-Start, per round.
ACCOUNTING_SECONDS = 1

OpenSession = tuple[Session, Nas | None]


class Sessions:
    """The live sessions of subscribers; `longest` is the longest possible duration of a session."""

    def __init__(self, database: Database, authorization: DynamicAuthorization, longest: timedelta) -> None:
        self._database = database
        self._authorization = authorization
        self._longest = longest

    async def announce(self, sessions: Sequence[OpenSession], items: Sequence[tuple[str, str]]) -> list[str]:
        """Send the sessions their new addresses (CoA-Request). Return what a CoA cannot change, as text."""
        attributes = [(name, value) for name, value in items if name in CHANGEABLE]
        replies = await asyncio.gather(
            *(
                self._ask(session, nas, lambda nas, session: self._authorization.coa(nas, session, attributes))
                for session, nas in (sessions if attributes else ())
            )
        )
        problems = [_text(reply) for reply in replies if isinstance(reply, str) or reply.outcome is not RadiusReply.ACK]
        if sessions and len(attributes) < len(items):
            problems.append("a live session keeps its WAN addresses (RFC 5176, 3.6)")
        return [*problems, "the addresses take effect at the next login"] if problems else []

    async def disconnect(
        self, tenant: str, user: str, *, until: datetime | None = None, using: Sequence[int] | None = None
    ) -> list[str]:
        """End every session of the user.

        Args:
            tenant: The tenant of the user.
            user: The user name in RADIUS.
            until: End only sessions that were recorded until this time.
            using: End only sessions that may use the prefix of one of these delegations.

        Return the problems, as text; none if all these sessions have ended.
        """
        return await self._reach(tenant, user, self._end, until, using)

    async def change(self, tenant: str, user: str, before: Group, after: Group, on_refusal: Refusal) -> list[str]:
        """Switch every session of the user from the group `before` to `after` by CoA-Requests.

        If the NAS refuses, does not answer, or has a type without attributes for the change, `on_refusal` says whether
        the session is disconnected or stays as it is. Return the problems, as text.
        """
        async with self._database.tenant(tenant) as connection:
            catalogue = await read_catalogue(connection)

        async def switch(session: Session, nas: Nas | None) -> str | None:
            problem = await self._switch(session, nas, catalogue, before, after)
            if problem is None:
                return None
            if on_refusal is Refusal.NEXT_LOGIN:
                return f"{problem} The change takes effect at the next login."
            ended = await self._end(session, nas)
            return None if ended is None else f"{problem} {ended}"

        return await self._reach(tenant, user, switch)

    async def _reach(
        self,
        tenant: str,
        user: str,
        act: Callable[[Session, Nas | None], Awaitable[str | None]],
        until: datetime | None = None,
        using: Sequence[int] | None = None,
    ) -> list[str]:
        """Run `act` for each session of the user, and return its texts, and a text for a session that is not found."""
        handled: set[Session] = set()
        problems: list[str] = []
        for _ in range(DISCONNECT_ROUNDS):
            async with self._database.tenant(tenant) as connection:
                sessions = await find_open_sessions(connection, user, longest=self._longest, until=until, using=using)
                pending = await has_unaccounted_login(connection, user, self._longest, until)
            new = [(session, nas) for session, nas in sessions if session not in handled]
            if not new and not pending:
                return problems
            if not new:
                await asyncio.sleep(ACCOUNTING_SECONDS)
            handled.update(session for session, _ in new)
            problems += filter(None, await asyncio.gather(*(act(session, nas) for session, nas in new)))
        return [
            *problems,
            f"a login of {printable(unescaped(user))} was accepted, and accounting has not reported its session, or "
            "not its end",
        ]

    async def _end(self, session: Session, nas: Nas | None) -> str | None:
        """End the session; return why its end is in doubt, or None."""
        reply = await self._ask(session, nas, self._authorization.disconnect)
        return _text(reply) if isinstance(reply, str) or not reply.session_ended else None

    async def _switch(
        self, session: Session, nas: Nas | None, catalogue: Catalogue, before: Group, after: Group
    ) -> str | None:
        """Change the session by a CoA-Request; return why it keeps the group `before`, or None."""
        try:
            attributes = None if nas is None else catalogue.coa_attributes(nas.type, before, after)
        except InvalidAttributeError as failure:
            return str(failure)
        if nas is not None and attributes is None:
            return f"{nas} of type {nas.type} cannot be told of this change by a CoA-Request."
        reply = await self._ask(
            session, nas, lambda nas, session: self._authorization.coa(nas, session, attributes or ())
        )
        if isinstance(reply, str):
            return f"{reply}."
        return None if reply.outcome in (RadiusReply.ACK, RadiusReply.SESSION_GONE) else reply.text

    async def _ask(
        self, session: Session, nas: Nas | None, request: Callable[[Nas, Session], Awaitable[Reply]]
    ) -> Reply | str:
        """Return the reply of the NAS, or the reason why it could not be asked."""
        if nas is None:
            return (
                f"session {printable(session.acct_session_id)} is on {session.nas_address}, which is no NAS we know: "
                "add it with `lastmile nas add`"
            )
        try:
            return await request(nas, session)
        except InvalidAttributeError as failure:
            return f"session on NAS {nas.name}: radacct holds what cannot be sent: {failure}"


def _text(reply: Reply | str) -> str:
    return reply if isinstance(reply, str) else reply.text
