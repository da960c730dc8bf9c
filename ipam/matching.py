"""Compare the addresses that a line has with those that an order asks for."""

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Row, text

from ipam.errors import DelegationMismatchError
from lastmile.contract.addressing import Addressing, Need, Purpose, vrf_words
from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement

__all__ = ["address_differences", "find_mismatched", "must_match", "unfinished_replacements"]

# What the line has, or is about to get. Revoking, failed and replaced delegations do not count.
_HELD = DirectStatement(
    """
    SELECT d.id, d.purpose, d.state, d.prefix::text AS prefix, p.name AS pool, p.region, p.vrf
    FROM delegations d JOIN pools p ON p.id = d.pool_id
    WHERE d.subscriber_ref = :subscriber_ref AND d.released_at IS NULL
      AND d.state IN ('pending', 'allocated', 'active', 'suspended') AND d.replaced_by_order IS NULL
    ORDER BY d.id
    """
)

_REPLACED = text(
    "SELECT prefix::text, replaced_by_order FROM delegations WHERE subscriber_ref = :subscriber_ref"
    " AND released_at IS NULL AND replaced_by_order IS NOT NULL ORDER BY id"
)

_WORDS = {
    Purpose.IPV6_PD: "a delegated IPv6 prefix",
    Purpose.IPV6_FRAMED: "a WAN IPv6 prefix",
    Purpose.IPV6_ADDRESS: "a WAN IPv6 address",
    Purpose.IPV4: "a static IPv4 address",
}


async def address_differences(
    connection: TenantConnection, subscriber_ref: str, addressing: Addressing, *, may_add: Collection[Purpose]
) -> list[str]:
    """Return the differences in words, each with the order's field.

    Args:
        connection: In the tenant of the subscriber.
        subscriber_ref: The subscriber.
        addressing: What the order asks for.
        may_add: What the order may ask for and the line not have: the order allocates it.
    """
    rows = await _HELD.all(connection, {"subscriber_ref": subscriber_ref})
    held = {Purpose(row.purpose): row for row in rows}
    needs = {need.purpose: need for need in addressing.needs()}
    return [
        *(
            _not_asked(purpose, row, addressing)
            for purpose, row in held.items()
            if purpose not in needs and not addressing.keeps(purpose)
        ),
        *(
            f"{_mode(purpose, addressing)}: the order asks for {_WORDS[purpose]}, the line has none"
            for purpose in needs
            if purpose not in held and purpose not in may_add
        ),
        *(words for purpose, row in held.items() if purpose in needs for words in _other(row, needs[purpose])),
    ]


async def find_mismatched(connection: TenantConnection, subscriber_ref: str, addressing: Addressing) -> set[int]:
    """Return the delegations that the line has and that do not fit the addressing."""
    rows = await _HELD.all(connection, {"subscriber_ref": subscriber_ref})
    needs = {need.purpose: need for need in addressing.needs()}
    asked = [(row, needs.get(Purpose(row.purpose))) for row in rows if not addressing.keeps(Purpose(row.purpose))]
    return {row.id for row, need in asked if need is None or any(_other(row, need))}


async def unfinished_replacements(connection: TenantConnection, subscriber_ref: str) -> list[str]:
    """Return, in words, the prefixes whose replacement an order has begun and not finished."""
    rows = await connection.execute(_REPLACED, {"subscriber_ref": subscriber_ref})
    return [
        f"addressing: order {row.replaced_by_order} has begun to replace {row.prefix} and has not finished; send it "
        "again with a new order_id"
        for row in rows
    ]


async def must_match(connection: TenantConnection, subscriber_ref: str, addressing: Addressing) -> None:
    """Raise `DelegationMismatchError` where the subscriber holds what the order does not ask for.

    Else the subscriber would keep addresses that the order's result does not name.
    """
    if found := await address_differences(connection, subscriber_ref, addressing, may_add=tuple(Purpose)):
        raise DelegationMismatchError(
            f"subscriber {subscriber_ref}: {'; '.join(found)}. Order change_addressing, or deprovision the line first"
        )


def _not_asked(purpose: Purpose, row: Row[Any], addressing: Addressing) -> str:
    asked = "none" if purpose.family == 6 and not addressing.enable_ipv6 else _asked(purpose, addressing)
    return f"{_mode(purpose, addressing)}: the line has {_WORDS[purpose]}{_written(row)}, the order asks for {asked}"


def _mode(purpose: Purpose, addressing: Addressing) -> str:
    """Return the order's field that decides whether the line has a prefix of this purpose."""
    if purpose is Purpose.IPV4:
        return "addressing.ipv4_mode"
    return "addressing.ipv6_mode" if addressing.enable_ipv6 else "addressing.enable_ipv6"


def _asked(purpose: Purpose, addressing: Addressing) -> str:
    return str(addressing.ipv4_mode if purpose is Purpose.IPV4 else addressing.ipv6_mode)


def _other(row: Row[Any], need: Need) -> Iterator[str]:
    """Yield in what the line's prefix differs from the need of the order."""
    family = f"ipv{need.purpose.family}"
    if need.pool is not None and row.pool != need.pool:
        yield f"addressing.{family}_pool: the line's prefix is from pool {row.pool}, but the order names {need.pool}"
    if need.region is not None and row.region != need.region:
        found = f"the line's pool {row.pool} is in region {row.region}"
        yield f"addressing.region: {found}, but the order names {need.region}"
    if row.vrf != need.vrf:
        yield f"addressing.vrf: the line is in {vrf_words(row.vrf)}, the order asks for {vrf_words(need.vrf)}"
    if row.prefix is None:
        return
    address, _, length = row.prefix.partition("/")
    if int(length) != need.length:
        yield f"addressing.ipv6_pd_size: the line has {row.prefix}, the order asks for a /{need.length}"
    if need.address is not None and address != str(need.address):
        field = "ipv4_address" if need.purpose.family == 4 else "ipv6_prefix"
        yield f"addressing.{field}: the line has {address}, the order asks for {need.address}"


def _written(row: Row[Any]) -> str:
    return "" if row.prefix is None else f" ({row.prefix})"
