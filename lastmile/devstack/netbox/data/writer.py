"""Writes to the store as NetBox makes them: with times, entries in the change log, and dependent objects."""

import uuid
from datetime import UTC, datetime
from typing import Any

from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.http.access import Caller, token_of
from lastmile.devstack.netbox.http.http_errors import HttpError
from lastmile.devstack.netbox.model.fields import Object, Ref, Refs
from lastmile.devstack.netbox.model.resource import Resource
from lastmile.devstack.netbox.model.resources import CUSTOM_FIELD, RESOURCES

__all__ = ["Writer"]

_NOT_LOGGED = ("id", "created", "last_updated", "scope", "key", "token", "password")
_UNLOGGED = ("core.objectchange", "extras.journalentry")


class Writer:
    """The writes of one request. The caller must hold a transaction of the store."""

    def __init__(self, store: Store, caller: Caller, request_id: uuid.UUID) -> None:
        self._store = store
        self._caller = caller
        self._request_id = str(request_id)

    def create(self, resource: Resource, attributes: Object) -> Object:
        if resource.type == "users.token":
            attributes |= token_of(self._store.version, attributes)
        if resource.type == "extras.journalentry":
            attributes["created_by"] = self._caller.id
        created = self._store.add(resource.type, {**attributes, "created": _now(), "last_updated": _now()})
        self._log(resource, "create", None, created)
        return created

    def update(self, resource: Resource, current: Object, attributes: Object) -> Object:
        changed = {**current, **attributes, "last_updated": _now()}
        self._store.replace(resource.type, changed)
        self._log(resource, "update", current, changed)
        return changed

    def delete(self, resource: Resource, current: Object) -> None:
        """Delete an object that `check_deletable` has checked."""
        self._release(resource, current)
        self._store.remove(resource.type, current["id"])
        self._log(resource, "delete", current, None)

    def check_deletable(self, resource: Resource, current: Object) -> None:
        """Check that no other object prevents the deletion.

        Raises:
            HttpError: 409; another object refers to this one.
        """
        found = [
            (one["id"], other.display(one))
            for other, name in _referring(resource, Ref)
            # `_referring` returns reference fields alone, which the type of `fields` does not say.
            if other.fields[name].protects  # type: ignore[attr-defined]
            for one in self._store.all(other.type)
            if one[name] == current["id"]
        ]
        dependents = [f"{display} ({key})" for key, display in sorted(found)]
        if dependents:
            what = "dependent objects were" if len(dependents) > 1 else "dependent object was"
            detail = f"Unable to delete object. {len(dependents)} {what} found: {', '.join(dependents)}"
            raise HttpError(409, {"detail": detail})

    def _release(self, resource: Resource, current: Object) -> None:
        """Remove the object from objects that refer to it (tags, custom fields), and delete its tokens."""
        for other, name in _referring(resource, Refs):
            for one in [one for one in self._store.all(other.type) if current["id"] in one[name]]:
                self._store.replace(other.type, {**one, name: [key for key in one[name] if key != current["id"]]})
        if resource.type == "users.user":
            for token in self._store.matching("users.token", {"user": current["id"]}):
                self._store.remove("users.token", token["id"])
        if resource is CUSTOM_FIELD:
            name = current["name"]
            for other in RESOURCES:
                carriers = [one for one in self._store.all(other.type) if name in one.get("custom_fields", ())]
                for one in carriers:
                    rest = {field: value for field, value in one["custom_fields"].items() if field != name}
                    self._store.replace(other.type, {**one, "custom_fields": rest})

    def _log(self, resource: Resource, action: str, before: Object | None, after: Object | None) -> None:
        if resource.type in _UNLOGGED:
            return
        change = {
            "time": _now(),
            "user": self._caller.id,
            "user_name": self._caller.username,
            "request_id": self._request_id,
            "action": action,
            "changed_object_type": resource.type,
            "changed_object_id": (after or before or {})["id"],
            "message": "",
            "prechange_data": self._data(resource, before),
            "postchange_data": self._data(resource, after),
        }
        self._store.add("core.objectchange", change)

    def _data(self, resource: Resource, stored: Object | None) -> Object:
        if stored is None:
            return {}
        data = {name: value for name, value in stored.items() if name not in _NOT_LOGGED}
        if "tags" in data:
            data["tags"] = sorted(tag["name"] for tag in self._store.all("extras.tag") if tag["id"] in data["tags"])
        return data | ({"owner": None} if resource.type in self._store.version.owned else {})


def _referring(resource: Resource, kind: type[Any]) -> list[tuple[Resource, str]]:
    return [
        (other, name)
        for other in RESOURCES
        for name, field in other.fields.items()
        if isinstance(field, kind) and field.to == resource.type
    ]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
