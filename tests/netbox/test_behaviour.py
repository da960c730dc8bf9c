"""Behaviour of NetBox that Lastmile relies on and that the recordings do not show, on the stand-in or a real NetBox."""

import uuid
from typing import Any

import pynetbox
import pytest

from lastmile.devstack.netbox.model.versions import Version
from tests.netbox.versions import each_version, on_4_6
from tests.support.netbox_peer import Peer

PREFIXES = "/api/ipam/prefixes/"


@pytest.fixture
def vrf(peer: Peer) -> int:
    """Create a VRF that enforces uniqueness; return its id."""
    key: int = peer.create("/api/ipam/vrfs/", name=f"lastmile-{uuid.uuid4().hex[:8]}")["id"]
    return key


@pytest.fixture
def pool(peer: Peer, vrf: int) -> int:
    """Create a container in that VRF; return its id."""
    key: int = peer.create(PREFIXES, prefix="2001:db8::/40", vrf=vrf, status="container")["id"]
    return key


def custom_field(peer: Peer, **attributes: Any) -> str:
    """Create a text field of prefixes; return its name."""
    name = f"lastmile_{uuid.uuid4().hex[:8]}"
    peer.create(
        "/api/extras/custom-fields/", **{"name": name, "type": "text", "object_types": ["ipam.prefix"]} | attributes
    )
    return name


def allocate(peer: Peer, pool: int, **attributes: Any) -> Any:
    return peer.create(f"{PREFIXES}{pool}/available-prefixes/", prefix_length=56, **attributes)


def test_list_with_an_unknown_or_empty_filter_ignores_it(peer: Peer, vrf: int, pool: int) -> None:
    key = custom_field(peer, filter_logic="exact")
    allocate(peer, pool, custom_fields={key: "k-1"})
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&cf_{key}=k-2")) == 0
    for ignored in (f"cf_{key}x=k-2", f"cf_{key}=", "parent=192.0.2.0/24"):
        assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&{ignored}")) == 2, ignored


def test_filter_on_a_loose_custom_field_matches_parts(peer: Peer, vrf: int, pool: int) -> None:
    loose, exact = custom_field(peer), custom_field(peer, filter_logic="exact")
    for value in ("1", "10", "sub_1"):
        allocate(peer, pool, custom_fields={loose: value, exact: value})
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&cf_{loose}=1")) == 3
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&cf_{exact}=1")) == 1
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&cf_{exact}=1&cf_{exact}=10")) == 2
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&cf_{exact}__empty=true")) == 1


@each_version
def test_undefined_custom_field_is_refused_or_dropped(version: Version, peer: Peer, pool: int) -> None:
    body = {"prefix_length": 56, "custom_fields": {"lastmile_no_such_field": "k-1"}}
    reply = peer.send("POST", f"{PREFIXES}{pool}/available-prefixes/", body)
    if version.refuses_unknown_custom_fields:
        words = "Custom field 'lastmile_no_such_field' does not exist for this object type."
        assert (reply.status_code, reply.json()) == (400, {"custom_fields": {"lastmile_no_such_field": words}})
    else:
        assert reply.status_code == 201
        assert "lastmile_no_such_field" not in reply.json()["custom_fields"]


@on_4_6
def test_change_with_an_outdated_etag_is_refused(version: Version, peer: Peer, pool: int) -> None:
    path = f"{PREFIXES}{pool}/"
    etag = peer.send("GET", path).headers["ETag"]
    assert peer.send("PATCH", path, {"description": "first"}, if_match=etag).status_code == 200
    late = peer.send("PATCH", path, {"description": "second"}, if_match=etag)
    assert (late.status_code, late.json()) == (412, {"detail": "Precondition failed."})
    assert peer.send("GET", path).headers["ETag"] == late.headers["ETag"]
    assert peer.send("DELETE", path, if_match=etag).status_code == 412
    assert peer.send("DELETE", path, if_match="*").status_code == 204


