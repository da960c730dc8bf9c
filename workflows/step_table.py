"""The step table that an operator sees as a run's current details in the Temporal UI. Markdown."""

from lastmile.contract import Parked, Progress, StepResult
from lastmile.contract.results import StepOutcome
from lastmile.fields.unsafe import escape

__all__ = ["step_table"]

_MARKS = {
    StepOutcome.DONE: "✅ done",
    StepOutcome.SKIPPED: "➖ skipped",
    StepOutcome.WARNED: "⚠️ warned",
    StepOutcome.FAILED: "❌ failed",
    StepOutcome.UNDONE: "↩️ undone",
    StepOutcome.UNDO_FAILED: "❌ undo failed",
}


def step_table(progress: Progress) -> str:
    """Return the table of steps with their outcomes, and what the run waits for: a time, or an operator."""
    heading = f"**{progress.operation} {progress.order_id}**: {progress.status.replace('_', ' ')}"
    if progress.result is not None:
        heading = f"**{progress.operation} {progress.order_id}**: {progress.result.status.replace('_', ' ')}"
        heading += f" ({_cell(progress.result.reason)})" if progress.result.reason else ""
    lines = [heading, ""]
    if progress.parked is not None:
        lines += [
            f"> **{_cell(progress.attention)}**",
            f"> Parked since {progress.parked.since:%Y-%m-%d %H:%M:%S} UTC. {_tries(progress.parked)}",
            '> Decide by an update with `{"by": "…", "why": "…"}`: `retry_step` once the cause is repaired, '
            "`skip_step` if it has been done by hand, `abandon` to leave all as it is.",
            "",
        ]
    if progress.waits_until is not None:
        lines += [f"> Waits until {progress.waits_until:%Y-%m-%d %H:%M:%S} UTC before the next step.", ""]
    lines += ["| step | outcome | tries | seconds | |", "|---|---|---|---|---|"]
    lines += [_row(outcome, progress.step) for outcome in progress.steps]
    return "\n".join(lines)


def _row(step: StepResult, current: str | None) -> str:
    ahead = "▶️ now" if step.step == current else ""
    mark = ahead if step.outcome is None else _MARKS[step.outcome]
    seconds = "" if step.seconds is None else f"{step.seconds:.2f}"
    return f"| {step.step} | {mark} | {step.attempts or ''} | {seconds} | {_cell(step.reason)} |"


def _tries(parked: Parked) -> str:
    if parked.attempts is None:
        return "The number of attempts is unknown."
    return "It was tried once." if parked.attempts == 1 else f"It was tried {parked.attempts} times."


def _cell(text: str) -> str:
    return escape(text.replace("\n", " ")).replace("|", "\\|")
