"""`lastmile import-radius`: a database that another system has filled, with daloRADIUS's habits."""

import base64
import csv
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url
from temporalio.client import Client

from lastmile.audit.audit import check
from lastmile.db import Database
from lastmile.encryption.codec import data_converter
from lastmile.radius.foreign_accounts import Item, read_rates
from lastmile.settings import Settings
from tests.support.commands import Cli, lines
from tests.support.workers import RunningWorker

TAKEN_OVER = 1_000 if "LASTMILE_EVERY_CASE" in os.environ else 30
"""How many of the accounts become lines; `make test-every-way` takes all over."""

KEYS = f"k1:{base64.b64encode(bytes(range(32))).decode()}"

# FreeRADIUS's own tables, without anything of Lastmile's.
TABLES = """
CREATE TABLE radcheck (id serial PRIMARY KEY, username text NOT NULL DEFAULT '', attribute text NOT NULL DEFAULT '',
                       op varchar(2) NOT NULL DEFAULT '==', value text NOT NULL DEFAULT '');
CREATE TABLE radreply (LIKE radcheck INCLUDING ALL);
CREATE TABLE radgroupreply (id serial PRIMARY KEY, groupname text NOT NULL DEFAULT '',
                            attribute text NOT NULL DEFAULT '', op varchar(2) NOT NULL DEFAULT '=',
                            value text NOT NULL DEFAULT '');
CREATE TABLE radusergroup (id serial PRIMARY KEY, username text NOT NULL, groupname text NOT NULL, priority integer);
"""

# 1 000 accounts: every third with User-Password ==, every fifth in a second group, every seventh with Simultaneous-Use.
ACCOUNTS = """
INSERT INTO radgroupreply (groupname, attribute, op, value) VALUES
    ('Home 100M', 'Mikrotik-Rate-Limit', ':=', '20M/100M'), ('daloRADIUS-Disabled-Users', 'Reply-Message', ':=', 'no'),
    ('Business', 'WISPr-Bandwidth-Max-Down', '=', '1000000000'),
    ('Business', 'WISPr-Bandwidth-Max-Up', '=', '500000000');
INSERT INTO radcheck (username, attribute, op, value)
    SELECT 'user' || n || '@isp.example', CASE n % 3 WHEN 0 THEN 'User-Password' ELSE 'Cleartext-Password' END,
           CASE n % 3 WHEN 0 THEN '==' ELSE ':=' END, 'pass word ' || n FROM generate_series(1, 1000) n;
INSERT INTO radcheck (username, attribute, op, value)
    SELECT 'user' || n || '@isp.example', 'Simultaneous-Use', ':=', '1' FROM generate_series(7, 1000, 7) n;
INSERT INTO radusergroup (username, groupname, priority)
    SELECT 'user' || n || '@isp.example', 'Home 100M', 5 FROM generate_series(1, 1000) n
    UNION ALL SELECT 'user' || n || '@isp.example', 'Business', 1 FROM generate_series(5, 1000, 5) n;
INSERT INTO radreply (username, attribute, op, value)
    SELECT 'user' || n || '@isp.example', 'Delegated-IPv6-Prefix', '+=', '2001:db8:' || to_hex(n) || ':ff00::/56'
    FROM generate_series(1, 100) n;
INSERT INTO radreply (username, attribute, op, value) VALUES
    ('user1@isp.example', 'Framed-IP-Address', '=', '198.51.100.2'),
    ('user2@isp.example', 'Framed-IP-Address', ':=', '255.255.255.254'),
    ('user2@isp.example', 'Session-Timeout', '=', '60');
"""

ODD = """
INSERT INTO radcheck (username, attribute, op, value) VALUES
    ('00:1A:2B:3C:4D:5E', 'Auth-Type', ':=', 'Accept'), ('a+b', 'Cleartext-Password', ':=', 'x'),
    ('hashed', 'MD5-Password', ':=', '00'), ('blocked', 'Cleartext-Password', ':=', 'x'),
    ('blocked', 'Auth-Type', ':=', 'Reject'),
    ('no group', 'Cleartext-Password', ':=', 'x'), ('twice', 'Cleartext-Password', ':=', 'x'),
    ('twice', 'User-Password', '==', 'y'),
    ('a=2Bb', 'Cleartext-Password', ':=', 'x');
INSERT INTO radreply (username, attribute, op, value) VALUES ('only a reply', 'Framed-IP-Address', ':=', '192.0.2.1');
INSERT INTO radusergroup (username, groupname, priority)
    SELECT name, 'Home 100M', 1
    FROM unnest(ARRAY['00:1A:2B:3C:4D:5E', 'hashed', 'blocked', 'twice', 'a+b', 'a=2Bb']) name;
"""


