"""The demo's NAS: sends logins and reports sessions over RADIUS (RFC 2865, RFC 2866)."""

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

__all__ = ["DemoNas", "Login", "expected_addresses"]

_PATIENCE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Login:
    """The RADIUS server's reply to an Access-Request."""

    accepted: bool
    addresses: frozenset[tuple[str, str]]
    """The attribute and the value of every address in the reply."""
    rate: str
    """The download rate in the reply; empty without one."""

    @property
    def reply(self) -> str:
        return "Access-Accept" if self.accepted else "Access-Reject"


def expected_addresses(created: Created) -> frozenset[tuple[str, str]]:
    """Return the addresses that an Access-Accept must contain: exactly the allocated addresses."""
    given = ((REPLY_ATTRIBUTES[purpose], getattr(created, fact)) for purpose, fact in ADDRESS_FIELDS.items())
    return frozenset((attribute, value) for attribute, value in given if value)


class DemoNas:
    """A client of the stack's FreeRADIUS that acts as the NAS at `address`."""

    def __init__(self, server: FreeRadius, address: str) -> None:
        self._client = Client(
            HOST, authport=server.auth_port, acctport=server.acct_port, secret=server.secret.encode(), dict=DICTIONARY
        )
        self._client.timeout = _PATIENCE_SECONDS
        self._address = address

    async def log_in(self, username: str, password: str, circuit_id: str | None) -> Login:
        """Send an Access-Request for the subscriber, with the circuit id of its line (RFC 4679)."""
        request = self._client.CreateAuthPacket(User_Name=username, NAS_IP_Address=self._address)
        request["User-Password"] = request.PwCrypt(password)
        if circuit_id is not None:
            request["ADSL-Agent-Circuit-Id"] = circuit_id
        request.add_message_authenticator()
        reply = await self._send(request)
        found = {name: reply[name] for name in REPLY_ATTRIBUTES.values() if name in reply}
        (rate,) = reply.get("WISPr-Bandwidth-Max-Down", (0,))
        return Login(reply.code == AccessAccept, frozenset(_flat(found)), f"{rate // 1_000_000} Mbit/s" if rate else "")

    async def start_session(self, username: str) -> str:
        """Report the start of a session, and return its Acct-Session-Id."""
        session = f"demo-{secrets.token_hex(4)}"
        await self._account(username, session, {"Acct-Status-Type": "Start"})
        return session

    async def stop_session(self, username: str, session: str) -> None:
        """Report the end of the session, as a NAS does after a Disconnect-Request."""
        await self._account(username, session, {"Acct-Status-Type": "Stop", "Acct-Terminate-Cause": "Admin-Reset"})

    async def _account(self, username: str, session: str, attributes: Mapping[str, str]) -> None:
        request = self._client.CreateAcctPacket(User_Name=username, NAS_IP_Address=self._address)
        for name, value in {"Acct-Session-Id": session, **attributes}.items():
            request[name] = value
        await self._send(request)

    async def _send(self, request: Any) -> Any:
        try:
            # pyrad's client blocks, and sends one request at a time.
            return await asyncio.to_thread(self._client.SendPacket, request)
        except Timeout:
            raise UnavailableError("FreeRADIUS does not answer: see radius.log in the stack's logs.") from None


def _flat(attributes: Mapping[str, list[str]]) -> set[tuple[str, str]]:
    return {(name, _bare(value)) for name, values in attributes.items() for value in values}


def _bare(value: str) -> str:
    """Write it as results of orders do: a prefix with its length, a single address without."""
    network = ip_network(value)
    return str(network.network_address if network.num_addresses == 1 else network)
