"""Every way a run can go: each activity of each operation, times each fault, and the ends that the rules allow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from tests.workflows.every_way.rules import ON_CONTROLLED_LINES, ON_SUSPENDED_LINES, OPERATIONS
from tests.workflows.every_way.rules.controlled_lines import CALLS
from tests.workflows.every_way.rules.findings import findings
from tests.workflows.every_way.rules.rule import CLOSE, OPEN, PREVIOUS, VERIFY, Facts, Flow, Rule

__all__ = ["CASES", "CONTROLLED_CASES", "ENDINGS", "FLOWS", "SUSPENDED_CASES", "Case", "End", "Fault", "Lines"]


OF_REPLACEMENTS = ("begin_replacement", "revoke_replaced_addresses", "release_replaced_addresses")
"""The steps that renumber and change_addressing share."""


class Fault(Enum):
    """What goes wrong at an activity. `words` is what the table calls it; `family` is what a history is named after."""

    def __init__(self, words: str, family: str, decision: str = "") -> None:
        self.words = words
        self.family = family
        self.decision = decision
        """What the operator says where the run parks."""

    REFUSED = "refused", "refused", "retry_step"
    USED_UP = "retries used up", "retries_used_up", "skip_step"
    GIVEN_UP = "refused, given up", "refused", "abandon"
    LOST_BEFORE = "worker lost before", "worker_lost"
    LOST_MIDWAY = "worker lost uncommitted", "worker_lost"
    LOST_BETWEEN = "worker lost between commits", "worker_lost"
    LOST_AFTER = "worker lost unreported", "worker_lost"
    CANCEL_BEFORE = "cancel before", "cancel"
    CANCEL_DURING = "cancel during", "cancel"
    CANCEL_AFTER = "cancel after", "cancel"
    CANCEL_RACING = "cancel racing completion", "cancel_racing"
    UNDO_CANCELLED = "undo: second cancel", "second_cancel"
    UNDO_OF_FAILURE_CANCELLED = "undo: first cancel", "cancel_while_undone"
    UNDO_ONCE = "undo: fails once", "undo_fails_once"
    UNDO_LOST = "undo: worker lost", "undo_worker_lost"
    UNDO_RETRIED = "undo: parks, retried", "undo_fails", "retry_step"
    UNDO_SKIPPED = "undo: parks, skipped", "undo_fails", "skip_step"
    UNDO_ABANDONED = "undo: parks, abandoned", "undo_fails", "abandon"
    TAKEOVER_UNREPORTED = "take-over: no reply, cancel", "takeover_unreported"
    """A run is terminated before the activity. The reply to the next order's opening is lost, and a cancel comes."""
    TAKEOVER_UNFINISHED = "take-over: worker lost, cancel", "takeover_unfinished"
    """The same, and the worker is lost in the first workflow task of the same order again."""
    DEVICE_WAITS = "device waits", "device_waits"
    DEVICE_NOT_SEEN = "device not seen", "device_waits"
    CONTROLLER_AWAY_ONCE = "controller away once", "controller"
    CONTROLLER_UNREPORTED = "controller: no reply", "controller"
    """The device follows, and the first answer of the controller is lost."""
    CONTROLLER_AWAY = "controller away", "controller"
    CONTROLLER_REFUSES = "controller refuses", "controller"
    DEVICE_AMBIGUOUS = "device ambiguous", "controller"
    UNDO_WAITS = "undo: device waits", "undo_waits"

    @property
    def of_undo(self) -> bool:
        return self.name.startswith("UNDO")

    @property
    def takes_over(self) -> bool:
        return self.name.startswith("TAKEOVER")

    @property
    def of_controller(self) -> bool:
        return self.name.startswith(("CONTROLLER", "DEVICE")) or self is Fault.UNDO_WAITS

    @property
    def passes(self) -> bool:
        """Whether a repeated call to the controller succeeds."""
        return self in (Fault.CONTROLLER_AWAY_ONCE, Fault.CONTROLLER_UNREPORTED)

    @property
    def warns(self) -> bool:
        """Whether the controller has accepted the call, and the device has yet to follow."""
        return self in (Fault.DEVICE_WAITS, Fault.DEVICE_NOT_SEEN)

    @property
    def is_cancel(self) -> bool:
        return self.name.startswith("CANCEL")

    @property
    def loses_worker(self) -> bool:
        return "LOST" in self.name