@pytest.fixture
async def foreign(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to an empty database with FreeRADIUS's own tables."""
    admin = await asyncpg.connect(postgres_url)
    await admin.execute("CREATE DATABASE foreign_radius")
    connection = await asyncpg.connect(url_of(postgres_url))
    await connection.execute(TABLES)
    yield connection
    await connection.close()
    await admin.execute("DROP DATABASE foreign_radius WITH (FORCE)")
    await admin.close()


def url_of(postgres_url: str) -> str:
    url = make_url(postgres_url).set(database="foreign_radius", drivername="postgresql")
    return url.render_as_string(hide_password=False)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"encryption_keys": SecretStr(KEYS)})


@pytest.fixture
def working(temporal_client: Client, settings: Settings, database: Database) -> RunningWorker:
    client = Client(temporal_client.service_client, data_converter=data_converter(settings.key_ring))
    return RunningWorker(client, settings, database)


async def test_import_radius_of_a_thousand_accounts_writes_orders_that_adopt_them(
    cli: Cli, worker: None, foreign: asyncpg.Connection, postgres_url: str, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await foreign.execute(ACCOUNTS)
    file = tmp_path / "orders.jsonl"
    ran = await cli("import-radius", url_of(postgres_url), "--tenant", "acme", "-o", str(file), "--json")
    (said,) = ran.json
    assert (said["orders"], said["left_out"]) == (1000, 0)
    assert file.stat().st_mode & 0o777 == 0o600
    written = [json.loads(line) for line in file.read_text().splitlines()]
    plans = {(order["plan"]["name"], order["plan"]["download_kbps"], order["plan"]["upload_kbps"]) for order in written}
    assert plans == {("Home-100M", 100_000, 20_000), ("Business", 1_000_000, 500_000)}
    with (tmp_path / "orders.report.csv").open() as opened:
        remarks = [row for row in csv.DictReader(opened) if row["username"] == "user30@isp.example"]
        assert [row["what"] for row in remarks] == [
            "User-Password becomes Cleartext-Password",
            "the operator == of User-Password becomes :=",
            "is also in group Home 100M, and a line has one plan",
        ]
    chosen = [
        one
        for one in written
        if one["line"]["username"] in ("user1@isp.example", "user2@isp.example", "user15@isp.example")
    ]
    taken = await cli.but(LASTMILE_ENCRYPTION_KEYS=KEYS)("provision", "-", "--json", stdin=lines(*chosen))
    assert [result["status"] for result in taken.json] == ["completed"] * 3, taken.out
    rows = await owner.fetch("SELECT username, attribute, op, value FROM radcheck")
    assert {tuple(row) for row in rows} == {
        (f"user{n}@isp.example", "Cleartext-Password", ":=", f"pass word {n}") for n in (1, 2, 15)
    }
    replies = await owner.fetch("SELECT attribute, value FROM radreply WHERE username = 'user1@isp.example' ORDER BY 1")
    assert [tuple(row) for row in replies] == [
        ("Delegated-IPv6-Prefix", "2001:db8:1:ff00::/56"),
        ("Framed-IP-Address", "198.51.100.2"),
    ]


async def test_accounts_that_are_taken_over_are_the_same_in_radius(
    cli: Cli,
    worker: None,
    foreign: asyncpg.Connection,
    postgres_url: str,
    owner: asyncpg.Connection,
    database: Database,
    tmp_path: Path,
) -> None:
    await foreign.execute(ACCOUNTS)
    file = tmp_path / "orders.jsonl"
    await cli("import-radius", url_of(postgres_url), "--tenant", "acme", "-o", str(file))
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:TAKEN_OVER]))

    taken = await cli.but(LASTMILE_ENCRYPTION_KEYS=KEYS)("provision", str(file), "--json")

    assert Counter(result["status"] for result in taken.json) == {"completed": TAKEN_OVER}, taken.out
    here, there = await in_radius(owner), await in_radius(foreign)
    assert here == {username: there[username] for username in here}
    assert len(here) == TAKEN_OVER
    assert [found.words async for found in check(database)] == []


