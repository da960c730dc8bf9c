"""Tests of the dashboards: their panels and queries, and the committed JSON files."""

import json
from typing import Any

import pytest

from grafana.generate import dashboards
from grafana.queries import DIRECTORY, panel_queries

SEED = {
    "State Overview": ["IPv6 Prefix State Distribution", "IPv6 Utilization Rate", "IPv6 Pool Utilization"],
    "Operational Metrics": ["IPv6 Allocation Rate", "IPv6 Revocation Rate"],
    "Health Indicators": [
        "IPv6 Prefix Leaks",
        "NetBox Integration Rate",
        "IPv6 Allocation Duration p95",
        "IPv6 Revocation Duration p95",
    ],
    "Timeline": ["IPv6 Lifecycle State Timeline"],
}
THRESHOLDS = {
    "IPv6 Utilization Rate": [(None, "text"), (0, "red"), (50, "yellow"), (80, "green")],
    "IPv6 Pool Utilization": [(None, "green"), (70, "yellow"), (85, "red")],
    "IPv6 Prefix Leaks": [(None, "green"), (1, "red")],
    "NetBox Integration Rate": [(None, "text"), (0, "red"), (80, "yellow"), (95, "green")],
    "IPv6 Allocation Duration p95": [(None, "green"), (5, "yellow"), (10, "red")],
    "IPv6 Revocation Duration p95": [(None, "green"), (5, "yellow"), (10, "red")],
}


def read(name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((DIRECTORY / name).read_text())
    return made


@pytest.fixture
def lifecycle() -> dict[str, Any]:
    return read("ipv6-lifecycle.json")


def test_dashboard_files_equal_the_generated_ones() -> None:
    committed = {file.name: file.read_text() for file in DIRECTORY.iterdir()}
    assert committed == dashboards(), "run `python -m grafana`"


def test_dashboards_have_the_panels_in_their_rows(lifecycle: dict[str, Any]) -> None:
    rows: dict[str, list[str]] = {}
    for panel in lifecycle["panels"]:
        if panel["type"] == "row":
            titles = rows.setdefault(panel["title"], [])
        else:
            titles.append(panel["title"])
    assert rows == SEED


def test_panels_have_the_thresholds(lifecycle: dict[str, Any]) -> None:
    steps = {
        panel["title"]: [(step["value"], step["color"]) for step in thresholds["steps"]]
        for panel in lifecycle["panels"]
        if (thresholds := panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds"))
    }
    assert steps == THRESHOLDS


@pytest.mark.parametrize("name", ["ipv6-lifecycle.json", "lastmile-platform.json"])
def test_dashboards_have_refresh_range_tenants_and_alerts(name: str) -> None:
    made = read(name)
    assert made["uid"] == name.removesuffix(".json")
    assert (made["refresh"], made["time"]) == ("30s", {"from": "now-24h", "to": "now"})
    tenant = {variable["name"]: variable for variable in made["templating"]["list"]}["tenant"]
    assert tenant["multi"]
    assert tenant["includeAll"]
    (alerts,) = made["annotations"]["list"]
    assert alerts["enable"]
    assert alerts["expr"].startswith('ALERTS{alertstate="firing"')


@pytest.mark.parametrize("name", ["ipv6-lifecycle.json", "lastmile-platform.json"])
def test_panels_fill_their_rows_and_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in read(name)["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


@pytest.mark.parametrize("name", ["ipv6-lifecycle.json", "lastmile-platform.json"])
def test_panel_without_data_is_not_red(name: str) -> None:
    """The first threshold is also the colour of a panel whose query finds nothing."""
    colours = {
        panel["title"]: thresholds["steps"][0]["color"]
        for panel in read(name)["panels"]
        if (thresholds := panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds"))
    }
    assert len(colours) > 5
    assert "red" not in colours.values(), colours


def test_lifecycle_dashboard_queries_select_the_chosen_tenants() -> None:
    queries = list(panel_queries(DIRECTORY / "ipv6-lifecycle.json"))
    assert len(queries) == 13
    for query in queries:
        assert query.expr.count("$tenant") == query.expr.count("{"), query.panel


def test_expression_substitutes_the_variables_of_grafana() -> None:
    query = next(query for query in panel_queries(DIRECTORY / "ipv6-lifecycle.json") if "rate(" in query.expr)
    assert '{tenant=~".*"}[1m]' in query.expression()
    assert '{tenant=~"acme"}[5m]' in query.expression(tenants=("acme",), rate="5m")
    assert '{tenant=~"(acme|a\\\\.b)"}' in query.expression(tenants=("acme", "a.b"))
