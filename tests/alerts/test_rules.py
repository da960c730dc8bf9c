"""Every alert has a description and a runbook that are correct, and its rule fires when it should."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from ipam.netbox import errors
from lastmile.cli.app import app
from lastmile.devstack.prometheus import ALERTS, JOB, RULES

ROOT = Path(__file__).parents[2]
RUNBOOKS = (ROOT / "docs" / "operations" / "runbooks.md").read_text()
CASES = sorted((ALERTS / "tests").glob("*.yml"))


@dataclass(frozen=True)
class Alert:
    name: str
    text: str

    @property
    def severity(self) -> str:
        (severity,) = re.findall(r"labels: {severity: (critical|warning)}", self.text)
        return severity


def alerts() -> Iterator[Alert]:
    for file in RULES:
        for block in file.read_text().split("- alert: ")[1:]:
            name = block.split("\n", 1)[0]
            yield Alert(name, block.split("- name:")[0])


ALL = list(alerts())
each_alert = pytest.mark.parametrize("alert", ALL, ids=lambda alert: alert.name)


def promtool(*arguments: str | Path, directory: str = "") -> str:
    environment = os.environ | ({"TMPDIR": directory} if directory else {})
    ran = subprocess.run(
        ["promtool", *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.prometheus_required
def test_each_case_fires_or_not_with_these_words(server_directory: Path) -> None:
    promtool("test", "rules", *CASES, directory=str(server_directory))  # it writes a database for each case


@pytest.mark.prometheus_required
def test_configuration_of_prometheus_is_valid() -> None:
    said = promtool("check", "config", ALERTS / "prometheus.yml")
    assert "2 rule files found" in said
    assert f"job_name: {JOB}\n" in (ALERTS / "prometheus.yml").read_text()


@each_alert
def test_alert_has_cases_that_fire_and_that_do_not(alert: Alert) -> None:
    cases = "\n".join(file.read_text() for file in CASES)
    expected = re.findall(rf"alertname: {alert.name}\n +exp_alerts:(.*)\n", cases)
    assert "" in expected, "none fires"
    assert " []" in expected, "all fire"


@each_alert
def test_each_severity_of_it_has_a_case_that_fires(alert: Alert) -> None:
    fired = [block for file in CASES for block in file.read_text().split("alertname: ") if block.startswith(alert.name)]
    assert any(f"severity: {alert.severity}" in block for block in fired)


@each_alert
def test_alert_has_a_description_and_a_runbook_link(alert: Alert) -> None:
    annotations = re.findall(r"^ {10}(\w+): (.+)$", alert.text, re.M)
    assert [name for name, _ in annotations] == ["summary", "description", "runbook_url"]
    anchor = alert.name.lower()
    assert annotations[2][1] == f"'{{{{ $externalLabels.runbooks }}}}#{anchor}'"


@each_alert
def test_runbook_of_the_alert_is_complete(alert: Alert) -> None:
    (entry,) = re.findall(rf"^### {alert.name}\n\n(.*?)(?=^##|\Z)", RUNBOOKS, re.M | re.S)
    severities = {other.severity for other in ALL if other.name == alert.name}
    assert entry.split("\n", 1)[0] == ", ".join(sorted(severities))
    assert re.findall(r"^- \*\*(\w+)\*\*: ", entry, re.M) == ["Means", "Look", "Do"]


def test_every_runbook_belongs_to_an_alert() -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOKS, re.M)) == {alert.name for alert in ALL}


@pytest.mark.parametrize("file", [*RULES, *CASES], ids=lambda file: file.name)
def test_failure_of_netbox_in_a_rule_or_case_is_an_error_type(file: Path) -> None:
    series = re.findall(r"lastmile_netbox_errors_total{([^}]*)}", file.read_text())
    named = {kind for one in series for kinds in re.findall(r'kind[=!~]+"([^"]+)"', one) for kind in kinds.split("|")}
    assert named <= set(errors.__all__)


def commands(text: str) -> list[list[str]]:
    """Every `lastmile …` in a text, as words."""
    return [quoted.split()[1:] for quoted in re.findall(r"`(lastmile\s[^`]+)`", text)]


def test_commands_of_the_runbook_exist() -> None:
    named = commands(RUNBOOKS + "".join(alert.text for alert in ALL))
    assert len(named) > 20
    for words in named:
        command = typer.main.get_command(app)
        while isinstance(command, TyperGroup):
            assert words[0] in command.commands, f"lastmile {' '.join(words)}"
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, words


def test_panels_of_the_runbook_exist() -> None:
    titles = "".join(file.read_text() for file in (ROOT / "grafana" / "dashboards").iterdir())
    named = re.findall(r"dashboard's ((?:\*[^*]+\*(?:, | and )?)+)", RUNBOOKS)
    panels = {" ".join(panel.split()) for group in named for panel in re.findall(r"\*([^*]+)\*", group)}
    assert len(panels) > 10
    assert not {panel for panel in panels if f'"title": "{panel}"' not in titles}
