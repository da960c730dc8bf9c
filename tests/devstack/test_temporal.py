"""Tests of the dev server and the search for its program."""

import socket
from pathlib import Path

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus

from lastmile.devstack.ports import HOST, PortInUseError, Ports
from lastmile.devstack.temporal import DevTemporal
from lastmile.devstack.temporal_program import TemporalMissingError, find_temporal


async def test_temporal_after_a_restart_has_its_runs_and_ports(state: Path, temporal_program: Path) -> None:
    database = state / "temporal.db"
    async with DevTemporal(state, program=temporal_program, database=database) as first:
        client = await Client.connect(first.address)
        await client.start_workflow("Anything", id="waiting", task_queue="nobody")
    async with DevTemporal(state, program=temporal_program, database=database) as second:
        assert (second.address, second.ui_url) == (first.address, first.ui_url)
        run = await (await Client.connect(second.address)).get_workflow_handle("waiting").describe()
        assert run.status is WorkflowExecutionStatus.RUNNING


async def test_temporal_has_the_search_attributes(temporal_client: Client) -> None:
    listed = await temporal_client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace="default")
    )
    assert {"LastmileTenant", "LastmileOperation", "LastmileStep", "LastmileAttention"} <= set(listed.custom_attributes)


async def test_server_with_an_occupied_port_names_it(state: Path) -> None:
    port = Ports(state).claim("Temporal UI")
    with socket.create_server((HOST, port)), pytest.raises(PortInUseError, match=f"{port}.*Temporal UI"):
        async with DevTemporal(state, program=Path("/never/run"), database=None):
            pass


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remove all programs, the cache and Internet access. Return the directory of PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{closed.getsockname()[1]}")
    return programs


async def test_find_temporal_prefers_the_program_on_the_path(nothing_installed: Path) -> None:
    program = nothing_installed / "temporal"
    program.touch(mode=0o755)
    assert await find_temporal(print) == program


async def test_find_temporal_without_any_source_lists_the_remedies(nothing_installed: Path) -> None:
    said: list[str] = []
    with pytest.raises(TemporalMissingError) as missing:
        await find_temporal(said.append)
    for way in ("TEMPORAL_ADDRESS", "PATH", "temporal.download", "Go"):
        assert way in str(missing.value)
    assert any(line.startswith("Downloading") for line in said)
