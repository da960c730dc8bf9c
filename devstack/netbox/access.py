"""Who asks, and what they may do."""

from dataclasses import dataclass
from datetime import UTC, datetime

from devstack.netbox.problems import Problem
from devstack.netbox.resource import Resource
from devstack.netbox.store import Store
from devstack.netbox.user_resources import USER

__all__ = ["Caller", "authenticate", "install"]

_ACTIONS = {"GET": "view", "HEAD": "view", "POST": "add", "PUT": "change", "PATCH": "change", "DELETE": "delete"}


@dataclass(frozen=True)
class Caller:
    """The user of a token."""

    id: int
    username: str
    superuser: bool
    may_write: bool
    """The token's own limit."""
    granted: frozenset[tuple[str, str]]
    """Kinds of objects and actions on them."""

    def may(self, method: str, resource: Resource) -> bool:
        """Whether the token and the user's permissions allow this HTTP method on this kind of object."""
        action = _ACTIONS.get(method)
        if action is None or (action != "view" and not self.may_write):
            return action is None
        return self.superuser or (resource.type, action) in self.granted

    def check(self, method: str, resource: Resource) -> None:
        """
        Raises:
            Problem: 403.
        """
        if not self.may(method, resource):
            raise Problem(403, {"detail": "You do not have permission to perform this action."})


def authenticate(header: str, store: Store) -> Caller:
    """The caller that an `Authorization` header names.

    Raises:
        Problem: 403 (never 401), also where there is no header.
    """
    keyword, _, key = header.partition(" ")
    if keyword.lower() != "token" or not key:
        raise Problem(403, {"detail": "Authentication credentials were not provided."})
    found = store.matching("users.token", {"key": key.strip()})
    if not found:
        raise Problem(403, {"detail": "Invalid token"})
    [token] = found
    if token["expires"] and datetime.fromisoformat(token["expires"]) <= datetime.now(UTC):
        raise Problem(403, {"detail": "Token expired"})
    user = store.get("users.user", token["user"])
    if user is None or not user["is_active"]:
        raise Problem(403, {"detail": "User inactive"})
    granted = {
        (kind, action)
        for permission in store.all("users.objectpermission")
        if permission["enabled"] and user["id"] in permission["users"]
        for kind in permission["object_types"]
        for action in permission["actions"]
    }
    return Caller(user["id"], user["username"], user["is_superuser"], token["write_enabled"], frozenset(granted))


def install(store: Store, token: str) -> None:
    """Have a superuser `admin` with this token, as a NetBox that has just been installed.

    Raises:
        ValueError: NetBox's tokens have 40 characters.
    """
    if len(token) != 40:
        raise ValueError(f"A NetBox token has 40 characters, this one {len(token)}.")
    with store.transaction():
        if not store.matching("users.user", {"username": "admin"}):
            blank = {name: field.default for name, field in USER.fields.items()}
            store.add("users.user", {**blank, "username": "admin", "is_superuser": True})
        [admin] = store.matching("users.user", {"username": "admin"})
        if not store.matching("users.token", {"key": token}):
            store.add(
                "users.token",
                {"user": admin["id"], "expires": None, "key": token, "write_enabled": True, "description": ""},
            )
