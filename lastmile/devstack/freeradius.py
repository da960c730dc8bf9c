"""An unmodified FreeRADIUS that serves the accounts of Lastmile with its own SQL queries.

The installation stays unchanged. A small configuration in the state directory includes the installed policies,
attribute filter and PostgreSQL queries.
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

# The constant part of the configuration. `_variables` defines the variables `${…}`.
_CONFIGURATION = """
security {
    status_server = yes
    reject_delay = 0
}
log {
    auth = no
}
proxy_requests = no

# The server listens only on the loopback address, and so accepts only local clients.
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
        # As the stock queries.conf says it, where it is commented out: the port of each login, for the audit.
        class {
            column_name = ", Class"
            packet_xlat = ", '%{Class}'"
            reply_xlat = ", '%{reply:Class}'"
        }
        $INCLUDE ${stock}/mods-config/sql/main/postgresql/queries.conf
    }
}

policy {
    $INCLUDE ${stock}/policy.d/filter
    $INCLUDE ${stock}/policy.d/accounting

    # The stock query would store the password of every login attempt in radpostauth.
    remove_password {
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
        remove_password
        sql
        Post-Auth-Type REJECT {
            remove_password
            sql
            attr_filter.access_reject
        }
    }
}
"""


class FreeRadiusMissingError(LastmileError):
    """FreeRADIUS is missing, incomplete or unreadable. The message has the remedy."""


def find_freeradius() -> Path:
    """Return the path of the server: `freeradius` on Debian, `radiusd` elsewhere.

    Raises:
        FreeRadiusMissingError: FreeRADIUS is not installed.
    """
    program = shutil.which("freeradius") or shutil.which("radiusd")
    if program is None:
        raise FreeRadiusMissingError(
            "FreeRADIUS is not installed (Debian: `apt install freeradius freeradius-utils freeradius-postgresql`)."
        )
    return Path(program)


class FreeRadius:
    """A FreeRADIUS server for authentication and accounting on the loopback address, run by `async with`.

    `database_url` has a login that is a member of `lastmile_radius`. `secret` is the shared secret of its clients.
    """

    process: ServerProcess

    def __init__(self, directory: Path, *, database_url: str, secret: str, auth_port: int, acct_port: int) -> None:
        self._directory = directory.absolute()
        self._database_url = database_url
        self.secret = secret
        self.auth_port = auth_port
        self.acct_port = acct_port

    async def __aenter__(self) -> Self:
        """Start the server.

        Raises:
            FreeRadiusMissingError: FreeRADIUS is missing or incomplete.
            ServerFailedError: the server did not start. The message has the end of its log.
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
            await self.process.ready(self._is_ready, within=30)
        except ServerFailedError:
            if "Could not link driver rlm_sql_postgresql" in self.process.output():
                raise FreeRadiusMissingError(
                    "FreeRADIUS lacks its PostgreSQL driver (Debian: `apt install freeradius-postgresql`)."
                ) from None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _is_ready(self) -> bool:
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
    """Return the directory of the installed configuration.

    Raises:
        FreeRadiusMissingError: there is none, or this user may not read it (on Debian, other users may not).
    """
    for stock in _STOCK:
        try:
            (stock / _QUERIES).open().close()
        except FileNotFoundError:
            continue
        except PermissionError:
            raise FreeRadiusMissingError(
                f"FreeRADIUS is installed, but you may not read its queries in {stock}. Join the group of that "
                "directory (Debian: `sudo usermod -aG freerad $USER`, then log in again)."
            ) from None
        return stock
    raise FreeRadiusMissingError(f"FreeRADIUS has no stock {_QUERIES} in any of {', '.join(map(str, _STOCK))}.")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
