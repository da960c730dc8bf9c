"""A change of how a pool is kept in NetBox, and what its workflow and activities exchange."""

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["PoolInFlight", "PoolModeChange", "PoolModeProgress", "PoolModeStage", "PoolStage", "Prepared"]


class PoolModeStage(BaseModel):
    """One conversion of a change. A change from the database or from block records to direct has two."""

    model_config = ConfigDict(frozen=True)

    conversion: str
    """How the pool's rows are rewritten: an `ipam.netbox.mode_change.plan.Conversion`."""
    mode: dict[str, Any]
    """The pool's mode afterwards: an `ipam.modes.PoolMode` as JSON."""


class PoolModeChange(BaseModel):
    """A requested change of how a pool is kept in NetBox."""

    model_config = ConfigDict(frozen=True)

    pool_id: int
    pool: str
    """The pool's name, for people."""
    before: dict[str, Any]
    """The mode that the requester has read."""
    requested: dict[str, Any]
    """The requested mode."""
    requested_by: str = ""
    """The person or system, for the audit log."""
    stages: list[PoolModeStage] | None = None
    """The remaining stages, where a long run continues as a new one; None: not planned yet."""


class PoolStage(BaseModel):
    """One stage of one pool: what an activity works on."""

    model_config = ConfigDict(frozen=True)

    pool_id: int
    stage: PoolModeStage
    requested_by: str = ""
    closed: bool = False
    """The pool is closed to new allocations meanwhile, and stays closed."""
    first: bool = True
    """The first attempt at this preparation: foreign prefixes are looked for once."""


class Prepared(BaseModel):
    """How far the preparation of a stage is."""

    model_config = ConfigDict(frozen=True)

    left: int
    """Blocks to acquire, or prefixes to report to NetBox. 0: prepared."""
    words: str = ""


class PoolInFlight(BaseModel):
    """The orders that NetBox is choosing a prefix of the pool for."""

    model_config = ConfigDict(frozen=True)

    subscribers: list[str] = []
    """The first few."""


class PoolModeProgress(BaseModel):
    """Where a change stands."""

    model_config = ConfigDict(frozen=True)

    pool: str
    closed: bool = False
    """The pool is closed to new allocations at this moment."""
    words: str = ""
    """What the change does now, or how the pool is kept at its end."""
