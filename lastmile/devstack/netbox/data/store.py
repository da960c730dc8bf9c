"""The database of the stand-in: objects by kind and id, in memory and optionally in a SQLite file."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lastmile.devstack.netbox.data.space import Space
from lastmile.devstack.netbox.model.fields import Object
from lastmile.devstack.netbox.model.networks import Network
from lastmile.devstack.netbox.model.resources import RESOURCES
from lastmile.devstack.netbox.model.versions import V4_4, Version

__all__ = ["Store"]


class Store:
    """The stored objects. Readers and writers must hold `lock`.

    Objects are replaced, and never changed in place. An id is not used again after a deletion.
    """

    def __init__(self, file: Path | None = None, version: Version = V4_4) -> None:
        self.version = version
        """The version of NetBox whose rules apply."""
        self.max_page_size = 1000
        """NetBox's `MAX_PAGE_SIZE`."""
        self.lock = threading.RLock()
        self.space = Space()
        """The prefixes by VRF and network."""
        self.networks: dict[int, Network] = {}
        """The prefixes by id."""
        self._objects: dict[str, dict[int, Object]] = {resource.type: {} for resource in RESOURCES}
        self._last: dict[str, int] = dict.fromkeys(self._objects, 0)
        self._file = sqlite3.connect(file or ":memory:", check_same_thread=False, isolation_level=None)
        # The data must survive the end of this process, but not a crash of the machine.
        self._file.executescript("""
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = OFF;
            CREATE TABLE IF NOT EXISTS objects (type TEXT, id INTEGER, body TEXT, PRIMARY KEY (type, id));
            CREATE TABLE IF NOT EXISTS last_ids (type TEXT PRIMARY KEY, id INTEGER);
        """)
        self._last.update(self._file.execute("SELECT type, id FROM last_ids"))
        for kind, body in self._file.execute("SELECT type, body FROM objects ORDER BY id"):
            self._index(kind, json.loads(body))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the writes of the block in one transaction, with the lock held."""
        with self.lock, self._file:
            self._file.execute("BEGIN")
            yield

    def close(self) -> None:
        """Close the file. The store cannot be used afterwards."""
        with self.lock:
            self._file.close()

    def all(self, kind: str) -> Iterable[Object]:
        """Return every object of a kind, in the order of ids."""
        return self._objects[kind].values()

    def count(self, kind: str) -> int:
        return len(self._objects[kind])

    def get(self, kind: str, key: int) -> Object | None:
        return self._objects[kind].get(key)

    def add(self, kind: str, attributes: Mapping[str, Any]) -> Object:
        """Add an object with the next id, and return it."""
        self._last[kind] += 1
        created = {"id": self._last[kind], **attributes}
        self._file.execute("INSERT OR REPLACE INTO last_ids VALUES (?, ?)", (kind, created["id"]))
        self._write(kind, created)
        return created

    def replace(self, kind: str, changed: Object) -> None:
        """Replace the object with the same id."""
        self._unindex(kind, changed["id"])
        self._write(kind, changed)

    def remove(self, kind: str, key: int) -> None:
        self._unindex(kind, key)
        self._file.execute("DELETE FROM objects WHERE type = ? AND id = ?", (kind, key))

    def matching(self, kind: str, attributes: Mapping[str, Any]) -> list[Object]:
        """Return the objects of a kind that have all of `attributes`."""
        if attributes.keys() == {"id"}:
            found = self.get(kind, attributes["id"])
            return [found] if found else []
        return [one for one in self.all(kind) if all(one.get(name) == value for name, value in attributes.items())]

    def _write(self, kind: str, stored: Object) -> None:
        body = json.dumps(stored)
        self._file.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (kind, stored["id"], body))
        self._index(kind, stored)

    def _index(self, kind: str, stored: Object) -> None:
        key = stored["id"]
        self._objects[kind][key] = stored
        if kind == "ipam.prefix":
            self.networks[key] = Network.parse(stored["prefix"])
            self.space.add(stored["vrf"], self.networks[key], key)

    def _unindex(self, kind: str, key: int) -> None:
        stored = self._objects[kind].pop(key)
        if kind == "ipam.prefix":
            self.space.remove(stored["vrf"], self.networks.pop(key), key)
