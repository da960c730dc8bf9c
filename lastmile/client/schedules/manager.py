"""Create, update, describe, pause and start the Temporal Schedules of the maintenance workflows.

A worker creates them at its start, and updates the parts that no operator has changed. What an operator set
(a time, a policy, an input, a pause) stays. To tell the two apart, the memo of a Schedule's action has a
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
from lastmile.client.schedules.plans import SCHEDULES, Plan
from lastmile.encryption.codec import EncryptionCodec, encode_unencrypted
from lastmile.encryption.keys import DecryptionError

__all__ = ["CreateOutcome", "ScheduleManager", "ScheduleStatus"]

WRITTEN = "lastmile_written"
"""The memo field of the action with the digests of what Lastmile wrote last. Not encrypted, like its subject."""

ATTEMPTS = 5
PAUSE_SECONDS = 0.2
"""The attempts to pause or resume a Schedule, and the seconds until the change shows."""

log = structlog.get_logger("lastmile.schedules")


class CreateOutcome(StrEnum):
    """What a worker did with a Schedule when the worker started."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """An operator has changed the times or the policy, which stay as they are."""


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """The state of a Schedule."""

    name: str
    id: str
    note: str
    """The purpose; while the Schedule is paused, the reason."""
    paused: bool
    next_at: datetime | None
    running: Sequence[str]
    """The workflow ids of its open runs."""
    last_at: datetime | None
    """The start of its last run."""
    last_run: str | None
    """The workflow id of its last run."""
    missed: int
    """The number of runs that were missed because the server was away."""
    skipped: int
    """The number of runs that were skipped because the run before was still open."""


class ScheduleManager:
    """The Schedules of the Lastmile installation whose workers poll `task_queue`."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    def id_of(self, name: str) -> str:
        """Return the id of the Schedule. Two installations in one namespace have different ids."""
        return f"{self._task_queue}/{name}"

    async def make(self, plan: Plan) -> CreateOutcome:
        """Create the Schedule, or update it to `plan`. Keep the parts that an operator has changed."""
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
            # Part by part: an operator who moved the time of day still gets a new policy.
            untouched = {name for name in ours if _digest(theirs[name]) == written.get(name)}
            merged: Any = {name: ours[name] if name in untouched else theirs[name] for name in ours}
            written |= {name: said for name, said in _digests(ours).items() if name in untouched}
            action = self._action(plan, written, self._renewed(there.action))
            if _says(action) == _says(there.action) and _digests(merged) == _digests(theirs):
                made = CreateOutcome.UNCHANGED if untouched == ours.keys() else CreateOutcome.KEPT
                return None
            made = CreateOutcome.UPDATED
            return ScheduleUpdate(Schedule(action=action, state=there.state, **merged))

        await self._handle(plan.name).update(updated)
        return made

    async def _written(self, plan: Plan, action: ScheduleActionStartWorkflow) -> dict[str, str]:
        """Return the digests of what Lastmile wrote last, by part.

        If no key decrypts them: those of what it writes now. A difference may then be an operator's, and stays.
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
        """Return an operator's input, encrypted with the newest key; unchanged if no key decrypts it."""
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

    async def status(self, plan: Plan) -> ScheduleStatus:
        """Return the state of the Schedule. Raises `UnknownScheduleError`."""
        return _status(plan, await self._describe(plan.name))

    async def trigger(self, name: str) -> Sequence[str]:
        """Start a run now, paused or not; return the id of a run that is under way. Raises `UnknownScheduleError`."""
        running = _running(await self._describe(name))
        if not running:
            await self._handle(name).trigger()
        return running

    async def pause(self, name: str, why: str) -> bool:
        """Start no runs until `resume`. Return False if the Schedule is paused already.

        Raises `UnknownScheduleError` and `NotPausedError`.
        """
        return await self._hold(name, True, why)

    async def resume(self, name: str) -> bool:
        """Start runs again. Return False if it is not paused. Raises `UnknownScheduleError`, `NotPausedError`."""
        return await self._hold(name, False, _plan(name).note)

    async def _hold(self, name: str, paused: bool, note: str) -> bool:
        """Pause or resume, and repeat that until it shows. Return False if the Schedule was so before.

        A pause and an update at the same moment: Temporal does the pause first, and the update undoes the pause.
        """
        handle = self._handle(name)
        for attempt in range(ATTEMPTS + 1):
            if (await self._describe(name)).schedule.state.paused is paused:
                return attempt > 0
            await (handle.pause(note=note) if paused else handle.unpause(note=note))
            await asyncio.sleep(PAUSE_SECONDS)
        raise NotPausedError(f"schedule {self.id_of(name)} did not change after {ATTEMPTS} requests: try again")

    async def _describe(self, name: str) -> ScheduleDescription:
        try:
            return await self._handle(name).describe()
        except RPCError as failure:
            if failure.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise UnknownScheduleError(
                f"schedule {self.id_of(name)} does not exist: a worker creates it at its start"
            ) from None


def _plan(name: str) -> Plan:
    return next(plan for plan in SCHEDULES if plan.name == name)


def _running(found: ScheduleDescription) -> list[str]:
    return [
        action.workflow_id
        for action in found.info.running_actions
        if isinstance(action, ScheduleActionExecutionStartWorkflow)
    ]


def _status(plan: Plan, found: ScheduleDescription) -> ScheduleStatus:
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
    """Return the parts of the Schedule that Lastmile writes, and the input."""
    return action.workflow, list(action.args), dict(action.memo or {}), action.static_summary


def _digests(parts: dict[str, Any]) -> dict[str, str]:
    return {name: _digest(part) for name, part in parts.items()}


def _digest(part: object) -> str:
    return hashlib.sha256(json.dumps(_said(part), sort_keys=True).encode()).hexdigest()[:16]


def _said(value: Any) -> Any:
    """Return the fields that differ from the defaults: a new field of a later SDK must not change the digest."""
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
