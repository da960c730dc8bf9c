"""The kinds of differences between NetBox and the database, as data, and one such difference."""

from dataclasses import dataclass
from enum import StrEnum

from ipam.netbox.binding import BoundPool
from ipam.netbox.reconcile.expected import ExpectedRecord

__all__ = ["RULES", "Difference", "DifferenceKind", "Rule"]


class DifferenceKind(StrEnum):
    POOL_MOVED = "pool_moved_in_netbox"
    MISSING = "not_in_netbox"
    ORPHAN = "only_in_netbox"
    MOVED = "moved_in_netbox"
    DRIFT = "drift_in_netbox"
    DUPLICATE = "duplicate_in_netbox"
    OCCUPIED = "occupied_in_netbox"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is broken by a difference of this kind, and what is done about it."""

    meaning: str
    repair: str
    """What `--repair` does; empty where an operator must decide."""
    remedy: str
    """What an operator does where `--repair` cannot help."""


RULES: dict[DifferenceKind, Rule] = {
    DifferenceKind.POOL_MOVED: Rule(
        "the prefix of every pool is in NetBox as it was when the pool was added",
        "moves it back into its VRF",
        "restore it in NetBox, or let the token's permissions reach it; where it has another id there now, run "
        "`lastmile pool add` again, just as before",
    ),
    DifferenceKind.MISSING: Rule(
        "NetBox has a record of every prefix that is held or in quarantine, and of every block",
        "creates it again",
        "remove from NetBox what is in its way and let the token's permissions reach it, or deprovision the subscriber "
        "and provision it anew",
    ),
    DifferenceKind.ORPHAN: Rule(
        "every record with a key of Lastmile has a holder",
        "deletes it",
        "find out who created it; delete it in NetBox if it is not needed",
    ),
    DifferenceKind.MOVED: Rule(
        "every record in NetBox has its prefix and VRF",
        "moves it back",
        "remove from NetBox what is in its way",
    ),
    DifferenceKind.DRIFT: Rule(
        "every record in NetBox agrees with the database",
        "corrects it",
        "see what NetBox says against it",
    ),
    DifferenceKind.DUPLICATE: Rule(
        "NetBox has one record of every prefix",
        "deletes the second record",
        "delete the second one in NetBox",
    ),
    DifferenceKind.OCCUPIED: Rule(
        "no foreign prefix overlaps a prefix that a subscriber holds",
        "",
        "remove it in NetBox, or deprovision the subscriber and provision it anew",
    ),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between NetBox and the database."""

    kind: DifferenceKind
    pool: BoundPool
    subject: str
    """The prefix, in words."""
    words: str
    tenant: str | None
    """None: of a pool that serves every tenant, or a foreign prefix."""
    netbox_id: int | None = None
    """The id of the record; None where no record is known."""
    key: str | None = None
    """The key that the record has, or should have."""
    target: ExpectedRecord | None = None
    """What the record should be."""
    repairable: bool = True
    failed: str = ""
    """Why the last repair failed; empty where none was tried."""

    @property
    def about(self) -> str:
        """Return what the difference is about, the same in each comparison."""
        return f"{self.kind} {self.key or self.netbox_id or self.subject}"

    @property
    def promised(self) -> bool:
        """Return whether `--repair` is expected to repair it."""
        return self.repairable and not self.failed

    def advice(self, command: str) -> str:
        """Return what `command`, which ends with `--repair`, does or could not do, or what an operator has to do."""
        if self.failed:
            return f"{command} could not: {self.action}"
        return f"{command} {self.action}" if self.promised else self.action

    @property
    def action(self) -> str:
        """Return what `--repair` does, or what an operator has to do."""
        rule = RULES[self.kind]
        if self.failed:
            return f"{self.failed}. To do: {rule.remedy}, then repair again"
        return rule.repair if self.repairable and rule.repair else rule.remedy
