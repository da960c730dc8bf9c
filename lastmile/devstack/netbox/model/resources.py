"""The kinds of objects in the stand-in, as data."""

from collections.abc import Callable
from typing import Any

from lastmile.devstack.netbox.model.fields import (
    Address,
    Choice,
    Field,
    Fixed,
    Flag,
    Items,
    Number,
    Object,
    Prefix,
    Ref,
    Refs,
    Text,
)
from lastmile.devstack.netbox.model.networks import Network
from lastmile.devstack.netbox.model.resource import Resource
from lastmile.devstack.netbox.model.user_resources import PERMISSION, TOKEN, USER

__all__ = ["BY_PATH", "BY_TYPE", "CUSTOM_FIELD", "RESOURCES"]

_SLUG = Text(
    required=True,
    pattern=r"[-a-zA-Z0-9_]+",
    complaint="Enter a valid “slug” consisting of letters, numbers, underscores or hyphens.",
)
_NAME = Text(required=True)
_TAGS = Refs(to="extras.tag")
_PROSE: dict[str, Field] = {"description": Text(), "comments": Text(), "tags": _TAGS}
_TENANT = Ref(to="tenancy.tenant")
_VRF = Ref(to="ipam.vrf")


def _by_name(shown: Object) -> Any:
    return shown["name"]


def _vrf_display(vrf: Object) -> str:
    return f"{vrf['name']} ({vrf['rd']})" if vrf["rd"] else str(vrf["name"])


def _in_address_order(attribute: str) -> Callable[[Object], Any]:
    """Return the sort key of a prefix: the order of PostgreSQL's `inet`."""
    return lambda shown: (*Network.parse(shown[attribute]), shown["id"])


def _prefix_order(prefix: Object) -> Any:
    return (prefix["vrf"] is not None, prefix["vrf"] or 0, *Network.parse(prefix["prefix"]), prefix["id"])


TENANT = Resource(
    path="tenancy/tenants",
    type="tenancy.tenant",
    name="Tenant",
    fields={"name": _NAME, "slug": _SLUG, "group": Fixed(), **_PROSE},
    brief=("name", "slug", "description"),
    display=_by_name,
    order=_by_name,
    unique={
        "name": "Constraint “tenancy_tenant_unique_name” is violated.",
        "slug": "Constraint “tenancy_tenant_unique_slug” is violated.",
    },
    custom_fields=True,
)

VRF = Resource(
    path="ipam/vrfs",
    type="ipam.vrf",
    name="VRF",
    fields={
        "name": _NAME,
        "rd": Text(null=True, default=None),
        "tenant": _TENANT,
        "enforce_unique": Flag(default=True),
        "import_targets": Fixed(default=()),
        "export_targets": Fixed(default=()),
        **_PROSE,
    },
    brief=("name", "rd", "description"),
    display=_vrf_display,
    order=lambda vrf: (vrf["name"], vrf["rd"] or "￿", vrf["id"]),
    unique={"rd": "VRF with this route distinguisher already exists."},
    custom_fields=True,
)

TAG = Resource(
    path="extras/tags",
    type="extras.tag",
    name="Tag",
    fields={
        "name": _NAME,
        "slug": _SLUG,
        "color": Text(default="9e9e9e"),
        "description": Text(),
        "weight": Number(default=1000),
        "object_types": Items(),
    },
    brief=("display_url", "name", "slug", "color"),
    display=_by_name,
    order=lambda tag: (tag["weight"], tag["name"]),
    unique={"name": "tag with this name already exists.", "slug": "tag with this slug already exists."},
)

CUSTOM_FIELD = Resource(
    path="extras/custom-fields",
    type="extras.customfield",
    name="CustomField",
    fields={
        "object_types": Items(required=True),
        "type": Choice(
            required=True,
            labels={
                "text": "Text",
                "longtext": "Text (long)",
                "integer": "Integer",
                "boolean": "Boolean (true/false)",
                "date": "Date",
                "datetime": "Date & time",
                "url": "URL",
                "json": "JSON",
            },
        ),
        "related_object_type": Fixed(),
        "name": Text(
            required=True,
            pattern=r"[a-zA-Z0-9_]+",
            complaint="Only alphanumeric characters and underscores are allowed.",
        ),
        "label": Text(),
        "group_name": Text(),
        "description": Text(),
        "required": Flag(),
        "unique": Flag(),
        "search_weight": Number(default=1000),
        "filter_logic": Choice(default="loose", labels={"disabled": "Disabled", "loose": "Loose", "exact": "Exact"}),
        "ui_visible": Choice(default="always", labels={"always": "Always", "if-set": "If set", "hidden": "Hidden"}),
        "ui_editable": Choice(default="yes", labels={"yes": "Yes", "no": "No", "hidden": "Hidden"}),
        "is_cloneable": Flag(),
        "default": Field(null=True),
        "related_object_filter": Fixed(),
        "weight": Number(default=100),
        "validation_minimum": Number(null=True),
        "validation_maximum": Number(null=True),
        "validation_regex": Text(),
        "choice_set": Fixed(),
        "comments": Text(),
    },
    brief=("name", "description"),
    display=lambda custom: custom["label"] or custom["name"].replace("_", " ").capitalize(),
    order=lambda custom: (custom["group_name"], custom["weight"], custom["name"]),
    unique={"name": "custom field with this name already exists."},
)