@each_version
def test_disabled_or_expired_token_is_refused(version: Version, peer: Peer) -> None:
    token = peer.token_for("view")
    [made] = peer.found("/api/users/tokens/?limit=1&ordering=-id")
    path = f"/api/users/tokens/{made['id']}/"
    assert peer.send("GET", PREFIXES, token=token).status_code == 200
    for change, words in [
        ({"expires": "2020-01-01T00:00:00Z"}, "Token expired"),
        ({"enabled": False}, "Token disabled"),
    ]:
        if "enabled" not in change or version.v2_tokens:
            assert peer.send("PATCH", path, change).status_code == 200
            reply = peer.send("GET", PREFIXES, token=token)
            assert (reply.status_code, reply.json()) == (403, {"detail": words})


@on_4_6
def test_tokens_of_both_versions_are_accepted(version: Version, peer: Peer) -> None:
    newer = peer.token_for("view")
    assert newer.startswith("nbt_")
    [user] = peer.found("/api/users/users/?username=admin")
    peer.create("/api/users/tokens/", user=user["id"], version=1, token="e" * 40)
    for token in (newer, "e" * 40):
        assert peer.send("GET", PREFIXES, token=token).status_code == 200
    assert peer.send("GET", PREFIXES, token=newer[:-1] + "!").json() == {"detail": "Invalid v2 token"}


def test_patch_merges_custom_fields(peer: Peer, pool: int) -> None:
    key, state = custom_field(peer), custom_field(peer)
    created = allocate(peer, pool, custom_fields={key: "k-1"})
    changed = peer.send("PATCH", f"{PREFIXES}{created['id']}/", {"custom_fields": {state: "active"}}).json()
    assert (changed["custom_fields"][key], changed["custom_fields"][state]) == ("k-1", "active")


@pytest.mark.parametrize(
    ("defined", "value", "complaint"),
    [
        ({"required": True}, None, "Invalid value for custom field '{}': Required field cannot be empty."),
        ({"validation_regex": "^k-"}, "x", "Invalid value for custom field '{}': Value must match regex '^k-'"),
        ({}, 5, "Invalid value for custom field '{}': Value must be a string."),
        ({"type": "integer"}, "5", "Invalid value for custom field '{}': Value must be an integer."),
    ],
)
def test_invalid_custom_field_value_is_refused(
    peer: Peer, vrf: int, defined: dict[str, Any], value: Any, complaint: str
) -> None:
    name = custom_field(peer, **defined)
    body = {"prefix": "2001:db8::/56", "vrf": vrf, "custom_fields": {name: value}}
    reply = peer.send("POST", PREFIXES, body)
    assert (reply.status_code, reply.json()) == (400, {"__all__": [complaint.format(name)]})


def test_bulk_create_accepts_a_unique_value_twice(peer: Peer, vrf: int) -> None:
    key = custom_field(peer, unique=True, filter_logic="exact")
    body = [{"prefix": f"2001:db8:0:{n}00::/56", "vrf": vrf, "custom_fields": {key: "k-1"}} for n in (1, 2)]
    assert peer.send("POST", PREFIXES, body).status_code == 201
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&cf_{key}=k-1")) == 2


def test_unique_custom_field_is_unique_across_vrfs(peer: Peer, pool: int) -> None:
    key = custom_field(peer, unique=True)
    allocate(peer, pool, custom_fields={key: "k-1"})
    other = peer.create("/api/ipam/vrfs/", name=f"lastmile-{uuid.uuid4().hex[:8]}")["id"]
    reply = peer.send("POST", PREFIXES, {"prefix": "2001:db8:0:900::/56", "vrf": other, "custom_fields": {key: "k-1"}})
    assert reply.json() == {"__all__": [f"Custom field '{key}' must have a unique value."]}


def test_filter_on_last_updated_returns_later_changes(peer: Peer, vrf: int, pool: int) -> None:
    first = allocate(peer, pool)
    second = allocate(peer, pool)
    since = second["last_updated"].replace("+", "%2B")
    assert [one["id"] for one in peer.found(f"{PREFIXES}?vrf_id={vrf}&last_updated__gte={since}")] == [second["id"]]
    peer.send("PATCH", f"{PREFIXES}{first['id']}/", {"description": "touched"})
    changed = peer.found(f"{PREFIXES}?vrf_id={vrf}&last_updated__gte={since}")
    assert [one["id"] for one in changed] == [first["id"], second["id"]]
    reply = peer.send("GET", f"{PREFIXES}?last_updated__gte=yesterday")
    assert (reply.status_code, reply.json()) == (400, {"last_updated__gte": ["Enter a valid date/time."]})


