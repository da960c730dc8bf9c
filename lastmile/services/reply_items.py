"""The RADIUS reply items of a subscriber's delegations: addresses, and the VRF where its attribute is configured."""

from collections.abc import Iterable, Iterator

from ipam.delegations import Delegation, held_by
from ipam.lifecycle import IN_SERVICE
from lastmile.contract.addressing import Purpose
from lastmile.db import TenantConnection
from lastmile.radius.reply_attributes import REPLY_ATTRIBUTES
from lastmile.radius.reply_items import add_reply_items, remove_reply_items, write_reply_items
from lastmile.radius.vrf import VrfAttribute

__all__ = ["ReplyItems", "address_items", "as_written"]


def as_written(delegations: Iterable[Delegation]) -> Iterator[tuple[Purpose, str]]:
    """Yield their prefixes as RADIUS and people write them: a single address has no length."""
    for delegation in delegations:
        if delegation.prefix is not None:
            single = delegation.prefix.num_addresses == 1
            yield delegation.purpose, str(delegation.prefix.network_address if single else delegation.prefix)


def address_items(delegations: Iterable[Delegation]) -> list[tuple[str, str]]:
    """Return the attributes and values that carry their prefixes."""
    return [(REPLY_ATTRIBUTES[purpose], written) for purpose, written in as_written(delegations)]


class ReplyItems:
    """The rows of `radreply` for delegations; `vrf` is None where RADIUS does not carry VRFs."""

    def __init__(self, vrf: VrfAttribute | None = None) -> None:
        self._vrf = vrf

    async def write(self, connection: TenantConnection, user: str, delegations: Iterable[Delegation]) -> None:
        """Add the items of active delegations to the user's Access-Accepts."""
        delegations = list(delegations)
        await write_reply_items(connection, user, address_items(delegations))
        await add_reply_items(connection, user, self._vrf_items(delegations))

    async def remove(
        self,
        connection: TenantConnection,
        user: str,
        delegations: Iterable[Delegation],
        *,
        stay: Iterable[Delegation] = (),
    ) -> None:
        """Remove the items of delegations that are being revoked; the VRF stays while another address is active in it.

        All of them are one subscriber's. An item that a delegation in `stay` has too is not removed: the subscriber
        may have the same prefix in two VRFs.
        """
        delegations = list(delegations)
        await remove_reply_items(connection, user, {*address_items(delegations)} - {*address_items(stay)})
        if items := self._vrf_items(delegations):
            held = await held_by(connection, delegations[0].subscriber_ref)
            gone = {one.id for one in delegations}
            others = [d for d in held if d.state in IN_SERVICE and d.id not in gone]
            items -= self._vrf_items(others)
            await remove_reply_items(connection, user, items)

    def _vrf_items(self, delegations: Iterable[Delegation]) -> set[tuple[str, str]]:
        if self._vrf is None:
            return set()
        return {self._vrf.item(delegation.vrf) for delegation in delegations if delegation.vrf}
