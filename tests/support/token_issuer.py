"""An OpenID Connect issuer on a loopback socket: a discovery document, its keys, and the tokens that it signs."""

import json
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

__all__ = ["AUDIENCE", "TokenIssuer", "make_key"]

AUDIENCE = "https://lastmile.example.net"


def make_key(algorithm: str, key_id: str) -> Key:
    """Make a key pair for the algorithm."""
    parameters = {"kid": key_id, "use": "sig"}
    match algorithm:
        case "RS256":
            return RSAKey.generate_key(2048, parameters)
        case "ES256":
            return ECKey.generate_key("P-256", parameters)
        case _:
            return OKPKey.generate_key("Ed25519", parameters)


@dataclass
class TokenIssuer:
    """A running issuer."""

    url: str
    published: list[Key]
    answering: threading.Event = field(default_factory=threading.Event)
    """Cleared: a request for the keys waits."""
    waiting: threading.Event = field(default_factory=threading.Event)
    """Set: a request for the keys has arrived."""
    broken: bool = False
    """The issuer answers with an error."""
    document: dict[str, Any] = field(default_factory=dict)
    """What the discovery document says otherwise."""
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for."""

    @classmethod
    @contextmanager
    def running(cls, keys: Sequence[Key]) -> Iterator["TokenIssuer"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        issuer = cls(f"http://127.0.0.1:{server.server_port}/realm", list(keys))
        issuer.answering.set()
        server.issuer = issuer  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            issuer.answering.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def token(
        self, key: Key | None = None, *, algorithm: str | None = None, kid: str | None = "", **claims: Any
    ) -> str:
        """Sign a token for a person of acme; a claim that is None is left out."""
        key = key or self.published[0]
        given = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ada",
            "exp": int(time.time()) + 300,
            "tenant": "acme",
            "scope": "openid orders:read",
        } | claims
        usual = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519", "oct": "HS256"}[key.key_type]
        header = {"alg": algorithm or usual, "kid": key.kid if kid == "" else kid}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of the name EdDSA
            return jwt.encode(
                {name: value for name, value in header.items() if value is not None},
                {name: value for name, value in given.items() if value is not None},
                key,
                algorithms=[header["alg"] or ""],
            )

    def count(self) -> int:
        """Return how often the keys were asked for."""
        return self.asked.count("/realm/keys")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        issuer: TokenIssuer = self.server.issuer  # type: ignore[attr-defined]
        issuer.asked.append(self.path)
        if issuer.broken:
            self.send_error(500)
            return
        if self.path == "/realm/.well-known/openid-configuration":
            answer: Any = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"} | issuer.document
        else:
            issuer.waiting.set()
            issuer.answering.wait()
            answer = {"keys": [key.as_dict(private=False) for key in issuer.published]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
