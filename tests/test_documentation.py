"""Commands, metrics, alerts, settings, paths and links in the documentation exist, and generated pages are current."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperGroup

from docs import generate
from ipam.netbox.reconcile.differences import DifferenceKind
from lastmile import client
from lastmile.audit.invariants import INVARIANTS
from lastmile.cli.app import app
from lastmile.contract import (
    CleanupResult,
    Created,
    DeprovisionSubscriber,
    OrderResult,
    Progress,
    ProvisionSubscriber,
    ResultStatus,
    RunStatus,
)
from lastmile.contract.addressing import Addressing
from lastmile.contract.lines import Customer, Line, ServicePlan
from lastmile.devstack.prometheus import RULES
from lastmile.settings import Settings
from lastmile.telemetry import metrics
from lastmile.telemetry.snapshot import AGE
from workflows.search_attributes import ATTENTION, OPERATION, STEP, TENANT

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
EVERYTHING = {str(file.relative_to(ROOT)): file.read_text() for file in (*PAGES, *RULES)}
MARKDOWN = [name for name in EVERYTHING if name.endswith(".md")]
# Pages about an earlier state or a measurement name what existed then.
PAST = ("CHANGELOG.md", "docs/development/decisions/", "docs/reference/performance.md")
TODAY = {name: text for name, text in EVERYTHING.items() if not name.startswith(PAST)}
RUNBOOKS = "docs/operations/runbooks.md"

PACKAGES = ("lastmile", "workflows", "activities", "ipam")
SOURCES = "".join(file.read_text() for package in PACKAGES for file in (ROOT / package).rglob("*.py"))

LEFT_OUT = "…"
# Where only some values are valid, and the text leaves the choice open.
CHOSEN = {"NAME": "audit", "{{ $labels.schedule }}": "audit"}


def command_lines(text: str) -> Iterator[str]:
    """Yield every `lastmile …` in code spans, and in blocks of a terminal."""
    blocks = re.findall(r"^ *```console\n(.*?)^ *```", text, re.M | re.S)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.findall(r"(?:^ *\$ |\| )(?:\S+/)?(lastmile\s[^|#<>]+)", line)
    for span in re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)):
        words = " ".join(span.split())
        if re.match(r"(\S+/)?lastmile( (?!= )|$)", words) and not words.startswith("lastmile/"):
            yield words[words.index("lastmile") :]


def parse(line: str) -> None:
    """Let Typer parse the line. A command without any argument is only a name.

    Raise `AssertionError` for an unknown command or option. With an omission (…) only the options are checked.
    """
    command = typer.main.get_command(app)
    for placeholder, value in CHOSEN.items():
        line = line.replace(placeholder, value)
    words = shlex.split(line)[1:]
    while isinstance(command, TyperGroup) and words and words[0] not in ("--help", "--version"):
        assert words[0] in command.commands, f"{line}: there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    if words in ([], ["--help"], ["--version"]):
        return
    left_out = LEFT_OUT in words
    words = [word for word in words if word != LEFT_OUT]
    try:
        command.make_context("lastmile", words, resilient_parsing=left_out)
    except Exception as failure:  # of Click, or of the copy of it that Typer brings
        raise AssertionError(f"{line}: {failure}") from failure


# The changelog names commands of earlier states.
CURRENT = {name: text for name, text in EVERYTHING.items() if name != "CHANGELOG.md"}
LINES = sorted({(name, " ".join(line.split())) for name, text in CURRENT.items() for line in command_lines(text)})


def test_documentation_has_command_lines_on_every_operators_page() -> None:
    operations = [name for name in MARKDOWN if name.startswith(("docs/operations/", "docs/tutorial/"))]
    for page in ("README.md", *operations):
        assert len([line for name, line in LINES if name == page]) >= 2, page


@pytest.mark.parametrize(("page", "line"), LINES)
def test_command_line_of_the_documentation_is_valid(page: str, line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line", ["lastmile cleanup --dry", "lastmile pool unheard-of", "lastmile retry --why x", "lastmile status S-1 S-2"]
)
def test_invalid_command_line_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        parse(line)


def metric_names() -> set[str]:
    """Return every series of `/metrics` that is Lastmile's own, and every recording rule."""
    names = {AGE, *(metric.name for metric in metrics.SNAPSHOT_METRICS)}
    for counter in vars(metrics).values():
        if isinstance(counter, metrics.Counter | metrics.Histogram):
            names |= {sample.name for family in counter.collect() for sample in family.samples}
            names |= {family.name + end for family in counter.collect() for end in ("", "_total", "_bucket", "_count")}
    return names | {name for file in RULES for name in re.findall(r"record: (\S+)", file.read_text())}


