"""The demo as a newcomer meets it: once, again, and cut off in the middle."""

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, interrupted, until


def _demo(alone: Cli, state: Path, temporal_program: Path) -> Cli:
    """A stack of its own, in a directory that other logins may enter, as PostgreSQL's does."""
    path = f"{temporal_program.parent}{os.pathsep}{os.environ['PATH']}"
    return alone.but(LASTMILE_STATE_DIR=str(state), PATH=path, TEMPORAL_ADDRESS=None)


@pytest.mark.freeradius_required
async def test_cut_off_and_again(alone: Cli, server_directory: Path, temporal_program: Path) -> None:
    demo = _demo(alone, server_directory / "demo", temporal_program)
    first = await demo.start("demo")
    await until(first.stdout, "S-1001 is taken down again")
    cut_off = await interrupted(first)
    assert cut_off.code == 130
    assert "`lastmile demo` goes on where this one stopped" in cut_off.out

    second = await demo("demo")
    assert second.code == 0, second.out + second.err
    assert "O-1002, O-1003, O-1004, O-1005: ended on" in second.out
    assert "WRONG" not in second.out
    assert second.out.count("Access-Accept") == second.out.count(" right") == 5
    assert "acknowledged the Disconnect-Request for session demo-" in second.out
    assert "The next login gets Access-Reject without any address." in second.out
    assert "nobody else gets it before" in second.out

    third = await demo("demo")
    assert third.code == 0, third.out + third.err
    assert "comes out of quarantine for it" in third.out
    assert "/namespaces/default/workflows/subscriber%2Facme%2FS-1001/" in third.out
    assert not (server_directory / "demo" / "stack.env").exists()
