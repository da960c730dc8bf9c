"""The allocator of orders, for pools of every mode."""

from ipam.allocation import Quarantine
from ipam.allocator import PrefixAllocator
from ipam.database_allocator import DatabaseAllocator
from ipam.netbox import NetBox
from ipam.netbox.delegated.allocator import DelegatedAllocator
from ipam.netbox.direct.allocator import DirectAllocator
from lastmile.db import Database

__all__ = ["build_allocator"]


def build_allocator(database: Database, quarantine: Quarantine, netbox: NetBox | None) -> PrefixAllocator:
    """Return the allocator: each one serves what the one inside it leaves."""
    return DirectAllocator(DelegatedAllocator(DatabaseAllocator(quarantine), database, netbox), database, netbox)