PREFIX = Resource(
    path="ipam/prefixes",
    type="ipam.prefix",
    name="Prefix",
    fields={
        "prefix": Prefix(required=True),
        "vrf": _VRF,
        "scope_type": Fixed(),
        "scope_id": Fixed(),
        "scope": Fixed(),
        "tenant": _TENANT,
        "vlan": Fixed(),
        "status": Choice(
            default="active",
            labels={
                "container": "Container",
                "active": "Active",
                "reserved": "Reserved",
                "deprecated": "Deprecated",
            },
        ),
        "role": Fixed(),
        "is_pool": Flag(),
        "mark_utilized": Flag(),
        **_PROSE,
    },
    brief=("family", "prefix", "description", "_depth"),
    display=lambda prefix: str(prefix["prefix"]),
    order=_prefix_order,
    custom_fields=True,
)

IP_ADDRESS = Resource(
    path="ipam/ip-addresses",
    type="ipam.ipaddress",
    name="IPAddress",
    fields={
        "address": Address(required=True),
        "vrf": _VRF,
        "tenant": _TENANT,
        "status": Choice(
            default="active",
            labels={
                "active": "Active",
                "reserved": "Reserved",
                "deprecated": "Deprecated",
                "dhcp": "DHCP",
                "slaac": "SLAAC",
            },
        ),
        "role": Fixed(),
        "assigned_object_type": Fixed(),
        "assigned_object_id": Fixed(),
        "assigned_object": Fixed(),
        "nat_inside": Fixed(),
        "nat_outside": Fixed(default=()),
        "dns_name": Text(),
        **_PROSE,
    },
    brief=("family", "address", "description"),
    display=lambda address: str(address["address"]),
    order=_in_address_order("address"),
    custom_fields=True,
)

_JOURNAL_KINDS = {"info": "Info", "success": "Success", "warning": "Warning", "danger": "Danger"}

JOURNAL_ENTRY = Resource(
    path="extras/journal-entries",
    type="extras.journalentry",
    name="JournalEntry",
    fields={
        "assigned_object_type": Text(required=True),
        "assigned_object_id": Number(required=True),
        "created_by": Ref(to="users.user", protects=False),
        "kind": Choice(default="info", labels=_JOURNAL_KINDS),
        "comments": Text(required=True),
        "tags": _TAGS,
    },
    brief=("created",),
    display=lambda entry: f"{entry['created'][:16].replace('T', ' ')} ({_JOURNAL_KINDS[entry['kind']]})",
    order=lambda entry: -entry["id"],
    custom_fields=True,
)

OBJECT_CHANGE = Resource(
    path="core/object-changes",
    type="core.objectchange",
    name="ObjectChange",
    fields={
        "time": Text(),
        "user": Ref(to="users.user", protects=False),
        "user_name": Text(),
        "request_id": Text(),
        "action": Choice(labels={"create": "Created", "update": "Updated", "delete": "Deleted"}),
        "changed_object_type": Text(),
        "changed_object_id": Number(),
        "message": Text(),
        "prechange_data": Field(null=True),
        "postchange_data": Field(null=True),
    },
    brief=("time",),
    display=lambda change: "",
    order=lambda change: -change["id"],
    web="core/changelog",
)

RESOURCES = (
    IP_ADDRESS,
    PREFIX,
    VRF,
    TENANT,
    TAG,
    CUSTOM_FIELD,
    JOURNAL_ENTRY,
    OBJECT_CHANGE,
    USER,
    TOKEN,
    PERMISSION,
)
BY_PATH = {resource.path: resource for resource in RESOURCES}
BY_TYPE = {resource.type: resource for resource in RESOURCES}
