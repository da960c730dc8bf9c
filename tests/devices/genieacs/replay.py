"""Replay a recorded contract of GenieACS: send each request with the ids of this ACS, and compare the replies.

Times, ids of tasks and stack traces differ. `_timestamp` and `_writable` of an object (not of a parameter) are left
out: Lastmile does not read them.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

__all__ = ["Replay", "pairs"]

_OF_ITS_OWN = {"timestamp", "_timestamp", "expiry", "_lastInform", "stack"}
_HEADERS = ("genieacs-version", "content-type", "total", "allow")
_TASK_ID = re.compile(r"\b[0-9a-f]{24}\b|(?<=task_)[0-9a-f]{24}")


def pairs(name: str) -> list[dict[str, Any]]:
    """Read a recording: note, method, path, body, status, reason, headers, response."""
    with (Path(__file__).parent / "recordings" / f"genieacs_{name}.jsonl").open() as lines:
        return [json.loads(line) for line in lines]


@dataclass
class Replay:
    """The replay of one recording; `differences` lists what was not as recorded."""

    url: str
    differences: list[str] = field(default_factory=list)
    _here: dict[str, str] = field(default_factory=dict)
    """The ids of tasks in this ACS by the recorded ones."""

    def play(self, pair: dict[str, Any]) -> None:
        """Send the request of a pair, and compare the reply."""
        label = f"{pair['note']}: {pair['method']} {pair['path']}"
        try:
            reply = self._send(pair)
        except httpx.RemoteProtocolError:
            if pair["status"] is not None:
                self.differences.append(f"{label}\n  no reply, recorded {pair['status']}")
            return
        if pair["status"] is None:
            self.differences.append(f"{label}\n  {reply.status_code}, and the recorded worker died")
            return
        got = [reply.status_code, reply.reason_phrase, *(reply.headers.get(name) for name in _HEADERS)]
        recorded = [pair["status"], pair["reason"], *(pair["headers"].get(name) for name in _HEADERS)]
        body = reply.json() if reply.content and "application/json" in reply.headers.get("content-type", "") else ""
        body = body or (reply.text if "content-type" not in reply.headers else body)
        if isinstance(body, dict) and isinstance(pair["response"], dict):
            self._here[pair["response"]["_id"]] = body["_id"]
        got.append(self._comparable(body))
        recorded.append(self._comparable(pair["response"]))
        for one, other in zip(got, recorded, strict=True):
            if one != other and (one or other):
                self.differences.append(f"{label}\n  got      {one}\n  recorded {other}")

    def _send(self, pair: dict[str, Any]) -> httpx.Response:
        path = _TASK_ID.sub(lambda id: self._here.get(id[0], id[0]), pair["path"])
        body = pair["body"]
        content = body if isinstance(body, str) else b"" if body is None else json.dumps(body)
        # Of its own connection: a dying worker closes them all.
        return httpx.request(pair["method"], self.url + path, content=content)

    def _comparable(self, value: Any) -> Any:
        if isinstance(value, dict):
            is_object = value.get("_object") is True
            left_out = {"_object", "_timestamp", "_writable"} if is_object else set()
            return {
                key: "<its own>" if key in _OF_ITS_OWN else self._comparable(inner)
                for key, inner in value.items()
                if key not in left_out
            }
        if isinstance(value, list):
            return [self._comparable(inner) for inner in value]
        if isinstance(value, str):
            there = {here: recorded for recorded, here in self._here.items()}
            return _TASK_ID.sub(lambda id: there.get(id[0], id[0]), value)
        return value
