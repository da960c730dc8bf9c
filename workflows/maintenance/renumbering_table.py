"""The progress of the renumbering of a pool as Markdown, for the Temporal UI."""

from lastmile.contract.pool_renumbering import STANDING_WORDS, LineStanding, RenumberingProgress
from lastmile.fields.phrases import format_time

__all__ = ["renumbering_table"]


def renumbering_table(progress: RenumberingProgress) -> str:
    """Return the status, the counts and the first problems."""
    until = f" until {format_time(progress.waits_until)}" if progress.waits_until else ""
    left = [f"| {STANDING_WORDS[one]} | {progress.left[one]:,} |" for one in LineStanding if one in progress.left]
    lines = [
        f"**Pool {progress.pool} to pool {progress.target}** ({progress.status}{until})",
        "",
        progress.words,
        "",
        "| lines | |",
        "|---|---|",
        f"| renumbered | {progress.renumbered:,} |",
        f"| failed | {progress.failed:,} |",
        f"| in flight | {progress.in_flight:,} |",
        *(["| at the last count: | |"] if left else []),
        *left,
        "",
        *(f"- {problem}" for problem in progress.problems),
    ]
    return "\n".join(lines)
