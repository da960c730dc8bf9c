"""The form of stored objects in a reply."""

from collections.abc import Mapping
from typing import Any

from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.model.fields import Object
from lastmile.devstack.netbox.model.networks import Network
from lastmile.devstack.netbox.model.resource import Resource
from lastmile.devstack.netbox.model.resources import BY_TYPE
from lastmile.devstack.netbox.model.versions import Version

__all__ = ["Presenter"]

_DATA_TYPES = {"integer": "integer", "boolean": "boolean", "date": "string", "datetime": "string", "json": "object"}


class Presenter:
    """The conversion of a store's objects to their form in a reply, with URLs below `root` (`http://host:port`)."""

    def __init__(self, store: Store, root: str) -> None:
        self._store = store
        self._root = root

    @property
    def version(self) -> Version:
        """Return the version of NetBox."""
        return self._store.version

    def matching(self, kind: str, attributes: Mapping[str, Any]) -> list[Object]:
        """Return the objects of a kind that have all of `attributes`."""
        return self._store.matching(kind, attributes)

    def nested(self, kind: str, key: int) -> Any:
        """Return the short form of the object `key` of this kind; None if it was deleted."""
        stored = self._store.get(kind, key)
        return stored and self.brief(BY_TYPE[kind], stored)

    def brief(self, resource: Resource, stored: Object) -> Object:
        """Return the short form of an object."""
        shown = self.full(resource, stored)
        return {name: shown[name] for name in ("id", "url", "display", *resource.brief)}

    def full(self, resource: Resource, stored: Object) -> Object:
        """Return every field of an object."""
        path = f"{resource.path}/{stored['id']}/"
        return {
            "id": stored["id"],
            "url": f"{self._root}/api/{path}",
            "display_url": f"{self._root}/{resource.web}/{stored['id']}/" if resource.web else f"{self._root}/{path}",
            "display": self._display(resource, stored),
            **{
                name: field.show(stored.get(name, field.default), self)
                for name, field in resource.fields.items()
                if not field.hidden
            },
            **self._custom_fields(resource, stored),
            **({"owner": None} if resource.type in self.version.owned else {}),
            **self.version.more_fields.get(resource.type, {}),
            **self._computed(resource, stored),
            **{name: stored[name] for name in ("created", "last_updated") if name in stored},
        }

    def _display(self, resource: Resource, stored: Object) -> str:
        if resource.type != "core.objectchange":
            return resource.display(stored)
        app, _, model = stored["changed_object_type"].partition(".")
        action = resource.fields["action"].show(stored["action"], self)["label"].lower()
        where = app.upper() if app == "ipam" else app.capitalize()
        return f"{where} | {model} {_changed_name(stored)} {action} by {stored['user_name']}"

    def _custom_fields(self, resource: Resource, stored: Object) -> Object:
        if not resource.custom_fields:
            return {}
        names = sorted(
            custom["name"]
            for custom in self._store.all("extras.customfield")
            if resource.type in custom["object_types"]
        )
        return {"custom_fields": {name: stored["custom_fields"].get(name) for name in names}}

    def _computed(self, resource: Resource, stored: Object) -> Object:
        match resource.type:
            case "ipam.prefix":
                network = self._store.networks.get(stored["id"]) or Network.parse(stored["prefix"])
                return {
                    "family": _family(network),
                    "children": self._store.space.children(stored["vrf"], network),
                    "_depth": self._store.space.depth(stored["vrf"], network),
                }
            case "ipam.ipaddress":
                return {"family": _family(Network.parse(stored["address"]))}
            case "users.token" if self.version.v2_tokens:
                shown = {name: stored[name] for name in ("version", "enabled")}
                return shown | {"key": stored["key"] if stored["version"] == 2 else None}
            case "extras.customfield":
                return {"data_type": _DATA_TYPES.get(stored["type"], "string")}
            case "extras.journalentry":
                kind, key = stored["assigned_object_type"], stored["assigned_object_id"]
                return {"assigned_object": self.nested(kind, key), "created_by": stored["created_by"]}
            case "core.objectchange":
                known = stored["changed_object_type"] in BY_TYPE
                place = (stored["changed_object_type"], stored["changed_object_id"])
                changed = {"changed_object": self.nested(*place) if known else None}
                return changed | ({"object_repr": _changed_name(stored)} if self.version.names_changed_objects else {})
            case _:
                return {}


def _changed_name(change: Object) -> str:
    data = change["prechange_data"] or change["postchange_data"]
    return str(data.get("prefix") or data.get("address") or data.get("name") or change["changed_object_id"])


def _family(network: Network) -> Object:
    return {"value": network.family, "label": f"IPv{network.family}"}
