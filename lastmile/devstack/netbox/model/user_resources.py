"""The kinds of objects for users, tokens and permissions, as data."""

from lastmile.devstack.netbox.model.fields import Field, Fixed, Flag, Items, Number, Ref, Refs, Text
from lastmile.devstack.netbox.model.resource import Resource

__all__ = ["PERMISSION", "TOKEN", "USER"]

USER = Resource(
    path="users/users",
    type="users.user",
    name="User",
    fields={
        "username": Text(required=True),
        "password": Text(required=True, hidden=True),
        "first_name": Text(),
        "last_name": Text(),
        "email": Text(),
        "is_staff": Flag(),
        "is_active": Flag(default=True),
        "date_joined": Fixed(),
        "last_login": Fixed(),
        "groups": Fixed(default=()),
        "permissions": Fixed(default=()),
        "is_superuser": Flag(hidden=True),
    },
    brief=("username",),
    display=lambda user: str(user["username"]),
    order=lambda user: user["username"],
    unique={"username": "A user with this username already exists."},
)

TOKEN = Resource(
    path="users/tokens",
    type="users.token",
    name="Token",
    fields={
        "user": Ref(to="users.user", null=False, required=True, protects=False),
        "expires": Text(null=True, default=None),
        "version": Number(null=True, default=None, hidden=True),
        "key": Text(pattern=r".{40}", complaint="Ensure this field has at least 40 characters.", hidden=True),
        "token": Text(pattern=r".{40}", complaint="Ensure this field has at least 40 characters.", hidden=True),
        "enabled": Flag(default=True, hidden=True),
        "write_enabled": Flag(default=True),
        "description": Text(),
        "last_used": Fixed(),
        "allowed_ips": Fixed(default=()),
    },
    brief=("write_enabled", "description"),
    display=lambda token: f"{'*' * 34}{token['key'][-6:]}",
    order=lambda token: -token["id"],
)

PERMISSION = Resource(
    path="users/permissions",
    type="users.objectpermission",
    name="ObjectPermission",
    fields={
        "name": Text(required=True),
        "description": Text(),
        "enabled": Flag(default=True),
        "object_types": Items(required=True),
        "actions": Items(required=True),
        "constraints": Field(null=True),
        "groups": Fixed(default=()),
        "users": Refs(to="users.user"),
    },
    brief=("name", "description", "enabled", "object_types", "actions"),
    display=lambda permission: str(permission["name"]),
    order=lambda permission: permission["name"],
)
