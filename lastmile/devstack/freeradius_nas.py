"""A FreeRADIUS that plays the NAS: a real peer for Disconnect and CoA requests.

Without sessions of its own it acknowledges what it is asked, except that an Acct-Session-Id can say what to do instead:
`gone-…` is answered with NAK 503 (Session-Context-Not-Found), `fixed-…` with NAK 504 (Session-Context-Not-Removable),
and `silent-…` not at all. With sessions it acknowledges a request whose attributes all match one of them (RFC 5176
section 3), and answers every other request with NAK 503.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from lastmile.devstack.freeradius import find_freeradius
from lastmile.devstack.ports import HOST
from lastmile.devstack.secret import write_private
from lastmile.devstack.server import ServerProcess
from lastmile.radius.dynauth import Nas

__all__ = ["FreeRadiusNas"]

# Replies carry no Message-Authenticator: FreeRADIUS 3.2.1 would compute a wrong one.
_CONFIGURATION = """
# Requests are remembered for five seconds, to answer a retransmission alike. Above this many it drops new ones.
max_requests = 65536

security {
    status_server = no
}
proxy_requests = no

client loopback {
    ipaddr = 127.0.0.0/8
    secret = "${nas_secret}"
}

modules {
    always ok {
        rcode = ok
    }
    always reject {
        rcode = reject
    }
    always handled {
        rcode = handled
    }
}

server nas {
    listen {
        type = coa
        ipaddr = ${nas_address}
        port = ${nas_port}
    }
    recv-coa {
        if (&Acct-Session-Id =~ /^gone-/) {
            update reply {
                &Error-Cause := Session-Context-Not-Found
            }
            reject
        }
        elsif (&Acct-Session-Id =~ /^fixed-/) {
            update reply {
                &Error-Cause := Session-Context-Not-Removable
            }
            reject
        }
        elsif (&Acct-Session-Id =~ /^silent-/) {
            update control {
                &Response-Packet-Type := Do-Not-Respond
            }
            handled
        }
        %(otherwise)s
    }
}
"""

_ACKNOWLEDGE = """else {
            ok
        }"""
_NOT_FOUND = """else {
            update reply {
                &Error-Cause := Session-Context-Not-Found
            }
            reject
        }"""


class FreeRadiusNas:
    """Listens on `port` of the loopback address; its clients, on the loopback too, share `secret` with it.

    `async with` runs it.

    Raises:
        ValueError: `secret` has characters that mean something in a FreeRADIUS configuration.
    """

    process: ServerProcess

    def __init__(
        self, directory: Path, *, secret: bytes, port: int, sessions: Sequence[Mapping[str, str]] = ()
    ) -> None:
        """`sessions` are identification attributes and their values, of each session that this NAS has."""
        if not re.fullmatch(rb"[\w.~-]+", secret):
            raise ValueError("the secret of a FreeRADIUS NAS is letters, digits and ._~- only")
        self._directory = directory.absolute()
        self._secret = secret
        self._port = port
        self._sessions = sessions

    @property
    def nas(self) -> Nas:
        """This NAS as a client sees it."""
        return Nas("freeradius", HOST, self._port, self._secret)

    async def __aenter__(self) -> Self:
        """Start it.

        Raises:
            FreeRadiusMissing: FreeRADIUS is not installed.
            ServerFailed: it did not start; the end of its log is shown.
        """
        program = find_freeradius()
        configuration = self._directory / "nas"
        configuration.mkdir(parents=True, exist_ok=True)
        write_private(configuration / "radiusd.conf", self._variables() + self._configuration())
        self.process = await ServerProcess.start(
            "FreeRADIUS as NAS",
            [program, "-f", "-l", "stdout", "-d", configuration, "-n", "radiusd"],
            log=self._directory / "logs" / "nas.log",
        )
        await self.process.ready(self._says_ready, within=30)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _says_ready(self) -> bool:
        return "Ready to process requests" in self.process.output()

    def _configuration(self) -> str:
        otherwise = [f"elsif ({_matches(session)}) {{\nok\n}}" for session in self._sessions]
        return _CONFIGURATION % {"otherwise": "\n".join([*otherwise, _NOT_FOUND if otherwise else _ACKNOWLEDGE])}

    def _variables(self) -> str:
        secret = self._secret.decode()
        return f'nas_address = {HOST}\nnas_port = {self._port}\nnas_secret = "{secret}"\n'


def _matches(session: Mapping[str, str]) -> str:
    """Return the condition, in FreeRADIUS's language, that each attribute is absent or the session's."""
    return " && ".join(f"(!&{name} || (&{name} == {_quoted(value)}))" for name, value in session.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("'", r"\'")
    return f"'{escaped}'"
