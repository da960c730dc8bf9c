"""A FreeRADIUS in the role of a NAS: a real peer for Disconnect-Requests and CoA-Requests.

With a list of sessions, it acknowledges a request whose attributes all match one session (RFC 5176 section 3), and
answers every other request with NAK 503. Without sessions, the Acct-Session-Id selects the answer:

- `gone-…`: NAK 503 (Session-Context-Not-Found);
- `fixed-…`: NAK 504 (Session-Context-Not-Removable);
- `silent-…`: no answer;
- any other: ACK.
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
# The server keeps requests for five seconds to answer retransmissions, and drops new requests above this number.
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
    """A NAS on `port` of the loopback address, run by `async with`. `secret` is the shared secret of its clients.

    Raises:
        ValueError: `secret` has special characters of a FreeRADIUS configuration.
    """

    process: ServerProcess

    def __init__(
        self, directory: Path, *, secret: bytes, port: int, sessions: Sequence[Mapping[str, str]] = ()
    ) -> None:
        """Create the NAS. `sessions` has the identification attributes of each session of the NAS."""
        if not re.fullmatch(rb"[\w.~-]+", secret):
            raise ValueError("the secret of a FreeRADIUS NAS must have only letters, digits and ._~-")
        self._directory = directory.absolute()
        self._secret = secret
        self._port = port
        self._sessions = sessions

    @property
    def nas(self) -> Nas:
        """Return this NAS as a client addresses it."""
        return Nas("freeradius", HOST, self._port, self._secret)

    async def __aenter__(self) -> Self:
        """Start the server.

        Raises:
            FreeRadiusMissingError: FreeRADIUS is not installed.
            ServerFailedError: the server did not start. The message has the end of its log.
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
        await self.process.ready(self._is_ready, within=30)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _is_ready(self) -> bool:
        return "Ready to process requests" in self.process.output()

    def _configuration(self) -> str:
        otherwise = [f"elsif ({_matches(session)}) {{\nok\n}}" for session in self._sessions]
        return _CONFIGURATION % {"otherwise": "\n".join([*otherwise, _NOT_FOUND if otherwise else _ACKNOWLEDGE])}

    def _variables(self) -> str:
        secret = self._secret.decode()
        return f'nas_address = {HOST}\nnas_port = {self._port}\nnas_secret = "{secret}"\n'


def _matches(session: Mapping[str, str]) -> str:
    """Return the FreeRADIUS condition that each attribute is absent, or has the value of the session."""
    return " && ".join(f"(!&{name} || (&{name} == {_quoted(value)}))" for name, value in session.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("'", r"\'")
    return f"'{escaped}'"
