"""Deliberate bugs in a copy of the source, one at a time: the tests must catch each of them."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import POSTGRES, TEMPORAL

ROOT = Path(__file__).parents[2]
NOT_SOURCE = (".*", "build", "*.egg-info", "docs", "system")

ALLOCATIONS = "tests/ipam/test_allocation_machine.py"
DISCONNECTS = "tests/radius/test_dynauth.py"
ROLLBACKS = "tests/workflows/test_rollback.py::test_refused_step_leaves_nothing_of_the_order[allocate_ip_address-after]"


@dataclass(frozen=True)
class Mutant:
    """One bug: in `file`, `right` becomes `wrong`, and `tests` notice."""

    bug: str
    file: str
    right: str
    wrong: str
    tests: str


MUTANTS = (
    Mutant(
        "undo known only after the step",
        "workflows/saga.py",
        "[step for step in reversed(self._steps) if step.undo is not None]",
        "[s for s in reversed(self._steps) if s.undo and record.so_far.steps[s.name].outcome not in (None, 'failed')]",
        ROLLBACKS,
    ),
    Mutant(
        "release before REVOKED",
        "ipam/sql/release.sql",
        "WHERE id = :id AND state = 'revoked' AND released_at IS NULL",
        "WHERE id = :id AND released_at IS NULL",
        ALLOCATIONS,
    ),
    Mutant(
        "reuse without quarantine",
        "ipam/sql/release.sql",
        "ELSE now() + g.quarantine END",
        "ELSE now() END",
        ALLOCATIONS,
    ),
    Mutant(
        "look-up by key left out",
        "ipam/sql/allocate.sql",
        "FROM delegations WHERE tenant_id = :tenant AND allocation_key = :key\n",
        "FROM delegations WHERE tenant_id = :tenant AND allocation_key = :key AND false\n",
        ALLOCATIONS,
    ),
    Mutant(
        "an unguarded transition",
        "ipam/delegations.py",
        "WHERE id = :id AND state = :before\n",
        "WHERE id = :id\n",
        ALLOCATIONS,
    ),
    Mutant(
        "reply authenticator not checked",
        "lastmile/radius/channel.py",
        "return reply if reply.code in _ANSWERS[request.code] and request.VerifyReply(reply, raw) else None",
        "return reply if reply.code in _ANSWERS[request.code] else None",
        DISCONNECTS,
    ),
    Mutant(
        "503 treated as failure",
        "lastmile/radius/dynauth.py",
        "return self.outcome in (RadiusReply.ACK, RadiusReply.SESSION_GONE)",
        "return self.outcome is RadiusReply.ACK",
        DISCONNECTS,
    ),
)


@dataclass(frozen=True)
class Ran:
    """What became of a few tests."""

    passed: int
    failures: list[str]
    errors: list[str]
    output: str

    @property
    def disproved(self) -> bool:
        """Tests ran and found something that is not so: nothing was merely in their way."""
        wrong = ("AssertionError", "DID NOT RAISE")
        return not self.errors and bool(self.failures) and all(any(w in f for w in wrong) for f in self.failures)


@dataclass(frozen=True)
class Copy:
    """A copy of the source, and the servers that its tests use."""

    directory: Path
    servers: dict[str, str]

    async def run(self, *tests: str) -> Ran:
        report = self.directory / "report.xml"
        report.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", *tests, "-q", "-x", "-p", "no:cacheprovider"),
            *("--hypothesis-profile=any-failure", f"--junitxml={report}"),
            cwd=self.directory,
            env=os.environ | self.servers | {"PYTHONPATH": str(self.directory)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output = (await process.communicate())[0].decode()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
        found = {kind: [mark.text or "" for case in cases for mark in case.iter(kind)] for kind in ("failure", "error")}
        passed = sum(not list(case) for case in cases)
        errors = found["error"] or ([] if cases else [output])
        return Ran(passed, found["failure"], errors, output)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, migrated: str, temporal_address: str) -> Copy:
    directory = tmp_path_factory.mktemp("mutants") / "lastmile"
    shutil.copytree(ROOT, directory, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    return Copy(directory, {POSTGRES: migrated, TEMPORAL: temporal_address})


@pytest.fixture
def mutated(request: pytest.FixtureRequest, copy: Copy) -> Iterator[Copy]:
    """The copy with one bug in it."""
    mutant: Mutant = request.param
    file = copy.directory / mutant.file
    source = file.read_text()
    times = source.count(mutant.right)
    assert times == 1, f"{mutant.file} has the code of the mutant {mutant.bug!r} {times} times: write the mutant anew"
    # Two versions of a file within one second share their compiled bytecode, unless their sizes differ.
    assert len(mutant.wrong) != len(mutant.right)
    file.write_text(source.replace(mutant.right, mutant.wrong))
    yield copy
    file.write_text(source)


@pytest.mark.timeout(300)
async def test_tests_pass_without_a_mutation(copy: Copy) -> None:
    ran = await copy.run(*{mutant.tests for mutant in MUTANTS})
    assert ran.passed > 0, ran.output
    assert ran.failures == ran.errors == [], ran.output


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mutated", "tests"),
    [pytest.param(mutant, mutant.tests, id=mutant.bug) for mutant in MUTANTS],
    indirect=["mutated"],
)
async def test_mutation_is_caught(mutated: Copy, tests: str) -> None:
    # If a race ends differently when hypothesis repeats it, hypothesis reports that: no proof yet.
    for _ in range(3):
        ran = await mutated.run(tests)
        if "FlakyStrategyDefinition" not in "".join(ran.failures):
            break
    assert ran.disproved, ran.output
