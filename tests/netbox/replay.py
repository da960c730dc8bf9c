"""Replay a recorded contract: send each request with the ids of this NetBox, and compare each reply with the recording.

Ids, times and addresses of the server are first replaced by those of the recording. Other objects that the recorded
NetBox contained (prefixes and custom fields) are omitted on both sides.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.netbox_peer import Peer

__all__ = ["Replay", "pairs"]

_RECORDED_ROOT = "http://netbox.example"
_KINDS = {
    "vrf": "ipam/vrfs",
    "vrf_id": "ipam/vrfs",
    "tenant": "tenancy/tenants",
    "tenant_id": "tenancy/tenants",
    "assigned_object_id": "ipam/prefixes",
    "changed_object_id": "ipam/prefixes",
}
_OF_ITS_OWN = {
    "created": "<time>",
    "last_updated": "<time>",
    "time": "<time>",
    "request_id": "<request>",
    "user": "<user>",
    "user_name": "<user>",
    "created_by": "<user>",
    "hostname": "<host>",
    "django-version": "<version>",
    "python-version": "<version>",
    "python_version": "<version>",
    "netbox_version": "<version>",
    "netbox-version": "<version>",
    "netbox-full-version": "<version>",
    "rq-workers-running": "<number>",
    "installed_apps": "<apps>",
}
_URL = re.compile(r"/api/([a-z-]+/[a-z-]+)/(\d+)/")


def pairs(file: str = "contract.jsonl") -> list[dict[str, Any]]:
    """Read a recording: label, method, path, token, request_json, status, content_type, response_json."""
    with (Path(__file__).parent / file).open() as lines:
        return [json.loads(line) for line in lines]


@dataclass
class Replay:
    """The replay of one recording; `differences` lists what was not as recorded."""

    peer: Peer
    tokens: dict[str, str]
    differences: list[str] = field(default_factory=list)
    _here: dict[tuple[str, int], int] = field(default_factory=dict)
    """The ids in this NetBox, by kind and recorded id."""

    def know(self, kind: str, recorded: int, here: int) -> None:
        """Register an object that the recording uses and does not create."""
        self._here[kind, recorded] = here

    def play(self, pair: dict[str, Any]) -> None:
        """Send the request of a pair, and compare the reply."""
        body, raw = self._body(pair["path"], pair["request_json"]), None
        if isinstance(body, dict) and "raw" in body:
            body, raw = None, body["raw"]
        reply = self.peer.send(
            pair["method"],
            self._path(pair["path"]),
            body,
            token=self.tokens.get(pair["token"]),
            raw=raw,
            content_type="text/plain" if "wrong content type" in pair["label"] else "application/json",
        )
        label = f"{pair['label']}: {pair['method']} {pair['path']}"
        if reply.status_code != pair["status"]:
            self.differences.append(f"{label}\n  status {reply.status_code}, recorded {pair['status']}: {reply.text}")
            return
        kind = reply.headers.get("Content-Type", "")
        if kind != pair["content_type"]:
            self.differences.append(f"{label}\n  content type {kind}, recorded {pair['content_type']}")
        if pair["response_json"] is None:
            return
        got = reply.json()
        if reply.status_code == 201:
            self._learn(pair["response_json"], got)
        self._compare(label, got, pair["response_json"])

    def _learn(self, recorded: Any, got: Any) -> None:
        both = zip(*([one] if isinstance(one, dict) else one for one in (recorded, got)), strict=True)
        for then, now in both:
            match = _URL.search(then["url"])
            assert match
            self.know(match[1], then["id"], now["id"])

    def _path(self, path: str) -> str:
        path = _URL.sub(lambda match: f"/api/{match[1]}/{self._our(match[1], int(match[2]))}/", path)
        path = re.sub(
            r"/prefixes/(\d+)/(?=available)", lambda m: f"/prefixes/{self._our('ipam/prefixes', int(m[1]))}/", path
        )
        return re.sub(
            r"\b(vrf_id|tenant_id|changed_object_id)=(\d+)",
            lambda match: f"{match[1]}={self._our(_KINDS[match[1]], int(match[2]))}",
            path,
        )

    def _body(self, path: str, value: Any, key: str = "") -> Any:
        match value:
            case dict():
                return {name: self._body(path, inner, name) for name, inner in value.items()}
            case list():
                return [self._body(path, inner) for inner in value]
            case int() if key in _KINDS:
                return self._our(_KINDS[key], value)
            case int() if key == "id":
                return self._our(path.removeprefix("/api/").strip("/"), value)
            case _:
                return value

    def _our(self, kind: str, recorded: int) -> int:
        return self._here.get((kind, recorded), recorded)

    def _compare(self, label: str, got: Any, recorded: Any) -> None:
        ours = {(kind, here): recorded for (kind, recorded), here in self._here.items()}
        foreign = {(kind, recorded): recorded for kind, recorded in self._here}
        got, recorded = _Terms(self.peer.url, ours).of(got), _Terms(_RECORDED_ROOT, foreign).of(recorded)
        if _has_other_objects(recorded):
            for terms in (got, recorded):
                terms["results"] = [one for one in terms["results"] if one["id"] != _OTHER_OBJECT]
                terms |= {"count": "<count>", "next": "<next>"}
            got["results"] = [one for one in got["results"] if one in recorded["results"]]
        self.differences += [f"{label}\n  {line}" for line in _differences(got, recorded)]


_OTHER_OBJECT = "<other object>"


def _has_other_objects(recorded: Any) -> bool:
    listed = isinstance(recorded, dict) and isinstance(recorded.get("results"), list)
    return listed and any(one["id"] == _OTHER_OBJECT for one in recorded["results"])


@dataclass
class _Terms:
    """Replaces ids, times and addresses in a reply by those of the recording."""

    root: str
    recorded: dict[tuple[str, int], int]

    def of(self, value: Any, key: str = "", kind: str = "") -> Any:
        match value:
            case _ if key in _OF_ITS_OWN:
                return _OF_ITS_OWN[key]
            case dict():
                kind = self._kind(value)
                shown = {name: self.of(inner, name, kind) for name, inner in value.items()}
                if "custom_fields" in shown:
                    shown["custom_fields"] = {n: v for n, v in shown["custom_fields"].items() if n == "idem_key"}
                return shown
            case list():
                return [self.of(inner) for inner in value]
            case str():
                return self._text(value)
            case int() if key == "id" and kind == "core/object-changes":
                return "<id>"
            case int() if key == "id" and kind:
                return self.recorded.get((kind, value), _OTHER_OBJECT)
            case int() if key in _KINDS and not isinstance(value, bool):
                return self.recorded.get((_KINDS[key], value), value)
            case _:
                return value

    def _kind(self, value: dict[str, Any]) -> str:
        match = _URL.search(str(value.get("url", "")))
        return match[1] if match else "ipam/prefixes" if "id" in value else ""

    def _text(self, value: str) -> str:
        value = value.replace(self.root, "")
        value = re.sub(
            r"\b(vrf_id)=(\d+)", lambda m: f"vrf_id={self.recorded.get((_KINDS[m[1]], int(m[2])), m[2])}", value
        )
        value = re.sub(r"(?<=/)\d+/$", "<id>/", value)
        value = re.sub(r"\(\d+\)(?=,|$)", "(<id>)", value)
        head, found, rest = value.partition("objects were found: ")  # in the order of their ids
        value = head + found + ", ".join(sorted(rest.split(", ")))
        value = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "<time>", value)
        return re.sub(r"deleted by \S+", "deleted by <user>", value)


def _differences(got: Any, recorded: Any, where: str = "") -> Iterator[str]:
    if isinstance(got, dict) and isinstance(recorded, dict):
        for name in sorted(got.keys() | recorded.keys()):
            if name not in got:
                yield f"{where}.{name} is missing"
            elif name not in recorded:
                yield f"{where}.{name} is {got[name]!r}, and not recorded"
            else:
                yield from _differences(got[name], recorded[name], f"{where}.{name}")
    elif isinstance(got, list) and isinstance(recorded, list) and len(got) == len(recorded):
        for index, (one, other) in enumerate(zip(got, recorded, strict=True)):
            yield from _differences(one, other, f"{where}[{index}]")
    elif got != recorded:
        yield f"{where} is {got!r}, recorded {recorded!r}"
