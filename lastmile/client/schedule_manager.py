"""The Temporal Schedules of what runs by itself: how they come to be, how they stand, and how they are held.

A worker makes them when it starts, and brings them up to date where nobody has changed them by hand: what a person set
(a time, a policy, an input, a pause) stays. To know the one from the other, a Schedule's action carries in its memo a
digest of the times and of the policy that Lastmile wrote last.
"""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any

import structlog
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.errors import NotPausedError, UnknownScheduleError
from lastmile.client.schedules import SCHEDULES, Plan
from lastmile.encryption.codec import EncryptionCodec, encode_unencrypted
from lastmile.encryption.keys import DecryptionError

__all__ = ["CreateOutcome", "ScheduleManager", "ScheduleStatus"]

WRITTEN = "lastmile_written"
"""In the memo of the action: the digests of what Lastmile wrote last. In plain, as is what they are of."""

TOLD = 5
SHOWS = 0.2
"""Seconds until what a Schedule was told shows, mostly at once."""

log = structlog.get_logger("lastmile.schedules")


class CreateOutcome(StrEnum):
    """What a worker did to a Schedule when it started."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """A person has changed its times or its policy: those stay as they are."""


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """A Schedule as it stands."""

    name: str
    id: str
    note: str
    """What it is for; while it is paused, why."""
    paused: bool
    next_at: datetime | None
    running: Sequence[str]
    """Workflow ids of the runs that it has started and that have not ended."""
    last_at: datetime | None
    """When it last started one."""
    last_run: str | None
    """Its workflow id."""
    missed: int
    """How often its time passed without a run, because the server was away."""
    skipped: int
    """How often the last run still ran."""


class ScheduleManager:
    """The schedules of the Lastmile whose workers poll `task_queue`."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    def id_of(self, name: str) -> str:
        """Two Lastmiles in one namespace each have their own."""
        return f"{self._task_queue}/{name}"

    async def make(self, plan: Plan) -> CreateOutcome:
        """See that the Schedule is there and as `plan` says, but for what a person has changed."""
        try:
            await self._client.create_schedule(
                self.id_of(plan.name),
                Schedule(
                    action=self._action(plan, _digests(plan.parts)),
                    state=ScheduleState(note=plan.note),
                    **plan.parts,
                ),
                trigger_immediately=plan.at_once,
            )
        except ScheduleAlreadyRunningError:
            return await self._update(plan)
        return CreateOutcome.CREATED

    async def _update(self, plan: Plan) -> CreateOutcome:
        made = CreateOutcome.UNCHANGED

        async def updated(found: ScheduleUpdateInput) -> ScheduleUpdate | None:
            nonlocal made
            there = found.description.schedule
            assert isinstance(there.action, ScheduleActionStartWorkflow)
            ours, theirs = plan.parts, {"spec": there.spec, "policy": there.policy}
            written = await self._written(plan, there.action)
            # Each for itself: who moved the time of day still gets a new policy.
            untouched = {name for name in ours if _digest(theirs[name]) == written.get(name)}
            wanted: Any = {name: ours[name] if name in untouched else theirs[name] for name in ours}
            written |= {name: said for name, said in _digests(ours).items() if name in untouched}
            action = self._action(plan, written, self._renewed(there.action))
            if _says(action) == _says(there.action) and _digests(wanted) == _digests(theirs):
                made = CreateOutcome.UNCHANGED if untouched == ours.keys() else CreateOutcome.KEPT
                return None
            made = CreateOutcome.UPDATED
            return ScheduleUpdate(Schedule(action=action, state=there.state, **wanted))

        await self._handle(plan.name).update(updated)
        return made

    async def _written(self, plan: Plan, action: ScheduleActionStartWorkflow) -> dict[str, str]:
        """The digests of what Lastmile wrote last, by part.

        Where nobody can read them any more: of what it writes now. What differs from that may be a person's, and stays.
        """
        payload = (action.memo or {}).get(WRITTEN)
        if not isinstance(payload, Payload):
            return _digests(plan.parts)
        try:
            return dict((await self._client.data_converter.decode([payload]))[0])
        except DecryptionError as failure:
            log.warning("schedule.not_decrypted", schedule=action.id, what="memo", reason=str(failure))
            return _digests(plan.parts)

    def _renewed(self, action: ScheduleActionStartWorkflow) -> list[Any]:
        """A person's input, encrypted with the newest key; where nobody can read it, as it is."""
        args = list(action.args)
        codec = self._client.data_converter.payload_codec
        if not isinstance(codec, EncryptionCodec):
            return args
        try:
            return [codec.reencrypt(payload) for payload in args]
        except DecryptionError as failure:
            log.warning("schedule.not_decrypted", schedule=action.id, what="input", reason=str(failure))
            return args

    def _handle(self, name: str) -> ScheduleHandle:
        return self._client.get_schedule_handle(self.id_of(name))

    def _action(self, plan: Plan, written: dict[str, str], args: Sequence[Any] = ()) -> ScheduleActionStartWorkflow:
        action = ScheduleActionStartWorkflow(
            plan.workflow,
            args=args,
            id=self.id_of(plan.name),
            task_queue=self._task_queue,
            memo={WRITTEN: encode_unencrypted(written)},
        )
        action.static_summary = encode_unencrypted(plan.note)  # as the Schedule's own note
        return action

    async def standing(self, plan: Plan) -> ScheduleStatus:
        """How it stands. Raises `UnknownScheduleError`."""
        return _standing(plan, await self._describe(plan.name))

    async def trigger(self, name: str) -> Sequence[str]:
        """Start a run now, paused or not; return the id of a run that is under way. Raises `UnknownScheduleError`."""
        running = _running(await self._describe(name))
        if not running:
            await self._handle(name).trigger()
        return running

    async def pause(self, name: str, why: str) -> bool:
        """Start no runs until `resume`; False where paused already. Raises `UnknownScheduleError`, `NotPausedError`."""
        return await self._hold(name, True, why)

    async def resume(self, name: str) -> bool:
        """Go on; False where it is not paused. Raises `UnknownScheduleError`, `NotPausedError`."""
        return await self._hold(name, False, _plan(name).note)

    async def _hold(self, name: str, paused: bool, note: str) -> bool:
        """Told until it shows; False where it shows already.

        Of a pause and an update of the same moment Temporal does the pause first, and the update undoes it.
        """
        handle = self._handle(name)
        for told in range(TOLD + 1):
            if (await self._describe(name)).schedule.state.paused is paused:
                return told > 0
            await (handle.pause(note=note) if paused else handle.unpause(note=note))
            await asyncio.sleep(SHOWS)
        raise NotPausedError(f"schedule {self.id_of(name)} was told {TOLD} times and does not show it: try again")

    async def _describe(self, name: str) -> ScheduleDescription:
        try:
            return await self._handle(name).describe()
        except RPCError as failure:
            if failure.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise UnknownScheduleError(
                f"schedule {self.id_of(name)} is not there: a worker makes it when it starts"
            ) from None


