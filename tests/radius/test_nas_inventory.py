"""The NAS inventory: added once, complete complaints, and secrets that stay in."""

import pytest
from pydantic import ValidationError

from db import Database
from radius.errors import NasConflict
from radius.nas import NasRecord, add_nas, list_nas

BNG = NasRecord(address="192.0.2.1", name="bng-1", secret="between-us", description="Uppsala")


async def test_a_nas_is_added_once(database: Database) -> None:
    async with database.platform() as platform:
        assert await add_nas(platform, BNG) is True
        assert await add_nas(platform, BNG) is False
        assert len(await list_nas(platform)) == 1


async def test_what_differs_is_named_and_not_told(database: Database) -> None:
    other = BNG.model_copy(update={"secret": "another-one", "coa_port": 1700})
    async with database.platform() as platform:
        await add_nas(platform, BNG)
        with pytest.raises(NasConflict, match=r"NAS 192\.0\.2\.1 exists, with another secret, coa_port$") as failure:
            await add_nas(platform, other)
    assert "another-one" not in str(failure.value)
    assert "between-us" not in str(failure.value)


async def test_a_list_tells_no_secret(database: Database) -> None:
    async with database.platform() as platform:
        await add_nas(platform, BNG)
        (row,) = await list_nas(platform)
    assert dict(row) == {"name": "bng-1", "address": "192.0.2.1", "coa_port": 3799, "description": "Uppsala"}
    assert "between-us" not in repr(BNG)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValidationError) as failure:
        NasRecord.model_validate({"address": "192.0.2.0/24", "name": "", "secret": "", "coa_port": 0})
    assert {error["loc"][0] for error in failure.value.errors()} == {"address", "name", "secret", "coa_port"}
