"""The API does what its OpenAPI document says, with the values at the limits of each field."""

from pathlib import Path

from lastmile.api.context import ApiContext
from tests.support.schemathesis import check_document


async def test_each_operation_answers_valid_requests_as_its_document_says(context: ApiContext, tmp_path: Path) -> None:
    """Half of all cases are orders: tests/system/test_api_document.py has those, and the invalid requests."""
    options = ("--phases", "coverage", "--mode", "positive", "--exclude-name", "POST /v1/orders")
    await check_document(context, tmp_path, *options)