@dataclass(frozen=True)
class End:
    """How a run may end, and what it leaves."""

    status: str
    """Of the order's result; "not begun" where there is none."""
    run: str
    """Temporal's status of the run."""
    order: str | None
    """The status in the order's row; None: no row."""
    steps: dict[str, frozenset[str | None]]
    """The outcomes that each step may have."""
    facts: Facts
    findings: dict[str, int]
    """Of the audit, by invariant."""
    because: str = ""
    """What the reason begins with."""
    parked: tuple[str, ...] = ()
    """Where the run waited for an operator, in order."""
    untouched: bool = False
    """Every row is what it was before."""
    late_cancel: bool = False
    """The result says that a cancel came too late."""


class Lines(Enum):
    """What the lines of the cases have in common."""

    IN_SERVICE = ""
    SUSPENDED = "suspended"
    CONTROLLED = "controlled"
    """In service, with controllers of their devices."""


FLOWS: Mapping[Lines, Mapping[str, Flow]] = {
    Lines.IN_SERVICE: OPERATIONS,
    Lines.SUSPENDED: ON_SUSPENDED_LINES,
    Lines.CONTROLLED: ON_CONTROLLED_LINES,
}
"""`resume` needs a suspended line, and is among the operations on lines in service."""


@dataclass(frozen=True)
class Case:
    """One run: this operation, with this fault at this activity."""

    operation: str
    activity: str
    fault: Fault
    lines: Lines = Lines.IN_SERVICE

    def __str__(self) -> str:
        name = f"{self.operation}-{self.activity}-{self.fault.name.lower()}"
        return f"{self.lines.value}-{name}" if self.lines.value else name

    @property
    def flow(self) -> Flow:
        return FLOWS[self.lines][self.operation]

    @property
    def rule(self) -> Rule | None:
        """The step's; None for the opening and the closing of the order."""
        return next((step for step in self.flow.steps if step.name == self.activity), None)

    @property
    def repeats(self) -> bool:
        """Whether an earlier operation of the same shape has the same case: changes open, begin and close
        alike, and two of them replace prefixes."""
        if self.activity not in (OPEN, VERIFY, CLOSE, *OF_REPLACEMENTS) or not self.flow.after:
            return False
        shape = [name for name, flow in OPERATIONS.items() if flow.after and bool(flow.pivot) == bool(self.flow.pivot)]
        return any(self.activity in OPERATIONS[name].activities for name in shape[: shape.index(self.operation)])

    @property
    def asks_controller(self) -> bool:
        """Whether the step asks a controller."""
        return self.lines is Lines.CONTROLLED and self.activity in CALLS

    @property
    def previous(self) -> str:
        """The activity before this one."""
        return self.flow.activities[self.flow.activities.index(self.activity) - 1]

    @property
    def last(self) -> str:
        """The last step that can be taken back: what fails where the fault is an undo's."""
        return self.flow.before_pivot[-1].name

    @property
    def undo(self) -> str:
        """The activity that takes this one back."""
        assert self.rule is not None
        assert self.rule.undo is not None
        return self.rule.undo.activity

    @property
    def applies(self) -> bool:
        """Whether there is such a thing: no undo fails that there is not, and nothing parks that rolls back."""
        if self.fault.of_controller and not self.asks_controller:
            return False
        if self.fault.of_undo:
            return self.rule is not None and self.rule.undo is not None
        if self.fault.takes_over:
            return self.activity != OPEN
        if self.fault is Fault.GIVEN_UP:
            return self.rule is not None and self.flow.is_forward_only(self.activity)
        if self.fault is Fault.USED_UP and self.rule is None:
            return False  # the opening is tried without end; no closing can be skipped
        if self.fault is Fault.CANCEL_AFTER and self.activity == OPEN:
            return False  # it ends with the first steps
        if self.fault is Fault.LOST_BETWEEN:
            # The session's end, on the wire, lies between the two transactions of this one.
            return self.activity in ("revoke_ipv6_lifecycle", "revoke_replaced_addresses")
        return True

    @property
    def ends(self) -> tuple[End, ...]:
        """The ends that the rules allow; only races have more than one."""
        fault = self.fault
        if fault.takes_over:
            return (self._taken_over(),)
        if fault.of_undo:
            return (self._rolled_back(self.last),)
        if fault.loses_worker or fault.passes or fault.warns:
            return (self._forward(),)
        if fault.is_cancel:
            return self._cancelled()
        if self.activity == OPEN:
            steps = dict.fromkeys((step.name for step in self.flow.steps), frozenset([None]))
            return (End("not begun", "FAILED", None, steps, self.flow.begins_with, {}),)
        best_effort = self.rule is not None and self.rule.best_effort
        if not best_effort and not self.flow.is_forward_only(self.activity):
            return (self._rolled_back(self.activity),)
        return (self._forward(self.activity),)

    @property
    def _waiting(self) -> dict[str, int]:
        """What the controllers have to say at the end."""
        return {"device waits": 1} if self.fault.warns or self.fault is Fault.UNDO_WAITS else {}

    def _cancelled(self) -> tuple[End, ...]:
        """A cancel is followed up to the point of no return. After it the result says so, if it is not too late even
        for that. The activity before and the activity that the cancel comes in can be one workflow task."""
        at = self.flow.activities.index(self.activity)
        pivot = self.flow.activities.index(self.flow.pivot or CLOSE)
        followed = at < pivot or (at == pivot and self.fault is Fault.CANCEL_BEFORE)
        forward = replace(self._forward(), late_cancel=self.fault is not Fault.CANCEL_RACING)
        if self.fault is Fault.CANCEL_RACING:
            return (self._rolled_back(), forward) if followed else (forward,)
        return (self._rolled_back(),) if followed else (forward,)

    def _taken_over(self) -> End:
        """What has no way back goes to its end, wherever the run before was terminated. The rest is taken back."""
        if self.flow.pivot:
            forward = self._forward()
            steps = dict.fromkeys(forward.steps, frozenset[str | None](["done", "skipped"]))
            return replace(forward, steps=steps, late_cancel=True)
        steps = dict.fromkeys(
            (rule.name for rule in self.flow.steps), frozenset[str | None]([None, "undone", "failed"])
        )
        steps |= {rule.name: steps[rule.name] | {rule.says} for rule in self.flow.steps if rule.undo is None}
        return self._end_of_rollback("rolled_back", "", steps, self.flow.begins_with)

    def _forward(self, failing: str = "") -> End:
        """To the end of the flow, with an operator's word on what fails."""
        facts, steps, parked = self.flow.begins_with, {}, []
        abandoned = warned = False
        for rule in self.flow.steps:
            fails = rule.name == failing or not rule.can(facts)
            parks = fails and not rule.best_effort
            if parks and not abandoned:
                parked.append(rule.name)
            if abandoned:
                steps[rule.name] = frozenset[str | None]([None])
            elif parks and self.fault.decision != "retry_step":
                steps[rule.name] = frozenset[str | None](["failed"])
                abandoned = self.fault.decision == "abandon"
                warned = True
            elif rule.name == self.activity and self.fault.warns:
                steps[rule.name] = frozenset[str | None](["warned"])
                facts = rule.after(facts)
                warned = True
            elif fails and rule.best_effort:
                steps[rule.name] = frozenset[str | None](["warned"])
                warned = True
            else:
                steps[rule.name] = frozenset[str | None](["skipped" if rule.idles(facts) else rule.says])
                facts = rule.after(facts)
        if failing == CLOSE:
            parked.append(CLOSE)
        status = "abandoned" if abandoned else "degraded" if warned else "completed"
        if not abandoned:
            facts = frozenset(fact for fact in facts if not fact.startswith(PREVIOUS))
        return End(
            status,
            "FAILED" if abandoned else "COMPLETED",
            status,
            steps,
            facts,
            findings(self.operation, status, facts, self.flow.begins_with) | self._waiting,
            because=failing if abandoned else "",
            parked=tuple(parked),
        )

    def _rolled_back(self, failing: str = "") -> End:
        """Everything taken back, last first. Without `failing` because of a cancel."""
        if self.fault.of_undo:
            return self._undone(failing)
        steps: dict[str, frozenset[str | None]] = {}
        at = self.flow.activities.index(failing or self.activity)
        for index, rule in enumerate(self.flow.steps, 1):
            taken_back = "undone" if rule.undo else rule.says
            if rule not in self.flow.before_pivot:
                steps[rule.name] = frozenset([None])
            elif failing:
                steps[rule.name] = frozenset([taken_back if index < at else "failed" if index == at else None])
            elif index < at - 1:
                steps[rule.name] = frozenset([taken_back])
            elif index == at - 1:  # which a cancel that comes before the next one can still reach
                steps[rule.name] = frozenset([taken_back, "failed"])
            else:  # a cancel can be heard a few steps later than it was sent
                steps[rule.name] = frozenset([None, taken_back, "failed"])
        return self._end_of_rollback("rolled_back", failing, steps, self.flow.begins_with)

    def _undone(self, failing: str) -> End:
        """All before the pivot was done and is taken back, with an operator's word on what cannot be."""
        facts = self.flow.begins_with
        steps = {rule.name: frozenset[str | None]([None]) for rule in self.flow.steps}
        for rule in self.flow.before_pivot:
            facts = rule.after(facts)
            steps[rule.name] = frozenset([rule.says])
        if self.fault is Fault.UNDO_CANCELLED:
            steps[failing] |= {"failed"}
            failing = ""
        else:
            steps[failing] = frozenset(["failed"])
        parked: list[str] = []
        status = "rolled_back"
        for rule in reversed([rule for rule in self.flow.before_pivot if rule.undo]):
            if (rule.name == self.activity and self.fault.decision) or not rule.can_undo(facts):
                parked.append(rule.name)
                if self.fault.decision != "retry_step":
                    steps[rule.name] = frozenset(["undo_failed"])
                if self.fault.decision == "abandon":
                    return self._end_of_rollback("abandoned", failing, steps, facts, parked)
                if self.fault.decision == "skip_step":
                    status = "partly_rolled_back"
                    continue
            facts = rule.undone(facts)
            steps[rule.name] = steps[rule.name] - {rule.says} | ({"undone"} if rule.says in steps[rule.name] else set())
        return self._end_of_rollback(status, failing, steps, facts, parked)

    def _end_of_rollback(
        self,
        status: str,
        failing: str,
        steps: dict[str, frozenset[str | None]],
        facts: Facts,
        parked: Sequence[str] = (),
    ) -> End:
        return End(
            status,
            "FAILED" if failing or status == "abandoned" else "CANCELED",
            status,
            steps,
            facts,
            findings(self.operation, status, facts, self.flow.begins_with) | self._waiting,
            because=failing or "cancelled",
            parked=tuple(parked),
            # The record of a device that waits says that the device has not followed.
            untouched=facts == self.flow.begins_with and self.fault is not Fault.UNDO_WAITS,
        )