async def in_radius(connection: asyncpg.Connection) -> dict[str, tuple[Any, ...]]:
    """Return the password, the addresses and the rates of each account."""
    groups: dict[str, list[Item]] = {}
    for name, *item in await connection.fetch("SELECT groupname, attribute, op, value FROM radgroupreply"):
        groups.setdefault(name, []).append(Item(*item))
    rows = await connection.fetch(
        """
        SELECT username, value AS password,
               ARRAY(SELECT attribute || ' ' || value FROM radreply r
                     WHERE r.username = c.username AND attribute IN ('Delegated-IPv6-Prefix', 'Framed-IP-Address')
                       AND value <> '255.255.255.254' ORDER BY 1) AS addresses,
               (SELECT groupname FROM radusergroup g WHERE g.username = c.username ORDER BY priority LIMIT 1) AS plan
        FROM radcheck c WHERE attribute IN ('Cleartext-Password', 'User-Password')
        """
    )
    return {row["username"]: (row["password"], row["addresses"], read_rates(groups[row["plan"]])) for row in rows}


async def test_import_radius_reports_what_does_not_fit(
    cli: Cli, foreign: asyncpg.Connection, postgres_url: str, tmp_path: Path
) -> None:
    await foreign.execute(ACCOUNTS.partition("INSERT INTO radcheck")[0] + ODD)
    file, report = tmp_path / "orders.jsonl", tmp_path / "report.csv"
    arguments = ("import-radius", url_of(postgres_url), "--tenant", "acme", "-o", str(file), "--report", str(report))
    ran = await cli(*arguments)
    assert ran.out.startswith(f"2 orders written to {file}, 0 of them with remarks. 6 accounts were left out.")
    by_name = {order["line"]["username"]: order for order in map(json.loads, file.read_text().splitlines())}
    assert by_name["00:1A:2B:3C:4D:5E"]["line"]["access"] == "ipoe"
    assert "a+b" in by_name, "as FreeRADIUS sent it"
    with report.open() as opened:
        left = {row["username"]: row["what"] for row in csv.DictReader(opened) if row["outcome"] == "left out"}
    assert left == {
        "blocked": "its logins are refused (Auth-Type Reject)",
        "hashed": "its password is stored as MD5-Password, and only the subscriber knows it",
        "no group": "it has no rates, and it is in no group",
        "only a reply": "it has no password, and no Auth-Type Accept",
        "twice": "it has several passwords",
        "a+b": "its reference would be a-b, as that of a+b",
    }


@pytest.mark.parametrize("url", ["mysql://radius@192.0.2.1/radius", "radius"])
async def test_import_radius_of_another_database_is_refused(cli: Cli, url: str, tmp_path: Path) -> None:
    ran = await cli("import-radius", url, "--tenant", "acme", "-o", str(tmp_path / "x.jsonl"))
    assert (ran.code, "must begin with postgresql://" in ran.err) == (2, True)


async def test_import_radius_of_a_database_without_its_tables_is_refused(
    cli: Cli, postgres_url: str, foreign: asyncpg.Connection, tmp_path: Path
) -> None:
    await foreign.execute("DROP TABLE radreply")
    ran = await cli("import-radius", url_of(postgres_url), "--tenant", "acme", "-o", str(tmp_path / "x.jsonl"))
    assert "The database has no table radreply" in ran.err


@pytest.mark.parametrize(
    ("attribute", "value", "rates"),
    [
        ("Mikrotik-Rate-Limit", "512k/4M 1M/8M 384k/3M 16/12 8", (4000, 512)),
        ("Mikrotik-Rate-Limit", "1000000/2G", (2_000_000, 1000)),
        ("Mikrotik-Rate-Limit", "fast", None),
    ],
)
def test_rates_of_a_reply_item_are_read(attribute: str, value: str, rates: tuple[int, int] | None) -> None:
    assert read_rates([Item(attribute, ":=", value)]) == rates