def test_change_log_records_each_write(peer: Peer, pool: int) -> None:
    created = allocate(peer, pool, description="before")
    path = f"{PREFIXES}{created['id']}/"
    peer.send("PATCH", path, {"description": "after"})
    peer.send("DELETE", path)
    query = f"changed_object_id={created['id']}&changed_object_type=ipam.prefix"
    changes = peer.found(f"/api/core/object-changes/?{query}")
    assert [change["action"]["value"] for change in changes] == ["delete", "update", "create"]
    assert changes[1]["prechange_data"]["description"] == "before"
    assert changes[1]["postchange_data"]["description"] == "after"


def test_options_list_the_writes_that_the_token_permits(peer: Peer) -> None:
    def writes(token: str) -> set[str]:
        return set(peer.send("OPTIONS", PREFIXES, token=token).json().get("actions", {}))

    assert writes(peer.token) == {"POST", "PUT"}
    assert writes(peer.token_for("view", "add")) == {"POST"}
    assert writes(peer.token_for("view", "change")) == {"PUT"}
    assert writes(peer.token_for("view")) == set()
    assert writes(peer.token_for("view", "add", "change", write_enabled=False)) == set()


def test_action_without_its_permission_is_refused(peer: Peer, pool: int) -> None:
    token = peer.token_for("view", "add")
    path = f"{PREFIXES}{pool}/"
    assert peer.send("GET", path, token=token).status_code == 200
    assert peer.send("POST", f"{path}available-prefixes/", {"prefix_length": 56}, token=token).status_code == 201
    assert peer.send("PATCH", path, {"description": "x"}, token=token).status_code == 403
    assert peer.send("DELETE", path, token=token).status_code == 403
    assert peer.send("GET", "/api/ipam/vrfs/", token=token).status_code == 403


@each_version
def test_permission_constraint_hides_objects_and_refuses_writes(
    version: Version, peer: Peer, vrf: int, pool: int
) -> None:
    inside = {"prefix__net_contained_or_equal": "2001:db8:0:ff00::/56"}
    token = peer.token_for("view", "add", "change", "delete", constraints=inside)
    allowed = {"prefix": "2001:db8:0:ff00::/56", "vrf": vrf}
    assert peer.send("GET", f"{PREFIXES}{pool}/", token=token).status_code == 404
    hidden = peer.send("POST", f"{PREFIXES}{pool}/available-prefixes/", {"prefix_length": 56}, token=token)
    assert (hidden.status_code, hidden.json()) == (404, {"detail": "No Prefix matches the given query."})
    assert peer.send("GET", f"{PREFIXES}?vrf_id={vrf}", token=token).json()["count"] == 0
    made = peer.send("POST", PREFIXES, allowed, token=token)
    assert made.status_code == 201
    path = f"{PREFIXES}{made.json()['id']}/"
    assert peer.send("PATCH", path, {"prefix": "2001:db8:0:fe00::/56"}, token=token).status_code == 403
    outside = peer.send("POST", PREFIXES, allowed | {"prefix": "2001:db8:0:100::/56"}, token=token)
    refusal = {"detail": "You do not have permission to perform this action."}
    assert (outside.status_code, outside.json()) == (403, refusal)
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}")) == 2
    assert peer.send("DELETE", path, token=token).status_code == 204


def test_create_without_a_required_custom_field_is_refused(peer: Peer, vrf: int) -> None:
    name = custom_field(peer, required=True)
    body = {"prefix": "2001:db8::/56", "vrf": vrf}
    reply = peer.send("POST", PREFIXES, body)
    assert reply.json() == {"__all__": [f"Invalid value for custom field '{name}': Required field cannot be empty."]}
    reply = peer.send("POST", PREFIXES, body | {"custom_fields": {}})
    assert reply.json() == {"__all__": [f"Missing required custom field '{name}'."]}
    assert peer.send("POST", PREFIXES, body | {"custom_fields": [name]}).status_code == 400


