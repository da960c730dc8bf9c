"""The endpoints `available-prefixes` and `available-ips`, by which NetBox allocates free space below a prefix."""

from collections.abc import Callable
from typing import Any

from lastmile.devstack.netbox.data.presenter import Presenter
from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.http.http_errors import HttpError
from lastmile.devstack.netbox.http.latency import Costs
from lastmile.devstack.netbox.model.fields import Object
from lastmile.devstack.netbox.model.networks import Network, cidrs, free_ranges, take

__all__ = ["MADE", "allocated", "check", "effort", "listed"]

MADE = {"available-prefixes": "ipam/prefixes", "available-ips": "ipam/ip-addresses"}
_BITS = {4: 32, 6: 128}


def check(kind: str, parent: Object, requested: list[Any]) -> None:
    """Make the checks that NetBox makes before it takes the lock.

    Raises:
        HttpError: 400; the body is a list even for one requested prefix.
    """
    if kind != "available-prefixes":
        return
    family = Network.parse(parent["prefix"]).family
    complaints = [_complaint(one.get("prefix_length") if isinstance(one, dict) else None, family) for one in requested]
    if any(complaints):
        raise HttpError(400, [{"prefix_length": complaint} if complaint else {} for complaint in complaints])


def _complaint(length: Any, family: int) -> str:
    if length is None:
        return "this field can not be missing"
    if not isinstance(length, int):
        return "this field must be int type"
    return f"Invalid prefix length ({length}) for IPv{family}" if length > _BITS[family] else ""


def effort(kind: str, parent: Object, store: Store) -> Callable[[Costs], float]:
    """Return the cost of finding free space below `parent`, which grows with the children and the gaps between them."""
    if kind != "available-prefixes":
        return lambda costs: 0.0
    ranges, children = _free(parent, store)
    return lambda costs: costs.child * children + costs.gap * len(ranges)


def listed(kind: str, parent: Object, store: Store, presenter: Presenter, limit: int) -> list[Object]:
    """Return the free space for a GET. For prefixes, NetBox ignores the limit."""
    network = Network.parse(parent["prefix"])
    vrf = presenter.nested("ipam.vrf", parent["vrf"]) if parent["vrf"] else None
    if kind == "available-prefixes":
        free = [str(block) for block in cidrs(network.family, _free(parent, store)[0])]
        return [{"family": network.family, "prefix": block, "vrf": vrf} for block in free]
    return [{"family": network.family, "address": one, "vrf": vrf} for one in _addresses(parent, store, limit)]


def allocated(kind: str, parent: Object, requested: list[Any], store: Store) -> list[Object]:
    """Return the bodies of the objects to create: the requested bodies with the allocated prefix and the parent's VRF.

    Raises:
        HttpError: 409; there is not enough free space for all of them.
    """
    if kind == "available-prefixes":
        free = list(cidrs(Network.parse(parent["prefix"]).family, _free(parent, store)[0]))
        chosen = [str(found) for one in requested if (found := take(free, one["prefix_length"]))]
        name = "prefix"
    else:
        chosen = _addresses(parent, store, len(requested))
        if store.version.obeys_address_length:
            asked = zip(chosen, requested, strict=False)
            chosen = [_resized(address, one.get("prefix_length")) for address, one in asked]
        name = "address"
    if len(chosen) < len(requested):
        raise HttpError(409, {"detail": "Insufficient resources are available to satisfy the request"})
    return [{**one, name: choice, "vrf": parent["vrf"]} for one, choice in zip(requested, chosen, strict=True)]


def _resized(address: str, length: int | None) -> str:
    return address if length is None else f"{address.partition('/')[0]}/{length}"


def _free(parent: Object, store: Store) -> tuple[list[tuple[int, int]], int]:
    return store.space.free(parent["vrf"], Network.parse(parent["prefix"]))


def _addresses(parent: Object, store: Store, limit: int) -> list[str]:
    """Return the first free addresses, with the parent's length. NetBox ignores prefixes inside the parent."""
    network = Network.parse(parent["prefix"])
    everywhere = parent["vrf"] is None and parent["status"] == "container"  # for addresses only, not for prefixes
    hosts = (
        Network.parse(one["address"].partition("/")[0])
        for one in store.all("ipam.ipaddress")
        if everywhere or one["vrf"] == parent["vrf"]
    )
    taken = [(host.first, host.first) for host in hosts if network.contains(host)]
    if not parent["is_pool"] and network.length < _BITS[network.family] - 1:
        taken.append((network.first, network.first))  # the network, or RFC 4291's Subnet-Router anycast address
        if network.family == 4:
            taken.append((network.last, network.last))
    found: list[str] = []
    for first, last in free_ranges(network, sorted(taken)):
        for number in range(first, min(last, first + limit - len(found) - 1) + 1):
            found.append(f"{network.address(number)}/{network.length}")
        if len(found) == limit:
            break
    return found
