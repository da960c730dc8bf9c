"""A stock FreeRADIUS with its own SQL queries, serving what Lastmile provisioned.

Nothing of the installation is changed: a small configuration in the state directory refers to the stock
policies, attribute filter and PostgreSQL queries where they are.
"""

import shutil
from pathlib import Path
from typing import Self

from sqlalchemy import make_url

from lastmile.devstack.ports import HOST
from lastmile.devstack.secret import write_private
from lastmile.devstack.server import ServerFailedError, ServerProcess
from lastmile.errors import LastmileError

__all__ = ["FreeRadius", "FreeRadiusMissingError", "find_freeradius"]

# Debian; Red Hat; Homebrew; built from source.
_STOCK = (
    Path("/etc/freeradius/3.0"),
    Path("/etc/raddb"),
    Path("/opt/homebrew/etc/raddb"),
    Path("/usr/local/etc/raddb"),
)
_QUERIES = Path("mods-config/sql/main/postgresql/queries.conf")

# The part that is the same everywhere; `${…}` are the variables that `_variables` puts before it.
_CONFIGURATION = """
security {
    status_server = yes
    reject_delay = 0
}
log {
    auth = no
}
proxy_requests = no

# The server listens on the loopback address only, so that is where its clients are.
client loopback {
    ipaddr = 127.0.0.0/8
    secret = ${client_secret}
}

modules {
    $INCLUDE ${stock}/mods-available/always
    $INCLUDE ${stock}/mods-available/expr
    pap {
    }
    preprocess {
        huntgroups = ${stock}/mods-config/preprocess/huntgroups
        hints = ${stock}/mods-config/preprocess/hints
    }
    attr_filter attr_filter.access_reject {
        key = "%{User-Name}"
        filename = ${stock}/mods-config/attr_filter/access_reject
    }
    sql {
        dialect = "postgresql"
        driver = "rlm_sql_postgresql"
        server = ${database_host}
        port = ${database_port}
        radius_db = ${database_name}
        login = ${database_login}
        password = ${database_password}
        acct_table1 = "radacct"
        acct_table2 = "radacct"
        postauth_table = "radpostauth"
        authcheck_table = "radcheck"
        groupcheck_table = "radgroupcheck"
        authreply_table = "radreply"
        groupreply_table = "radgroupreply"
        usergroup_table = "radusergroup"
        client_table = "nas"
        read_clients = no
        group_attribute = "SQL-Group"
        pool {
            start = 1
            min = 1
            max = 8
            retry_delay = 1
        }
        $INCLUDE ${stock}/mods-config/sql/main/postgresql/queries.conf
    }
}

policy {
    $INCLUDE ${stock}/policy.d/filter
    $INCLUDE ${stock}/policy.d/accounting

    # The stock query keeps the password of every attempt in radpostauth.
    forget_password {
        update request {
            &User-Password !* ANY
        }
    }
}

server lastmile {
    listen {
        type = auth
        ipaddr = ${address}
        port = ${auth_port}
    }
    listen {
        type = acct
        ipaddr = ${address}
        port = ${acct_port}
    }
    authorize {
        filter_username
        preprocess
        sql
        pap
    }
    authenticate {
        Auth-Type PAP {
            pap
        }
    }
    preacct {
        preprocess
        acct_unique
    }
    accounting {
        sql
    }
    post-auth {
        forget_password
        sql
        Post-Auth-Type REJECT {
            forget_password
            sql
            attr_filter.access_reject
        }
    }
}
"""


class FreeRadiusMissingError(LastmileError):
    """FreeRADIUS cannot be used here; the message says what it lacks."""


def find_freeradius() -> Path:
    """The server's program: `freeradius` on Debian, `radiusd` elsewhere.

    Raises:
        FreeRadiusMissing: it is not installed.
    """
    program = shutil.which("freeradius") or shutil.which("radiusd")
    if program is None:
        raise FreeRadiusMissingError(
            "FreeRADIUS is not installed (Debian: `apt install freeradius freeradius-utils freeradius-postgresql`)."
        )
    return Path(program)


class FreeRadius:
    """The server: authentication and accounting on the loopback address. `async with` runs it.

    `database_url` is a PostgreSQL URL of a login in `lastmile_radius`. `secret` is what its clients, on the
    loopback address too, share with it.
    """

    process: ServerProcess

    def __init__(self, directory: Path, *, database_url: str, secret: str, auth_port: int, acct_port: int) -> None:
        self._directory = directory.absolute()
        self._database_url = database_url
        self.secret = secret
        self.auth_port = auth_port
        self.acct_port = acct_port

    async def __aenter__(self) -> Self:
        """Start it.

        Raises:
            FreeRadiusMissing: it is not installed, or not completely.
            ServerFailed: it did not start; the end of its log is shown.
        """
        program = find_freeradius()
        configuration = self._directory / "freeradius"
        configuration.mkdir(parents=True, exist_ok=True)
        write_private(configuration / "radiusd.conf", self._variables() + _CONFIGURATION)
        self.process = await ServerProcess.start(
            "FreeRADIUS",
            [program, "-f", "-l", "stdout", "-d", configuration, "-n", "radiusd"],
            log=self._directory / "logs" / "radius.log",
        )
        try:
            await self.process.ready(self._says_ready, within=30)
        except ServerFailedError:
            if "Could not link driver rlm_sql_postgresql" in self.process.output():
                raise FreeRadiusMissingError(
                    "FreeRADIUS lacks its PostgreSQL driver (Debian: `apt install freeradius-postgresql`)."
                ) from None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _says_ready(self) -> bool:
        return "Ready to process requests" in self.process.output()

    def _variables(self) -> str:
        url = make_url(self._database_url)
        variables = {
            "stock": str(_stock()),
            "address": HOST,
            "auth_port": str(self.auth_port),
            "acct_port": str(self.acct_port),
            "client_secret": self.secret,
            "database_host": url.host or HOST,
            "database_port": str(url.port or 5432),
            "database_name": url.database or "",
            "database_login": url.username or "",
            "database_password": url.password or "",
        }
        return "".join(f"{name} = {_quoted(value)}\n" for name, value in variables.items())


def _stock() -> Path:
    """Where the installation keeps its configuration.

    Raises:
        FreeRadiusMissing: it is nowhere, or this user may not read it (Debian keeps it from other users).
    """
    for stock in _STOCK:
        try:
            (stock / _QUERIES).open().close()
        except FileNotFoundError:
            continue
        except PermissionError:
            raise FreeRadiusMissingError(
                f"FreeRADIUS is installed, and you may not read its stock queries in {stock}: join the group "
                "that may (Debian: `sudo usermod -aG freerad $USER`, then log in again)."
            ) from None
        return stock
    raise FreeRadiusMissingError(f"FreeRADIUS has no stock {_QUERIES} in any of {', '.join(map(str, _STOCK))}.")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
