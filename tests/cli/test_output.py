"""Output is safe for a terminal, whatever an older record contains."""

import getpass
import io

import pytest
from rich.console import Console

from lastmile.cli.current_user import current_user
from lastmile.cli.output import _Output, fact_table, make_table
from lastmile.contract import Operation, OrderResult, Progress, ResultStatus, RunStatus, StepResult
from workflows.step_table import step_table

UNSAFE = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202eb\0"
ESCAPED = "a\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\u202eb\\x00"


def printed(*renderables: object) -> str:
    written = io.StringIO()
    console: Console = _Output(file=written, width=200, highlight=False, emoji=False)
    console.print(*renderables, markup=False, soft_wrap=True)
    return written.getvalue()


def test_sentence_with_control_characters_is_escaped() -> None:
    without_bell = ESCAPED.replace("\\x07", "")  # Rich leaves that out by itself
    assert printed(f"asked for by {UNSAFE}.\nNext line") == f"asked for by {without_bell}.\nNext line\n"


def test_table_with_control_characters_is_escaped() -> None:
    shown = printed(make_table("", ("who", "what"), [(UNSAFE, "x")]), fact_table("", {"by": UNSAFE}))
    assert shown.count(ESCAPED) == 2
    assert not set(shown) & set(UNSAFE) - set(ESCAPED)


def test_cell_with_a_line_feed_of_an_older_record_forges_no_row() -> None:
    forged = "moved away\nS-2  active"
    for shown in (make_table("", ("who", "reason"), [("S-1", forged)]), fact_table("", {"reason": forged})):
        assert "moved away\\x0aS-2  active" in printed(shown)


def test_cell_of_several_lines_has_each_on_its_own() -> None:
    shown = printed(make_table("", ("who", "addresses"), [("S-1", ["192.0.2.1", "a\nb"])]))
    assert [line.split() for line in shown.splitlines()[2:]] == [["S-1", "192.0.2.1"], ["a\\x0ab"]]


def test_step_table_of_the_temporal_ui_is_escaped() -> None:
    result = OrderResult(
        operation=Operation.PROVISION,
        tenant="acme",
        order_id="O-1",
        subscriber_ref="S-1",
        status=ResultStatus.ROLLED_BACK,
        reason=UNSAFE,
    )
    steps = [StepResult(step="create_customer", reason=f"{UNSAFE}|\nx")]
    progress = Progress(
        operation=Operation.PROVISION, order_id="O-1", status=RunStatus.ENDED, steps=steps, result=result
    )
    shown = step_table(progress)
    assert shown.count(ESCAPED) == 2
    assert f"{ESCAPED}\\| x" in shown


def test_actor_of_an_unsafe_login_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", UNSAFE.replace("\0", ""))
    assert getpass.getuser() != current_user() == ESCAPED.removesuffix("\\x00")
