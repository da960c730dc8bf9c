"""Scan the prefixes in a pool's prefix in NetBox: which of them name a subscriber, and which overlap.

The records go into a scratch database on disk: they need not fit into memory, and overlaps are known only when all
records have been read.
"""

import sqlite3
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from ipam.netbox import NetBoxRecord
from ipam.netbox.binding import BoundPool
from ipam.prefix import Prefix
from lastmile.errors import NonRetryableError

__all__ = ["Carried", "ImportScan", "UnknownFieldError"]

BATCH = 200


class UnknownFieldError(NonRetryableError):
    """NetBox has no custom field of this name for prefixes."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A prefix in NetBox that names a subscriber."""

    id: int
    prefix: Prefix
    tenant: str
    """The record's tenant, else the pool's; empty where neither has one."""
    subscriber_ref: str
    key: str | None
    """The allocation key; None where the record is not stamped."""
    problem: str
    """Why the prefix cannot be a delegation, as far as NetBox shows; empty where it can."""


_TABLES = """
CREATE TABLE seen (id INTEGER PRIMARY KEY, first BLOB, length INTEGER, prefix TEXT, status TEXT, tenant TEXT,
                   reference TEXT, key TEXT);
CREATE TABLE clashes (id INTEGER PRIMARY KEY, other TEXT);
"""

_CARRIED = """
SELECT seen.*, clashes.other, duplicates.number FROM seen LEFT JOIN clashes USING (id)
LEFT JOIN (SELECT tenant, reference, count(*) AS number FROM seen
           WHERE reference <> '' AND status = 'active' GROUP BY tenant, reference) duplicates
       ON duplicates.tenant = seen.tenant AND duplicates.reference = seen.reference
WHERE seen.reference <> '' ORDER BY first, length, id
"""


class ImportScan:
    """The scratch database with the records of one pool's prefix; a context manager."""

    def __init__(self, pool: BoundPool, tenant: str | None, field: str | None, reference: TypeAdapter[str]) -> None:
        """`tenant` is the pool's. The subscriber's reference is in the custom field, or is the whole description."""
        self._pool = pool
        self._tenant = tenant
        self._field = field
        self._reference = reference
        self.others = 0
        """Prefixes that name no subscriber."""

    def __enter__(self) -> Self:
        self._scratch = sqlite3.connect("")
        self._scratch.executescript(_TABLES)
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.close()

    async def read(self, records: AsyncIterable[NetBoxRecord]) -> None:
        """Read all records. Raises `UnknownFieldError`."""
        async for one in records:
            if one.status == "container":
                continue  # a container only groups
            reference = self._named(one)
            self.others += not reference
            values = (one.id, one.prefix.network_address.packed, one.prefix.prefixlen, str(one.prefix), one.status)
            tenant = one.tenant or self._tenant or ""
            self._scratch.execute(
                "INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, tenant, reference, one.key)
            )
        self._find_clashes()

    def carried(self) -> Iterator[Sequence[Carried]]:
        """Yield the prefixes that name a subscriber, in the order of their addresses, a batch at a time."""
        with closing(self._scratch.execute(_CARRIED)) as rows:
            while batch := rows.fetchmany(BATCH):
                yield [self._inspected(*row) for row in batch]

    def _named(self, record: NetBoxRecord) -> str:
        if record.key is not None:
            return record.subscriber_ref or ""
        if self._field is None:
            return record.description.strip()
        if self._field not in record.fields:
            raise UnknownFieldError(
                f"NetBox has no custom field {self._field!r} of prefixes: its name is not its label"
            )
        value: Any = record.fields[self._field]
        return str(value).strip() if isinstance(value, str | int) else ""

    def _find_clashes(self) -> None:
        """Find overlaps: in the order of their addresses, prefixes contain each other like brackets."""
        around: list[tuple[int, Any, str]] = []
        ordered = self._scratch.execute("SELECT id, prefix FROM seen ORDER BY first, length, id")
        for id, prefix in ordered:
            network: Any = ip_network(prefix)
            while around and not network.subnet_of(around[-1][1]):
                around.pop()
            if around:
                for one, other in ((id, around[-1][2]), (around[-1][0], prefix)):
                    self._scratch.execute("INSERT OR IGNORE INTO clashes VALUES (?, ?)", (one, other))
            around.append((id, network, prefix))

    def _inspected(
        self,
        id: int,
        first: bytes,
        length: int,
        prefix: str,
        status: str,
        tenant: str,
        reference: str,
        key: str | None,
        clash: str | None,
        duplicates: int,
    ) -> Carried:
        problem = ""
        if length != self._pool.length:
            problem = f"is not a /{self._pool.length}, the length of the prefixes of pool {self._pool.name}"
        elif status != "active":
            problem = f"has the status {status} in NetBox: only an active prefix can be imported"
        elif not tenant:
            problem = "has no tenant in NetBox, and the pool serves every tenant: set its tenant in NetBox"
        elif self._tenant not in (tenant, None):
            problem = f"is tenant {tenant}'s in NetBox, and the pool is {self._tenant}'s"
        elif clash == prefix:
            problem = "is in NetBox twice: delete one of the two records"
        elif clash is not None:
            problem = f"overlaps {clash}: delete that in NetBox, or make it a container where it only groups"
        elif duplicates > 1:
            problem = f"is one of {duplicates} prefixes of the same subscriber: a line has one"
        else:
            try:
                self._reference.validate_python(reference)
            except ValidationError:
                problem = "has an invalid subscriber reference: use letters, digits, '-', '_' and single dots"
        return Carried(id, ip_network(prefix), tenant, reference, key, problem)
