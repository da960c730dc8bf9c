"""The API does what its OpenAPI document says: every case that schemathesis makes of it."""

import os
from pathlib import Path

import pytest

from lastmile.api.context import ApiContext
from tests.support.schemathesis import check_document

EXAMPLES = "50" if "LASTMILE_EVERY_CASE" in os.environ else "15"
"""The number of random requests for each operation."""

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("phases", ["coverage", "examples,fuzzing,stateful"])
async def test_every_operation_answers_every_request_as_its_document_says(
    context: ApiContext, tmp_path: Path, phases: str
) -> None:
    await check_document(context, tmp_path, "--phases", phases, "--max-examples", EXAMPLES)
