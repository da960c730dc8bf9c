"""Tests of the NAS inventory."""

from ipaddress import ip_address

import asyncpg
import pytest
from pydantic import ValidationError

from lastmile.db import Database
from lastmile.radius.errors import NasConflictError, NasInUseError, UnknownNasError
from lastmile.radius.nas import NasChange, NasRecord, add_nas, list_nas, remove_nas, set_nas
from lastmile.radius.sessions import find_open_sessions

BNG = NasRecord(address="192.0.2.1", name="bng-1", secret="between-us", description="Uppsala")


async def test_add_nas_again_returns_false(database: Database) -> None:
    async with database.platform() as platform:
        assert await add_nas(platform, BNG) is True
        assert await add_nas(platform, BNG) is False
        assert len(await list_nas(platform)) == 1


async def test_add_nas_with_other_values_names_the_fields_without_values(database: Database) -> None:
    other = BNG.model_copy(update={"secret": "another-one", "coa_port": 1700})
    async with database.platform() as platform:
        await add_nas(platform, BNG)
        with pytest.raises(NasConflictError, match=r"NAS 192\.0\.2\.1 exists with another secret, CoA port") as failure:
            await add_nas(platform, other)
    assert "another-one" not in str(failure.value)
    assert "between-us" not in str(failure.value)


async def test_list_nas_omits_secrets(database: Database) -> None:
    async with database.platform() as platform:
        await add_nas(platform, BNG)
        (row,) = await list_nas(platform)
    assert dict(row) == {
        "name": "bng-1",
        "address": "192.0.2.1",
        "coa_address": "192.0.2.1",
        "coa_port": 3799,
        "type": "other",
        "description": "Uppsala",
    }
    assert "between-us" not in repr(BNG)


async def test_set_nas_changes_what_is_given(database: Database, owner: asyncpg.Connection) -> None:
    async with database.platform() as platform:
        await add_nas(platform, BNG)
        changed = await set_nas(platform, "bng-1", NasChange(secret="newer", coa_address="192.0.2.99", coa_port=1700))
        assert (changed["address"], changed["coa_address"], changed["coa_port"]) == ("192.0.2.1", "192.0.2.99", 1700)
        assert "newer" not in str(dict(changed))
    row = await owner.fetchrow("SELECT * FROM nas")
    assert (row["nasname"], row["secret"], row["shortname"], row["description"]) == (
        *("192.0.2.1", "newer", "bng-1", "Uppsala"),
    )
    async with database.platform() as platform:
        back = await set_nas(platform, "192.0.2.1", NasChange(name="bng-9", coa_address="192.0.2.1"))
        assert (back["name"], back["coa_address"], back["coa_port"]) == ("bng-9", "192.0.2.1", 1700)
        with pytest.raises(UnknownNasError, match="No NAS has the name or address bng-1"):
            await set_nas(platform, "bng-1", NasChange(coa_port=1))


async def test_remove_nas_with_open_sessions_needs_force(database: Database, owner: asyncpg.Connection) -> None:
    async with database.platform() as platform:
        await add_nas(platform, BNG)
    await owner.execute(
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime)"
        " VALUES ('s-1', 'u-1', 'S-1@acme.lastmile', '192.0.2.1', now())"
    )
    async with database.platform() as platform:
        with pytest.raises(NasInUseError, match="has 1 open sessions"):
            await remove_nas(platform, "bng-1")
        assert (await remove_nas(platform, "bng-1", force=True))["name"] == "bng-1"
        with pytest.raises(UnknownNasError):
            await remove_nas(platform, "bng-1")
        assert await list_nas(platform) == []


async def test_open_session_has_the_coa_address_of_its_nas(database: Database, owner: asyncpg.Connection) -> None:
    async with database.platform() as platform:
        await add_nas(platform, BNG.model_copy(update={"coa_address": ip_address("192.0.2.99")}))
    await owner.execute(
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime)"
        " VALUES ('s-1', 'u-1', 'S-1@acme.lastmile', '192.0.2.1', now())"
    )
    async with database.tenant("acme") as connection:
        ((session, nas),) = await find_open_sessions(connection, "S-1@acme.lastmile")
    assert nas is not None
    assert (session.nas_address, nas.address, nas.name) == ("192.0.2.1", "192.0.2.99", "bng-1")


def test_nas_record_with_several_invalid_fields_reports_all() -> None:
    with pytest.raises(ValidationError) as failure:
        NasRecord.model_validate({"address": "192.0.2.0/24", "name": "", "secret": "", "coa_port": 0})
    assert {error["loc"][0] for error in failure.value.errors()} == {"address", "name", "secret", "coa_port"}
