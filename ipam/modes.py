"""The modes of a pool: who chooses its prefixes, and what NetBox has of it.

A closed set of types: what one mode has, another has not. Fields are named as the columns of the view `pool_bindings`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

__all__ = [
    "AllocationMode",
    "DatabaseMode",
    "DelegatedMode",
    "DirectMode",
    "NetBoxMode",
    "OnRelease",
    "PoolMode",
    "ReportingScope",
    "read_mode",
]


class AllocationMode(StrEnum):
    """The system that chooses the prefixes of a pool."""

    DATABASE = "database"
    """Lastmile, out of all of the pool; NetBox does not know it."""
    DIRECT = "direct"
    """NetBox, one by one (`available-prefixes`): other users of NetBox may take prefixes out of the same space."""
    DELEGATED = "delegated"
    """Lastmile, out of whole blocks that it acquires from NetBox: at the speed of the database, NetBox up or not."""


class ReportingScope(StrEnum):
    """What Lastmile reports to NetBox of a delegated pool."""

    BLOCK = "block"
    """The blocks alone, and how full they are."""
    PREFIX = "prefix"
    """Each prefix too, with a delay: NetBox writes some ten a second."""


class OnRelease(StrEnum):
    """What happens in NetBox to the record of a prefix that is released."""

    DEPRECATE = "deprecate"
    """The record stays, deprecated, until the quarantine ends; NetBox does not give the prefix away meanwhile."""
    DELETE = "delete"
    """The record is deleted at once: NetBox may give the prefix to another subscriber with its next answer."""


class _Mode(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: AllocationMode

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        """Omit the columns and options of other modes: they are NULL."""
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value is not None}

    @property
    def columns(self) -> dict[str, Any]:
        """Return the value of every column; None for those of other modes."""
        return dict.fromkeys(DelegatedMode.model_fields) | self.model_dump(mode="json")

    @property
    def reports_prefixes(self) -> bool:
        """Whether each prefix is reported to NetBox through the outbox."""
        return False


class DatabaseMode(_Mode):
    """The pool is in the database alone."""

    mode: Literal[AllocationMode.DATABASE] = AllocationMode.DATABASE


class NetBoxMode(_Mode):
    """What the modes of pools in NetBox have in common."""

    prefix_id: int
    """NetBox's id of the prefix that is the pool."""
    vrf_id: int | None = None
    """None: NetBox's global table."""
    on_release: OnRelease = OnRelease.DEPRECATE

    def at(self, prefix_id: int, vrf_id: int | None) -> Self:
        """Return the mode with these ids."""
        return self.model_copy(update={"prefix_id": prefix_id, "vrf_id": vrf_id})


class DirectMode(NetBoxMode):
    """NetBox chooses each prefix."""

    mode: Literal[AllocationMode.DIRECT] = AllocationMode.DIRECT

    @model_validator(mode="before")
    @classmethod
    def _has_no_blocks(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and (given.get("record") or given.get("block_length")):
            raise ValueError("only a delegated pool has blocks, and this one is direct")
        return given


class DelegatedMode(NetBoxMode):
    """Lastmile chooses each prefix in a block that it has acquired from NetBox."""

    mode: Literal[AllocationMode.DELEGATED] = AllocationMode.DELEGATED
    record: ReportingScope = ReportingScope.BLOCK
    """What is reported to NetBox."""
    block_length: int
    """Length of each block, in bits."""

    @property
    def reports_prefixes(self) -> bool:
        return self.record is ReportingScope.PREFIX


PoolMode = Annotated[DatabaseMode | DirectMode | DelegatedMode, Field(discriminator="mode")]

_MODE: TypeAdapter[PoolMode] = TypeAdapter(PoolMode)


def read_mode(given: Mapping[Any, Any]) -> PoolMode:
    """Return the mode of a row that has the columns of the view `pool_bindings`, or of a mode as JSON."""
    return _MODE.validate_python({name: given.get(name) for name in DelegatedMode.model_fields})
