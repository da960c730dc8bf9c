"""Every command line, metric, alert and setting that the documentation names is one that exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from ipam.netbox.reconcile.differences import DifferenceKind
from lastmile.audit.invariants import INVARIANTS
from lastmile.cli.app import app
from lastmile.devstack.prometheus import RULES
from lastmile.settings import Settings
from lastmile.telemetry import metrics
from lastmile.telemetry.snapshot import AGE
from workflows.search_attributes import ATTENTION, OPERATION, STEP, TENANT

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERYTHING = {str(file.relative_to(ROOT)): file.read_text() for file in (*PAGES, *RULES)}
# Pages that tell of a fault or a measurement of an earlier release name what existed then.
TODAY = {name: text for name, text in EVERYTHING.items() if name not in ("docs/decisions.md", "docs/performance.md")}

LEFT_OUT = "…"
# Where only some values are valid, and the text leaves the choice open.
CHOSEN = {"NAME": "audit", "{{ $labels.schedule }}": "audit"}


def command_lines(text: str) -> Iterator[str]:
    """Every `lastmile …` in code spans, and in blocks of a terminal."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.findall(r"(?:^\$ |\| )(?:\S+/)?(lastmile\s[^|#<>]+)", line)
    for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        words = " ".join(span.split())
        if re.match(r"(\S+/)?lastmile( (?!= )|$)", words) and not words.startswith("lastmile/"):
            yield words[words.index("lastmile") :]


def parse(line: str) -> None:
    """Have Typer parse the line as if somebody typed it. A command without any argument is only a name.

    What is left out (…) may be anything; then the options are checked, and not the arguments.
    """
    command = typer.main.get_command(app)
    for placeholder, value in CHOSEN.items():
        line = line.replace(placeholder, value)
    words = shlex.split(line)[1:]
    while isinstance(command, TyperGroup) and words and words != ["--help"]:
        assert words[0] in command.commands, f"{line}: there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    if words in ([], ["--help"]):
        return
    left_out = LEFT_OUT in words
    words = [word for word in words if word != LEFT_OUT]
    try:
        command.make_context("lastmile", words, resilient_parsing=left_out)
    except Exception as failure:  # of Click, or of the copy of it that Typer brings
        raise AssertionError(f"{line}: {failure}") from failure


LINES = sorted({(name, " ".join(line.split())) for name, text in EVERYTHING.items() for line in command_lines(text)})


def test_documentation_has_command_lines_on_every_operators_page() -> None:
    for page in ("README.md", "docs/runbooks.md", "docs/operations.md", "docs/deployment.md", "docs/encryption.md"):
        assert len([line for name, line in LINES if name == page]) >= 2, page


@pytest.mark.parametrize(("page", "line"), LINES)
def test_command_line_of_the_documentation_is_one_that_lastmile_takes(page: str, line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line", ["lastmile cleanup --dry", "lastmile pool unheard-of", "lastmile retry --why x", "lastmile status S-1 S-2"]
)
def test_command_line_that_lastmile_does_not_take_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        parse(line)


def metric_names() -> set[str]:
    """Every series of `/metrics` that is Lastmile's own, and every recording rule."""
    names = {AGE, *(figure.name for figure in metrics.FIGURES)}
    for counter in vars(metrics).values():
        if isinstance(counter, metrics.Counter | metrics.Histogram):
            names |= {sample.name for family in counter.collect() for sample in family.samples}
            names |= {family.name + end for family in counter.collect() for end in ("_total", "_bucket", "_count")}
    return names | {name for file in RULES for name in re.findall(r"record: (\S+)", file.read_text())}


@pytest.mark.parametrize("page", TODAY)
def test_metric_of_the_documentation_exists(page: str) -> None:
    text = re.sub(r"--\S+|\[[^]]*\]\([^)]*\)|- name: \w+", "", TODAY[page])
    named = set(re.findall(r"\b(?:ipv6|lastmile)_[a-z0-9_]+\b(?!\.)", text))
    roles = {"lastmile_app", "lastmile_platform", "lastmile_radius"}
    own = {"ipv6_pd", "ipv6_framed", "ipv6_address", "ipv6_prefix", "ipv6_framed_prefix", "ipv6_pool", "ipv6_lifecycle"}
    fields = {word for word in named if re.search(rf"custom field[^.]*\b{word}\b|`{word}`", text) and "netbox" in page}
    assert named - roles - own - fields - metric_names() == set()


@pytest.mark.parametrize("page", TODAY)
def test_alert_of_the_documentation_exists(page: str) -> None:
    alerts = {name for file in RULES for name in re.findall(r"alert: (\w+)", file.read_text())}
    attributes = {attribute.name for attribute in (ATTENTION, OPERATION, STEP, TENANT)}
    named = set(re.findall(r"\b(?:IPv6|Lastmile)[A-Z]\w+", TODAY[page]))
    assert named - alerts - attributes == set()


@pytest.mark.parametrize("page", TODAY)
def test_setting_of_the_documentation_exists(page: str) -> None:
    named = set(re.findall(r"\bLASTMILE_[A-Z_]+\b", TODAY[page]))
    assert named <= {f"LASTMILE_{name.upper()}" for name in Settings.model_fields}


def test_invariant_of_the_runbooks_exists() -> None:
    known = {*(one.name for one in INVARIANTS), *map(str, DifferenceKind)}
    (entry,) = re.findall(r"^### LastmileAuditViolation\n(.*?)^###", EVERYTHING["docs/runbooks.md"], re.M | re.S)
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", entry)) - {"invariant"}
    assert named <= known