def _plan(name: str) -> Plan:
    return next(plan for plan in SCHEDULES if plan.name == name)


def _running(found: ScheduleDescription) -> list[str]:
    return [
        action.workflow_id
        for action in found.info.running_actions
        if isinstance(action, ScheduleActionExecutionStartWorkflow)
    ]


def _standing(plan: Plan, found: ScheduleDescription) -> ScheduleStatus:
    info = found.info
    last = info.recent_actions[-1] if info.recent_actions else None
    run = last.action if last else None
    return ScheduleStatus(
        name=plan.name,
        id=found.id,
        note=found.schedule.state.note or plan.note,
        paused=found.schedule.state.paused,
        next_at=info.next_action_times[0] if info.next_action_times else None,
        running=_running(found),
        last_at=last.started_at if last else None,
        last_run=run.workflow_id if isinstance(run, ScheduleActionExecutionStartWorkflow) else None,
        missed=info.num_actions_missed_catchup_window,
        skipped=info.num_actions_skipped_overlap,
    )


def _says(action: ScheduleActionStartWorkflow) -> tuple[Any, ...]:
    """What of it Lastmile writes, and the input."""
    return action.workflow, list(action.args), dict(action.memo or {}), action.static_summary


def _digests(parts: dict[str, Any]) -> dict[str, str]:
    return {name: _digest(part) for name, part in parts.items()}


def _digest(part: object) -> str:
    return hashlib.sha256(json.dumps(_said(part), sort_keys=True).encode()).hexdigest()[:16]


def _said(value: Any) -> Any:
    """What a part of a Schedule says beyond the defaults: a later SDK's new field does not make it another one."""
    if is_dataclass(value):
        said = {one.name: getattr(value, one.name) for one in fields(value)}
        default = {
            one.name: one.default_factory() if one.default_factory is not MISSING else one.default
            for one in fields(value)
        }
        return {name: _said(item) for name, item in said.items() if item != default[name]}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_said(item) for item in value]
    return str(value)
