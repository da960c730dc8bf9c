"""The authentication of callers and their permissions."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.http.http_errors import HttpError
from lastmile.devstack.netbox.model.constraints import reaches
from lastmile.devstack.netbox.model.fields import Object
from lastmile.devstack.netbox.model.resource import Resource
from lastmile.devstack.netbox.model.user_resources import TOKEN, USER
from lastmile.devstack.netbox.model.versions import Version

__all__ = ["Caller", "authenticate", "authorization", "install", "token_of"]

_PREFIX = "nbt_"
"""The prefix of tokens of version 2."""

_ACTIONS = {"GET": "view", "HEAD": "view", "POST": "add", "PUT": "change", "PATCH": "change", "DELETE": "delete"}


@dataclass(frozen=True)
class Caller:
    """The user of a token."""

    id: int
    username: str
    superuser: bool
    may_write: bool
    """Whether the token itself allows writes."""
    granted: Mapping[tuple[str, str], Sequence[Any]]
    """The constraints of the permissions, by kind of object and action."""
    store: Store

    def may(self, method: str, resource: Resource) -> bool:
        """Return whether the token and the user's permissions allow this HTTP method on this kind of object."""
        action = _ACTIONS.get(method)
        if action is None or (action != "view" and not self.may_write):
            return action is None
        return self.superuser or (resource.type, action) in self.granted

    def reaches(self, method: str, resource: Resource, stored: Object) -> bool:
        """Return whether the constraints of the permissions include this object. Call `check` first."""
        constraints = self.granted.get((resource.type, _ACTIONS[method]), ())
        return self.superuser or any(reaches(one, resource, stored, self.store) for one in constraints)

    def check(self, method: str, resource: Resource) -> None:
        """Check the permission for a method on a kind of object.

        Raises:
            HttpError: 403.
        """
        if not self.may(method, resource):
            raise HttpError(403, {"detail": "You do not have permission to perform this action."})


def authenticate(header: str, store: Store) -> Caller:
    """Return the caller of an `Authorization` header.

    Raises:
        HttpError: 403 (never 401), also without a header.
    """
    token = _token(header, store)
    if not token.get("enabled", True):
        raise HttpError(403, {"detail": "Token disabled"})
    if token["expires"] and datetime.fromisoformat(token["expires"]) <= datetime.now(UTC):
        raise HttpError(403, {"detail": "Token expired"})
    user = store.get("users.user", token["user"])
    if user is None or not user["is_active"]:
        raise HttpError(403, {"detail": "User inactive"})
    granted: dict[tuple[str, str], list[Any]] = {}
    for permission in store.all("users.objectpermission"):
        if permission["enabled"] and user["id"] in permission["users"]:
            for pair in product(permission["object_types"], permission["actions"]):
                granted.setdefault(pair, []).append(permission["constraints"])
    return Caller(user["id"], user["username"], user["is_superuser"], token["write_enabled"], granted, store)


def _token(header: str, store: Store) -> Object:
    """Return the token of an `Authorization` header.

    Raises:
        HttpError: 403.
    """
    keyword, _, value = header.partition(" ")
    both = store.version.v2_tokens
    if keyword.lower() not in ({"token", "bearer"} if both else {"token"}) or not value:
        raise HttpError(403, {"detail": "Authentication credentials were not provided."})
    number = 2 if both and value.startswith(_PREFIX) else 1
    key, dot, secret = value.strip().removeprefix(_PREFIX if number == 2 else "").partition(".")
    if number == 2 and not dot:
        words = "Could not parse key from v2 token. Did you mean to use 'Token' instead of 'Bearer'?"
        raise HttpError(403, {"detail": f"Invalid authorization header: {words}"})
    found = [
        one
        for one in store.matching("users.token", {"key": key})
        if (one.get("version", 1), one.get("token", "")) == (number, secret)  # an older file has neither
    ]
    if not found:
        raise HttpError(403, {"detail": f"Invalid v{number} token" if both else "Invalid token"})
    return found[0]


def token_of(version: Version, body: Object) -> Object:
    """Return the stored fields of a new token. The field `token` is the secret of a token of version 2."""
    generated = body["token"] or body["key"] or secrets.token_hex(20)
    if version.v2_tokens and body["version"] != 1:
        return {"version": 2, "key": secrets.token_hex(6), "token": generated}
    return {"version": 1, "key": generated, "token": ""}


def authorization(token: str) -> str:
    """Return the header `Authorization` for this token."""
    return f"{'Bearer' if token.startswith(_PREFIX) else 'Token'} {token}"


def install(store: Store, token: str) -> None:
    """Create a superuser `admin` with this token, as in a newly installed NetBox.

    Raises:
        ValueError: the token is neither 40 characters nor `nbt_<key>.<secret>` of a version with such tokens.
    """
    key, secret, number = token, "", 1
    if store.version.v2_tokens and token.startswith(_PREFIX):
        key, _, secret = token.removeprefix(_PREFIX).partition(".")
        number = 2
    if len(secret or key) != 40:
        raise ValueError(f"A NetBox token has 40 characters, but this token has {len(secret or key)}.")
    with store.transaction():
        if not store.matching("users.user", {"username": "admin"}):
            blank = {name: field.default for name, field in USER.fields.items()}
            store.add("users.user", {**blank, "username": "admin", "is_superuser": True})
        [admin] = store.matching("users.user", {"username": "admin"})
        if not store.matching("users.token", {"key": key}):
            blank = {name: field.default for name, field in TOKEN.fields.items()}
            store.add("users.token", {**blank, "user": admin["id"], "version": number, "key": key, "token": secret})
