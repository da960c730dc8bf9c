"""The NAS's side of the demo: it logs subscribers in, and reports their sessions, over RADIUS (RFC 2865, 2866)."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from pyrad.client import Client, Timeout
from pyrad.packet import AccessAccept

from lastmile.contract import Created
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.devstack.freeradius import FreeRadius
from lastmile.devstack.ports import HOST
from lastmile.errors import UnavailableError
from lastmile.radius.attributes import DICTIONARY
from lastmile.radius.reply_attributes import REPLY_ATTRIBUTES

__all__ = ["DemoNas", "Login", "expected"]

_PATIENCE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Login:
    """What the RADIUS server said to an Access-Request."""

    accepted: bool
    addresses: frozenset[tuple[str, str]]
    """Attribute and value, of every attribute that gives the line an address."""

    @property
    def reply(self) -> str:
        return "Access-Accept" if self.accepted else "Access-Reject"


def expected(created: Created) -> frozenset[tuple[str, str]]:
    """What an Access-Accept must give a line: what was allocated to it, and nothing else."""
    given = ((REPLY_ATTRIBUTES[purpose], getattr(created, fact)) for purpose, fact in ADDRESS_FIELDS.items())
    return frozenset((attribute, value) for attribute, value in given if value)


class DemoNas:
    """Speaks to the stack's FreeRADIUS as the NAS at `address`."""

    def __init__(self, server: FreeRadius, address: str) -> None:
        self._client = Client(
            HOST, authport=server.auth_port, acctport=server.acct_port, secret=server.secret.encode(), dict=DICTIONARY
        )
        self._client.timeout = _PATIENCE_SECONDS
        self._address = address

    async def log_in(self, username: str, password: str) -> Login:
        """Ask whether the subscriber may come in, and with which addresses."""
        request = self._client.CreateAuthPacket(User_Name=username, NAS_IP_Address=self._address)
        request["User-Password"] = request.PwCrypt(password)
        request.add_message_authenticator()
        reply = await self._send(request)
        found = {name: reply[name] for name in REPLY_ATTRIBUTES.values() if name in reply}
        return Login(reply.code == AccessAccept, frozenset(_flat(found)))

    async def start_session(self, username: str) -> str:
        """Report that a session began; returns its Acct-Session-Id."""
        session = f"demo-{secrets.token_hex(4)}"
        await self._account(username, session, {"Acct-Status-Type": "Start"})
        return session

    async def stop_session(self, username: str, session: str) -> None:
        """Report that the session ended, as a NAS does once it has followed a Disconnect-Request."""
        await self._account(username, session, {"Acct-Status-Type": "Stop", "Acct-Terminate-Cause": "Admin-Reset"})

    async def _account(self, username: str, session: str, attributes: Mapping[str, str]) -> None:
        request = self._client.CreateAcctPacket(User_Name=username, NAS_IP_Address=self._address)
        for name, value in {"Acct-Session-Id": session, **attributes}.items():
            request[name] = value
        await self._send(request)

    async def _send(self, request: Any) -> Any:
        try:
            # pyrad's client waits without asyncio, and for one request at a time.
            return await asyncio.to_thread(self._client.SendPacket, request)
        except Timeout:
            raise UnavailableError("FreeRADIUS does not answer: see radius.log in the stack's logs.") from None


def _flat(attributes: Mapping[str, list[str]]) -> set[tuple[str, str]]:
    return {(name, _bare(value)) for name, values in attributes.items() for value in values}


def _bare(value: str) -> str:
    """As orders' results write it: a prefix with its length, one address without."""
    network = ip_network(value)
    return str(network.network_address if network.num_addresses == 1 else network)