@pytest.mark.parametrize("page", TODAY)
def test_metric_of_the_documentation_exists(page: str) -> None:
    text = re.sub(r"--\S+|\[[^]]*\]\([^)]*\)|- name: \w+|`SELECT [^`]+`", "", TODAY[page])
    named = set(re.findall(r"\b(?:ipv6|lastmile)_[a-z0-9_]+\b(?!\.)", text))
    roles = {"lastmile_app", "lastmile_platform", "lastmile_radius", "lastmile_kea", "lastmile_lost"}
    own = {"ipv6_pd", "ipv6_framed", "ipv6_address", "ipv6_prefix", "ipv6_framed_prefix", "ipv6_pool", "ipv6_lifecycle"}
    own |= {"ipv6_mode", "ipv6_pd_size", "ipv6_enabled", "ipv6_reservations"}
    fields = {word for word in named if re.search(rf"custom field[^.]*\b{word}\b|`{word}`", text) and "netbox" in page}
    assert named - roles - own - fields - metric_names() == set()


@pytest.mark.parametrize("page", TODAY)
def test_alert_of_the_documentation_exists(page: str) -> None:
    alerts = {name for file in RULES for name in re.findall(r"alert: (\w+)", file.read_text())}
    attributes = {attribute.name for attribute in (ATTENTION, OPERATION, STEP, TENANT)}
    named = set(re.findall(r"\b(?:IPv6|Lastmile)[A-Z]\w+", TODAY[page]))
    assert named - alerts - attributes - {"LastmileError", "LastmileApi"} == set()


@pytest.mark.parametrize("page", TODAY)
def test_setting_of_the_documentation_exists(page: str) -> None:
    named = set(re.findall(r"\bLASTMILE_[A-Z_]+\b", TODAY[page])) - {"LASTMILE_"}
    assert named <= {f"LASTMILE_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("page", MARKDOWN)
def test_error_of_the_documentation_exists(page: str) -> None:
    named = set(re.findall(r"`(\w+Error)`", EVERYTHING[page]))
    of_libraries = {"ActivityError", "AssertionError"}
    assert named - of_libraries <= set(re.findall(r"^class (\w+)", SOURCES, re.M))


@pytest.mark.parametrize("page", [name for name in MARKDOWN if name.startswith("docs/operations/")])
def test_log_event_of_the_documentation_exists(page: str) -> None:
    groups = "attempt|audit|codec|ipv6_lifecycle|block_maintenance|order|run|schedule|step|worker"
    named = set(re.findall(rf"`((?:{groups})\.[a-z_]+)`", EVERYTHING[page]))
    assert named <= set(re.findall(r'"([a-z0-9_]+\.[a-z_]+)"', SOURCES))


def test_maintenance_page_names_each_field_of_the_cleanup() -> None:
    named = set(re.findall(r"`(\w+)`", EVERYTHING["docs/operations/maintenance.md"]))
    assert set(CleanupResult.model_fields) - {"dry_run"} <= named


def test_invariant_of_the_runbooks_exists() -> None:
    known = {*(one.name for one in INVARIANTS), *map(str, DifferenceKind)}
    (entry,) = re.findall(r"^### LastmileAuditViolation\n(.*?)^###", EVERYTHING[RUNBOOKS], re.M | re.S)
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", entry)) - {"invariant"}
    assert named <= known


def test_programs_of_the_documentation_import_what_the_client_exports() -> None:
    blocks = [block for text in TODAY.values() for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)]
    imports = [line for block in blocks for line in re.findall(r"^from lastmile\.client import (.+)$", block, re.M)]
    assert len(imports) >= 5
    assert {name for line in imports for name in line.split(", ")} <= set(client.__all__)


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_page_is_current(name: str) -> None:
    assert (generate.REFERENCE / name).read_text() == generate.PAGES[name](), "run `make docs`"


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


@pytest.mark.parametrize("page", MARKDOWN)
def test_relative_link_leads_to_an_existing_file_and_anchor(page: str) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", EVERYTHING[page], flags=re.M | re.S)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", [name for name in MARKDOWN if name in TODAY])
def test_path_of_the_documentation_exists(page: str) -> None:
    roots = "lastmile|workflows|activities|ipam|grafana|alerts|tests|bench|docs"
    named = set(re.findall(rf"`((?:{roots})/[\w./*-]+)`", EVERYTHING[page])) - {
        "lastmile/cleanup",
        "lastmile/resumption",
    }  # Schedules
    assert [path for path in sorted(named) if not any(ROOT.glob(path.rstrip("/")))] == []


def test_picture_of_the_layers_is_that_of_the_import_contract() -> None:
    page = generate.ARCHITECTURE.read_text()
    assert page == generate.with_layers(page), "run `make docs`"
    assert 'l1["lastmile.cli' in page


@pytest.mark.parametrize(
    "model",
    [
        ProvisionSubscriber,
        DeprovisionSubscriber,
        Customer,
        ServicePlan,
        Line,
        Addressing,
        OrderResult,
        Created,
        Progress,
    ],
)
def test_reference_of_orders_names_each_field(model: type[BaseModel]) -> None:
    page = EVERYTHING["docs/reference/orders-and-results.md"]
    named = {word.rpartition(".")[2] for word in re.findall(r"`([\w.]+)`", page)}
    objects = {"customer", "plan", "line"}  # their fields are named with their path
    assert set(model.model_fields) - objects - named == set()


@pytest.mark.parametrize("status", [*ResultStatus, *RunStatus])
def test_reference_of_orders_names_each_status(status: ResultStatus | RunStatus) -> None:
    assert f"`{status}`" in EVERYTHING["docs/reference/orders-and-results.md"]
