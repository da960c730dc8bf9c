"""Tests of Prometheus as a server of the stack."""

from pathlib import Path

import pytest

from lastmile.devstack.ports import Ports
from lastmile.devstack.prometheus import Prometheus, PrometheusMissingError, Sample, find_prometheus
from tests.support.processes import until


@pytest.mark.prometheus_required
async def test_prometheus_scrapes_and_reports_an_invalid_query(state: Path) -> None:
    port = Ports(state).claim("Prometheus")
    async with Prometheus(state, targets=["127.0.0.1:1"], port=port, interval=0.2) as prometheus:
        assert await prometheus.query("1 + 1") == [Sample({}, 2)]
        assert await prometheus.query("vector(3)") == [Sample({}, 3)]
        (target,) = await until(lambda: prometheus.query("up"))
        assert target.labels["job"] == "lastmile"
        assert target.value == 0  # no server listens there
        with pytest.raises(ValueError, match="unclosed left parenthesis"):
            await prometheus.query("rate(")


def test_find_prometheus_without_the_program_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PrometheusMissingError, match="apt install prometheus"):
        find_prometheus()
