"""The allocation key: the name of one allocation, in the database and on the record in NetBox."""

from dataclasses import dataclass
from typing import Self

__all__ = ["AllocationKey"]


@dataclass(frozen=True, slots=True)
class AllocationKey:
    """The key of one allocation, the same in every attempt. Its text is `tenant/subscriber/purpose/order`.

    No part contains a slash. The keys of blocks have another form (`ipam.netbox.delegated.blocks.BLOCK_KEY`).
    """

    tenant: str
    subscriber_ref: str
    purpose: str
    order_id: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.subscriber_ref}/{self.purpose}/{self.order_id}"

    @classmethod
    def parse(cls, written: str) -> Self:
        """Read a key. A text that is no allocation key, which NetBox may have, gives empty parts."""
        tenant, subscriber_ref, purpose, order_id, *_ = [*written.split("/"), "", "", ""]
        return cls(tenant, subscriber_ref, purpose, order_id)

    @property
    def holder(self) -> str:
        """The subscriber's claim to a prefix that it had before (`slots.last_holder`; `lastmile_holder` in SQL)."""
        return f"{self.tenant}/{self.subscriber_ref}/{self.purpose}"
