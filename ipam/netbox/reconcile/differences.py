"""How NetBox and the database can differ (DESIGN section 4: 4): the kinds, as data, and one such difference."""

from dataclasses import dataclass
from enum import StrEnum

from ipam.netbox.binding import BoundPool
from ipam.netbox.reconcile.expected import Ours

__all__ = ["RULES", "Difference", "DifferenceKind", "Rule"]


class DifferenceKind(StrEnum):
    POOL_MOVED = "pool_moved_in_netbox"
    MISSING = "not_in_netbox"
    ORPHAN = "only_in_netbox"
    MOVED = "moved_in_netbox"
    DRIFT = "drift_in_netbox"
    TWICE = "twice_in_netbox"
    TAKEN = "taken_in_netbox"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is broken by a difference of this kind, and what is done about it."""

    meaning: str
    repair: str
    """What `--repair` does; empty where only a person can decide."""
    remedy: str
    """What a person does where it cannot be repaired."""


RULES: dict[DifferenceKind, Rule] = {
    DifferenceKind.POOL_MOVED: Rule(
        "every pool is in NetBox what it was when it was added",
        "moves it back into its VRF",
        "restore it in NetBox, or let the token's permissions reach it; where it has another id there now, run "
        "`lastmile pool add` again, just as before",
    ),
    DifferenceKind.MISSING: Rule(
        "NetBox has every prefix that is held or rests, and every block",
        "makes it there again",
        "remove from NetBox what is in its way and let the token's permissions reach it, or deprovision the subscriber "
        "and provision it anew",
    ),
    DifferenceKind.ORPHAN: Rule(
        "NetBox has no prefix of Lastmile's that nobody holds",
        "deletes it there",
        "find out who made it; remove it in NetBox if nobody needs it",
    ),
    DifferenceKind.MOVED: Rule(
        "every record in NetBox is where its prefix is",
        "moves it back there",
        "remove from NetBox what is in its way",
    ),
    DifferenceKind.DRIFT: Rule(
        "every record in NetBox says what is true",
        "corrects it there",
        "see what NetBox says against it",
    ),
    DifferenceKind.TWICE: Rule(
        "NetBox has every prefix of Lastmile's once",
        "deletes the second one there",
        "delete the second one in NetBox",
    ),
    DifferenceKind.TAKEN: Rule(
        "nobody else has in NetBox what a subscriber holds",
        "",
        "remove it in NetBox, or deprovision the subscriber and provision it anew",
    ),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that NetBox and the database do not say alike."""

    kind: DifferenceKind
    pool: BoundPool
    subject: str
    """The prefix, in words."""
    words: str
    tenant: str | None
    """None: of a pool that serves every tenant, or a stranger's."""
    netbox_id: int | None = None
    """Of the record that is meant; None where NetBox has none, and we know of none."""
    key: str | None = None
    """That it carries, or should."""
    ours: Ours | None = None
    """What it should show."""
    repairable: bool = True
    failed: str = ""
    """Why the last repair could not be done; empty where none was tried."""

    @property
    def about(self) -> str:
        """What it is about, in each comparison alike."""
        return f"{self.kind} {self.key or self.netbox_id or self.subject}"

    @property
    def promised(self) -> bool:
        """Whether `--repair` is expected to repair it."""
        return self.repairable and not self.failed

    def advice(self, command: str) -> str:
        """What `command`, which ends with `--repair`, does or could not do, or what a person has to do."""
        if self.failed:
            return f"{command} could not: {self.action}"
        return f"{command} {self.action}" if self.promised else self.action

    @property
    def action(self) -> str:
        """What `--repair` does, or what a person has to do."""
        rule = RULES[self.kind]
        if self.failed:
            return f"{self.failed}. To do: {rule.remedy}, then repair again"
        return rule.repair if self.repairable and rule.repair else rule.remedy
