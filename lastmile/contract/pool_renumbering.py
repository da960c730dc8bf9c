"""The renumbering of a pool: the request, its progress, and what its workflow and activities exchange."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from lastmile.contract.addressing import Purpose
from lastmile.contract.orders import Renumber
from lastmile.fields.daily_window import DailyWindow

__all__ = [
    "STANDING_WORDS",
    "EndedRenumbering",
    "LineStanding",
    "PoolLines",
    "PoolLinesQuery",
    "PoolRenumbering",
    "RenumberingProgress",
    "RenumberingState",
    "RenumberingStatus",
    "RenumberingTurn",
    "StartedRenumbering",
    "TurnReport",
]


class LineStanding(StrEnum):
    """Where a line that holds a prefix of the pool stands."""

    TO_RENUMBER = "to_renumber"
    BUSY = "busy"
    FAILED = "failed"
    NOT_IN_SERVICE = "not_in_service"
    IN_OVERLAP = "in_overlap"


STANDING_WORDS = {
    LineStanding.TO_RENUMBER: "to renumber",
    LineStanding.BUSY: "with another order",
    LineStanding.FAILED: "failed",
    LineStanding.NOT_IN_SERVICE: "not in service",
    LineStanding.IN_OVERLAP: "in the overlap",
}


class PoolLinesQuery(BaseModel):
    """What to count in a pool."""

    model_config = ConfigDict(frozen=True)

    pool_id: int
    since: datetime | None = None
    """Orders that failed before this time do not count. None: no order counts."""


class PoolLines(BaseModel):
    """The lines that hold a prefix of the pool."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    """The time of the count, by the clock of the database."""
    counts: dict[LineStanding, int] = {}
    """A standing without lines is omitted."""
    overlaps_until: datetime | None = None
    """The end of the last overlap. None: no line is in one."""
    examples: list[str] = []
    """The first lines that no order is going to renumber, each with the reason."""

    @property
    def unfinished(self) -> int:
        """The number of lines that an order can still renumber."""
        return self.counts.get(LineStanding.TO_RENUMBER, 0) + self.counts.get(LineStanding.BUSY, 0)

    @property
    def words(self) -> str:
        """The counts in words; empty if no line holds a prefix of the pool."""
        return ", ".join(f"{self.counts[one]:,} {STANDING_WORDS[one]}" for one in LineStanding if one in self.counts)


class StartedRenumbering(BaseModel):
    """An order that renumbers one line of the pool."""

    delegation_id: int
    """The delegation of the pool that the order replaces."""
    order: Renumber
    begun: bool = False
    """An earlier run has begun the order, and it has not ended."""
    sent_at: datetime | None = None
    sent: int = 0
    """How often the order was sent: it is sent again if its run was lost."""


class EndedRenumbering(BaseModel):
    """What became of a started renumbering."""

    model_config = ConfigDict(frozen=True)

    delegation_id: int
    renumbered: bool = False
    """The line has its new prefix."""
    failure: str = ""
    """Why the order was rolled back. Without it and not renumbered: the line was deprovisioned."""


class RenumberingState(BaseModel):
    """The state that a run of the workflow passes to the run that continues it. It does not grow with the pool."""

    began_at: datetime | None = None
    """When the first run began, by the clock of the database."""
    after: int | None = None
    """The position of the pass through the pool. None: no pass has begun, or one has just ended."""
    complete: bool = False
    """The pass has found its last line."""
    started_in_pass: int = 0
    """The orders that were started since the last count."""
    idle_passes: int = 0
    """How many passes in a row have started no order."""
    next_start: datetime | None = None
    """When the rate allows the next line. None: no line has started."""
    in_flight: list[StartedRenumbering] = []
    renumbered: int = 0
    failed: int = 0
    problems: list[str] = []
    """The first failures."""
    paused: str = ""
    """The operator who has paused the run, and the reason. Empty: not paused."""
    paused_at: datetime | None = None
    left: PoolLines | None = None
    """The last count."""


class PoolRenumbering(BaseModel):
    """A request to give every line of one pool a prefix of another pool."""

    model_config = ConfigDict(frozen=True)

    pool_id: int
    pool: str
    tenant: str = ""
    """The tenant of the pool; empty: the pool serves all tenants."""
    purpose: Purpose
    target: str
    """The name of the pool of the new prefixes."""
    lines_per_hour: int
    window: DailyWindow | None = None
    """The hours in which orders start. None: at any time."""
    overlap_hours: int
    failed_percent: int
    """The share of failed renumberings above which the run stops."""
    requested_by: str = ""
    """The person or system, for the audit log."""
    so_far: RenumberingState | None = None
    """The state of the run that this run continues. Only the workflow sets it."""


class RenumberingTurn(BaseModel):
    """What to look for in one turn of the run."""

    model_config = ConfigDict(frozen=True)

    request: PoolRenumbering
    since: datetime
    after: int
    """The delegation after which the search goes on."""
    most: int
    """How many lines may start in this turn."""
    in_flight: list[StartedRenumbering]


class TurnReport(BaseModel):
    """The next lines to renumber, and what became of earlier ones."""

    model_config = ConfigDict(frozen=True)

    ended: list[EndedRenumbering] = []
    lines: list[StartedRenumbering] = []
    after: int = 0
    complete: bool = False
    """There are no further lines."""
    opens_at: datetime | None = None
    """The window is closed until then. None: it is open."""


class RenumberingStatus(StrEnum):
    """What a renumbering of a pool is doing."""

    RUNNING = "running"
    WAITING = "waiting"
    """For the window, for the end of the overlaps, or for lines with another order."""
    PAUSED = "paused"
    STOPPED = "stopped"
    """An operator has stopped it, or too many renumberings have failed. Orders that were started go on."""
    ENDED = "ended"


class RenumberingProgress(BaseModel):
    """The answer to the `progress` query of a renumbering of a pool, and its result."""

    model_config = ConfigDict(frozen=True)

    pool: str
    target: str
    status: RenumberingStatus
    words: str
    waits_until: datetime | None = None
    renumbered: int
    """Lines that have their new prefix, since the beginning."""
    failed: int
    in_flight: int
    """Orders that have started, and whose line has not switched to its new prefix."""
    left: dict[LineStanding, int] = {}
    """The lines that held a prefix of the pool at the last count."""
    to_start: int = 0
    """Lines for which no order has started, and an order can still renumber them."""
    paused_at: datetime | None = None
    """When an operator has paused it. None: it is not paused."""
    tenant: str = ""
    """The tenant of the pool; empty: the pool serves all tenants."""
    problems: list[str] = []
    """The first failures, and the first lines that are left, each with the reason."""