def _every(lines: Lines) -> Iterator[Case]:
    for operation, flow in FLOWS[lines].items():
        for activity in flow.activities:
            for fault in Fault:
                if (case := Case(operation, activity, fault, lines)).applies:
                    yield case


CASES = tuple(_every(Lines.IN_SERVICE))
SUSPENDED_CASES = tuple(_every(Lines.SUSPENDED))
"""The cases of the operations that a suspended line allows too."""
CONTROLLED_CASES = tuple(case for case in _every(Lines.CONTROLLED) if case.asks_controller)
"""The cases of the steps on devices that have controllers."""


_FAMILIES_OF_CHANGES = {"refused", "worker_lost", "cancel"}
"""Which endings of a change are recorded. The saga sends the same commands for every operation."""


def _endings() -> Iterator[tuple[str, Case]]:
    """Each way to end, by a name that tells it, and the last step that ends so: the longest history."""
    for case in sorted(CASES, key=lambda case: case.rule is not None):
        change = case.operation not in ("provision", "deprovision")
        if len(case.ends) == 1 and not (change and case.fault.family not in _FAMILIES_OF_CHANGES):
            end = case.ends[0]
            parked = f"parked_{case.fault.decision}_" if end.parked else ""
            yield f"{case.operation}_{case.fault.family}_{parked}{end.status}".replace(" ", "_"), case


ENDINGS = dict(_endings())
