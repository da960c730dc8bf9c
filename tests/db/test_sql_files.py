"""The statements that are files of their own."""

from pathlib import Path

import pytest

from lastmile.db.statements import read_sql

ROOT = Path(__file__).parents[2]
FILES = [file for package in ("ipam", "lastmile") for file in (ROOT / package).glob("**/sql/*.sql")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_sql_file_begins_with_what_it_does_and_its_plan(file: Path) -> None:
    head, _, _ = file.read_text().partition("\n\n")
    comment = [line for line in file.read_text().splitlines() if line.startswith("--")]
    assert head.startswith("-- ")
    assert any(line.startswith("-- Plan: ") for line in comment)


def test_read_sql_leaves_out_the_comment_at_the_head() -> None:
    assert read_sql("ipam", "release").startswith("WITH just_released AS (")


def test_read_sql_of_a_variant_fills_in_its_fragments() -> None:
    variant = read_sql("ipam", "allocate", lock="FOR UPDATE OF s", slot="true")
    assert "ORDER BY s.free_at, s.slot LIMIT 1 FOR UPDATE OF s\n" in variant
    assert "{" not in variant
