"""Processes that tests start can be interrupted, whatever the runner does with signals."""

import subprocess
import sys
from pathlib import Path

HANDLER = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"


def test_child_process_gets_the_default_handler_of_ctrl_c() -> None:
    assert subprocess.check_output([sys.executable, "-c", HANDLER], text=True) == "True\n"


def test_child_process_of_a_runner_that_ignores_ctrl_c_gets_the_default_handler() -> None:
    ignoring = 'trap "" INT; exec "$@"'  # as `nohup make test &` from a script does
    test = f"{__file__}::{test_child_process_gets_the_default_handler_of_ctrl_c.__name__}"
    ran = subprocess.run(
        ["sh", "-c", ignoring, "sh", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
