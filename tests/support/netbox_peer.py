"""A client of the NetBox under test, stand-in or real, that deletes what a test created."""

import uuid
from typing import Any
from urllib.parse import urlsplit

import requests

from lastmile.devstack.netbox.http.access import authorization

__all__ = ["Peer"]

PASSWORD = "Contract-2026-only"


class Peer:
    """Requests to one NetBox, as its superuser or as another user. `clean_up` deletes what was created.

    Each request opens a connection. After a request whose body NetBox did not read, a 404 for one, gunicorn sometimes
    closes a connection that it promised to keep open, and the next request on it gets no reply.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._made: list[str] = []

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        raw: str | None = None,
        content_type: str = "application/json",
        if_match: str | None = None,
    ) -> requests.Response:
        """Send a request; return the reply. `body` is sent as JSON, `raw` unchanged; the token "" means none."""
        key = self.token if token is None else token
        headers = {"Accept": "application/json"} | ({"Authorization": authorization(key)} if key else {})
        if if_match is not None:
            headers["If-Match"] = if_match
        if raw is None:
            reply = requests.request(method, self.url + path, json=body, headers=headers, timeout=60)
        else:
            headers["Content-Type"] = content_type
            reply = requests.request(method, self.url + path, data=raw, headers=headers, timeout=60)
        if reply.status_code == 201:
            created = reply.json()
            self._made += [urlsplit(one["url"]).path for one in (created if isinstance(created, list) else [created])]
        return reply

    def create(self, path: str, **attributes: Any) -> Any:
        """Create an object; return it."""
        reply = self.send("POST", path, attributes)
        assert reply.status_code == 201, reply.text
        return reply.json()

    def found(self, path: str) -> list[Any]:
        """Return the results of a list."""
        reply = self.send("GET", path)
        assert reply.status_code == 200, reply.text
        return list(reply.json()["results"])

    def token_for(self, *actions: str, write_enabled: bool = True, constraints: Any = None) -> str:
        """Create a user with these `actions` on prefixes, limited by `constraints`; return its token."""
        key, name = uuid.uuid4().hex + "0" * 8, f"lastmile-{uuid.uuid4().hex[:8]}"
        user = self.create("/api/users/users/", username=name, password=PASSWORD)
        made = self.create("/api/users/tokens/", user=user["id"], key=key, write_enabled=write_enabled)
        if made.get("version") == 2:  # since NetBox 4.5, which chooses the token
            key = f"nbt_{made['key']}.{made['token']}"
        if actions:
            grant = {"object_types": ["ipam.prefix"], "actions": list(actions), "users": [user["id"]]}
            grant["constraints"] = constraints
            self.create("/api/users/permissions/", name=name, **grant)
        return key

    def clean_up(self) -> None:
        """Delete the created objects, newest first."""
        for path in reversed(self._made):
            reply = self.send("DELETE", path)
            assert reply.status_code in (204, 404), f"could not remove {path}: {reply.text}"
        self._made.clear()
