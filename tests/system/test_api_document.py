"""The API does what its OpenAPI document says: every case that schemathesis makes of it."""

from pathlib import Path

import pytest

from lastmile.api.context import ApiContext
from tests.support.schemathesis import check_document

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("phases", ["coverage", "examples,fuzzing,stateful"])
async def test_every_operation_answers_every_request_as_its_document_says(
    context: ApiContext, tmp_path: Path, phases: str
) -> None:
    await check_document(context, tmp_path, "--phases", phases, "--max-examples", "50")