def test_custom_fields_without_a_required_default_field_are_refused(peer: Peer, vrf: int) -> None:
    name, other = custom_field(peer, required=True, default="dsl"), custom_field(peer)
    body = {"prefix": "2001:db8::/56", "vrf": vrf}
    for given in ({}, {other: "x"}):
        reply = peer.send("POST", PREFIXES, body | {"custom_fields": given})
        assert (reply.status_code, reply.json()) == (400, {"__all__": [f"Missing required custom field '{name}'."]})
    assert peer.create(PREFIXES, **body)["custom_fields"][name] == "dsl"


def test_omitted_custom_field_gets_its_default(peer: Peer, vrf: int) -> None:
    name = custom_field(peer, default="dsl")
    left_out = peer.create(PREFIXES, prefix="2001:db8::/56", vrf=vrf)
    none_given = peer.create(PREFIXES, prefix="2001:db8:0:100::/56", vrf=vrf, custom_fields={})
    null = peer.create(PREFIXES, prefix="2001:db8:0:200::/56", vrf=vrf, custom_fields={name: None})
    assert [one["custom_fields"][name] for one in (left_out, none_given, null)] == ["dsl", "dsl", None]


def test_global_container_ignores_prefixes_in_vrfs(peer: Peer, vrf: int) -> None:
    container = peer.create(PREFIXES, prefix="2001:db8:fff0::/44", status="container")["id"]
    peer.create(PREFIXES, prefix="2001:db8:fff0::/56", vrf=vrf)
    assert allocate(peer, container)["prefix"] == "2001:db8:fff0::/56"


def test_available_ips_skip_the_subnet_router_anycast_address(peer: Peer, vrf: int) -> None:
    parent = peer.create(PREFIXES, prefix="2001:db8::/64", vrf=vrf)["id"]
    assert peer.create(f"{PREFIXES}{parent}/available-ips/")["address"] == "2001:db8::1/64"


def test_list_beyond_its_limit_names_the_next_page(peer: Peer, vrf: int, pool: int) -> None:
    for _ in range(2):
        allocate(peer, pool)
    reply = peer.send("GET", f"{PREFIXES}?vrf_id={vrf}&limit=2").json()
    assert (reply["count"], len(reply["results"])) == (3, 2)
    assert len(peer.found(reply["next"].removeprefix(peer.url))) == 1
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&limit=0")) == 3


def test_bulk_delete_with_one_failure_deletes_nothing(peer: Peer, vrf: int) -> None:
    free = peer.create("/api/ipam/vrfs/", name=f"lastmile-{uuid.uuid4().hex[:8]}")["id"]
    peer.create(PREFIXES, prefix="2001:db8::/56", vrf=vrf)
    assert peer.send("DELETE", "/api/ipam/vrfs/", [{"id": free}, {"id": vrf}]).status_code == 409
    assert peer.send("GET", f"/api/ipam/vrfs/{free}/").status_code == 200


def test_write_without_a_required_field_names_it(peer: Peer) -> None:
    reply = peer.send("POST", PREFIXES, {"status": "active"})
    assert (reply.status_code, reply.json()) == (400, {"prefix": ["This field is required."]})
    reply = peer.send("PATCH", PREFIXES, [{"status": "active"}])
    assert (reply.status_code, reply.json()) == (400, [{"id": ["This field is required."]}])


def test_pynetbox_works_with_the_server(peer: Peer, vrf: int, pool: int) -> None:
    netbox = pynetbox.api(peer.url, token=peer.token)
    assert netbox.version.split(".")[0] == "4"
    parent = netbox.ipam.prefixes.get(pool)
    created = parent.available_prefixes.create({"prefix_length": 56, "status": "reserved"})
    assert (str(created), created.status.value) == ("2001:db8::/56", "reserved")
    assert created.update({"status": "active"})
    assert [str(one) for one in netbox.ipam.prefixes.filter(vrf_id=vrf, within="2001:db8::/40")] == ["2001:db8::/56"]
    with pytest.raises(pynetbox.AllocationError):
        parent.available_prefixes.create({"prefix_length": 8})
    with pytest.raises(pynetbox.RequestError, match="400"):
        parent.available_prefixes.create({"prefix_length": 129})
    assert created.delete()
    assert netbox.ipam.prefixes.get(created.id) is None
