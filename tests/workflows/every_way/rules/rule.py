"""What a rule says about a step, and what a flow says about an operation."""

from dataclasses import dataclass

__all__ = [
    "CLOSE",
    "LINE",
    "NOTHING",
    "OPEN",
    "PREVIOUS",
    "VERIFY",
    "Facts",
    "Flow",
    "Rule",
    "Undo",
    "facts_of",
]

Facts = frozenset[str]
PREVIOUS = "previous values of"
"""The beginning of the facts that a completed order forgets."""
VERIFY = "verify_line"
OPEN, CLOSE = "open_order", "close_order"


@dataclass(frozen=True)
class Undo:
    """What takes a step back."""

    activity: str
    goes: str = ""
    """Facts that are gone after it, separated by commas; default: those that the step brought."""
    comes: str = ""
    stuck_on: str = ""
    """It cannot be while one of these facts is there: the row is still in use."""
    spares_if: str = ""
    """It changes nothing while this fact is there."""


@dataclass(frozen=True)
class Rule:
    """A step: which facts come and go by it, and how it is taken back."""

    name: str
    comes: str = ""
    goes: str = ""
    undo: Undo | None = None
    says: str = "done"
    best_effort: bool = False
    stuck_on: str = ""
    idle_on: str = ""
    """It is skipped while one of these facts is there."""

    def idles(self, facts: Facts) -> bool:
        return bool(facts & facts_of(self.idle_on))

    def after(self, facts: Facts) -> Facts:
        if self.idles(facts):
            return facts
        return facts - facts_of(self.goes) | facts_of(self.comes)

    def undone(self, facts: Facts) -> Facts:
        if self.undo is None or self.undo.spares_if in facts:
            return facts
        happened = not self.comes or facts & facts_of(self.comes)
        return facts - facts_of(self.undo.goes or self.comes) | (facts_of(self.undo.comes) if happened else NOTHING)

    def can(self, facts: Facts) -> bool:
        return self.idles(facts) or not facts & facts_of(self.stuck_on)

    def can_undo(self, facts: Facts) -> bool:
        return self.undo is not None and not facts & facts_of(self.undo.stuck_on)


def facts_of(words: str) -> Facts:
    """Return the facts of a list with commas."""
    return frozenset(words.split(", ") if words else ())


NOTHING: Facts = frozenset()
LINE = facts_of(
    "customer, subscriber, network profile, account, group, slot, prefix active, reply item, "
    "onu in service, cpe in service, billing active"
)


@dataclass(frozen=True)
class Flow:
    """An operation: what it starts from, its steps, and the first step that there is no way back from.

    Without such a step, the order can be taken back until the closing.
    """

    begins_with: Facts
    steps: tuple[Rule, ...]
    pivot: str = ""
    after: tuple[str, ...] = ()
    """The orders that have made the line what the operation starts from."""

    @property
    def activities(self) -> list[str]:
        return [OPEN, *(step.name for step in self.steps), CLOSE]

    @property
    def first(self) -> str:
        return self.steps[0].name

    @property
    def before_pivot(self) -> tuple[Rule, ...]:
        names = [step.name for step in self.steps]
        return self.steps[: names.index(self.pivot)] if self.pivot else self.steps

    def is_forward_only(self, activity: str) -> bool:
        return self.activities.index(activity) >= self.activities.index(self.pivot or CLOSE)
