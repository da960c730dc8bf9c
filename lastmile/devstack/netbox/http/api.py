"""The REST API: the handling of requests, without HTTP and without faults."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from lastmile.devstack.netbox.data import allocation
from lastmile.devstack.netbox.data.listing import page, shown
from lastmile.devstack.netbox.data.presenter import Presenter
from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.data.writer import Writer
from lastmile.devstack.netbox.http.access import authenticate
from lastmile.devstack.netbox.http.http_errors import HttpError, not_found
from lastmile.devstack.netbox.http.messages import Reply, Request
from lastmile.devstack.netbox.model.fields import Object
from lastmile.devstack.netbox.model.resource import Resource
from lastmile.devstack.netbox.model.resources import BY_PATH
from lastmile.devstack.netbox.model.validation import validated
from lastmile.devstack.netbox.process import Work

__all__ = ["answer"]

_PAGE_NOT_FOUND = '\n<!DOCTYPE html>\n<html lang="en"><head><title>Page Not Found | NetBox</title></head></html>\n'
# `/api/` lists all apps, including those without endpoints in the stand-in.
_APPS = (
    *("circuits", "core", "dcim", "extras", "ipam", "plugins", "status"),
    *("tenancy", "users", "virtualization", "vpn", "wireless"),
)


def answer(request: Request, store: Store, work: Work) -> Reply:
    """Return NetBox's reply to a request.

    Raises:
        ProcessKilledError: NetBox ended meanwhile.
    """
    try:
        return _Exchange(request, store, work).answer()
    except HttpError as problem:
        return Reply(problem.status, problem.body, etag=problem.etag)


class _Exchange:
    """One request with its caller and the store."""

    def __init__(self, request: Request, store: Store, work: Work) -> None:
        self.request = request
        self.store = store
        self.work = work
        self.presenter = Presenter(store, request.root)
        self.version = store.version

    def answer(self) -> Reply:
        parts = self.request.path.strip("/").split("/")
        handler = self._handler(parts)
        if handler is None:
            raise HttpError(404, _PAGE_NOT_FOUND)
        if not self.request.path.endswith("/"):
            if not self.version.redirects_to_slash:
                raise HttpError(404, _PAGE_NOT_FOUND)
            query = urlencode(self.request.query, doseq=True)
            return Reply(301, "", location=f"{self.request.path}/" + (query and f"?{query}"))
        with self.store.lock:
            self.caller = authenticate(self.request.authorization, self.store)
        self.work.spend(lambda costs: costs.request if handler == self._status else costs.request + costs.read)
        reply: Reply = handler()
        return reply

    def _handler(self, parts: Sequence[str]) -> Any:
        match parts:
            case ["api"]:
                return self._root
            case ["api", "status"]:
                return self._status
            case ["api", app, name] if resource := BY_PATH.get(f"{app}/{name}"):
                return lambda: self._collection(resource)
            case ["api", app, name, key] if key.isdigit() and (resource := BY_PATH.get(f"{app}/{name}")):
                return lambda: self._member(resource, int(key))
            case ["api", "ipam", "prefixes", key, ("available-prefixes" | "available-ips") as kind] if key.isdigit():
                return lambda: self._available(kind, int(key))
        return None

    def _root(self) -> Reply:
        return Reply(200, {app: f"{self.request.root}/api/{app}/" for app in _APPS})

    def _status(self) -> Reply:
        version = self.version
        return Reply(
            200,
            {
                "hostname": "netbox",
                "netbox-version": version.number,
                "netbox-full-version": version.number,
                "django-version": version.django,
                "python-version": version.python,
                "installed_apps": {},
                "plugins": {},
                "rq-workers-running": 0,
            },
        )

    def _collection(self, resource: Resource) -> Reply:
        self._permit(resource, read_only=resource.type == "core.objectchange")
        match self.request.method:
            case "GET":
                return self._list(resource)
            case "OPTIONS":
                return self._options(resource)
            case "POST":
                return self._create(resource)
            case "PATCH" | "PUT":
                return self._update_many(resource)
            case _:
                return self._delete_many(resource)

    def _member(self, resource: Resource, key: int) -> Reply:
        self._permit(resource, without=("POST",))
        with self.store.lock:
            current = self.store.get(resource.type, key)
            method = "GET" if self.request.method == "OPTIONS" else self.request.method
            visible = current is not None and self.caller.reaches(method, resource, current)
        if current is None or not visible:
            raise not_found(resource.name)
        match self.request.method:
            case "GET":
                with self.store.lock:
                    return Reply(200, shown(resource, current, self.request, self.presenter), etag=self._etag(current))
            case "OPTIONS":
                return self._options(resource)
            case "DELETE":
                self._check_match(current)
                self._delete(resource, [current])
                return Reply(204)
            case _:
                self._check_match(current)
                [changed] = self._update(resource, [(current, self.request.json())])
                return Reply(200, changed, etag=self._etag(changed))

    def _available(self, kind: str, key: int) -> Reply:
        of, made = BY_PATH["ipam/prefixes"], BY_PATH[allocation.MADE[kind]]
        self._permit(made, without=("PUT", "PATCH", "DELETE"))
        with self.store.lock:
            parent = self.store.get(of.type, key)
            visible = parent is not None and self.caller.reaches("GET", of, parent)
        if parent is None or not visible:
            raise not_found(of.name)
        if self.request.method == "GET":
            with self.store.lock:
                most = self.request.limit(self.store.max_page_size)
                return Reply(200, allocation.listed(kind, parent, self.store, self.presenter, most))
        body = self.request.json()
        requested = body if isinstance(body, list) else [body]
        allocation.check(kind, parent, requested)
        with self.store.lock:
            cost = allocation.effort(kind, parent, self.store)
        self.work.spend(lambda costs: cost(costs) * (1 - costs.locked))
        with self.work.allocating(kind):
            with self.store.lock:
                bodies = allocation.allocated(kind, parent, requested, self.store)
                drafts = self._validated(made, bodies if isinstance(body, list) else bodies[0])
            self.work.spend(lambda costs: cost(costs) * costs.locked + costs.create * len(drafts))
            created = self._commit(made, drafts, reads_back=False)
        return Reply(201, created if isinstance(body, list) else created[0])

    def _list(self, resource: Resource) -> Reply:
        with self.store.lock:
            visible = partial(self.caller.reaches, "GET", resource)
            found = page(resource, self.request, self.store, self.presenter, visible)
            scanned = self.store.count(resource.type)
        self.work.spend(lambda costs: costs.scanned * scanned + costs.shown * len(found["results"]))
        return Reply(200, found)

    def _options(self, resource: Resource) -> Reply:
        allowed: Object = {method: {} for method in ("POST", "PUT") if self.caller.may(method, resource)}
        described: Object = {"name": resource.name, "description": "", "renders": [], "parses": []}
        return Reply(200, described | ({"actions": allowed} if allowed else {}))

    def _create(self, resource: Resource) -> Reply:
        body = self.request.json()
        with self.store.lock:
            drafts = self._validated(resource, body)
        self.work.spend(lambda costs: costs.create * len(drafts))
        created = self._commit(resource, drafts, reads_back=self.version.reads_back)
        if isinstance(body, list):
            return Reply(201, created)
        return Reply(201, created[0], etag=self._etag(created[0]))

    def _validated(self, resource: Resource, body: Any) -> list[Object]:
        """Return the attributes of the objects in `body`, one or a list. If one is invalid, refuse all."""
        if not isinstance(body, list):
            return [validated(resource, body, self.store, self.presenter, partial=False)]
        drafts: list[Object] = []
        complaints: list[Any] = []
        for one in body:
            try:
                drafts.append(validated(resource, one, self.store, self.presenter, partial=False))
                complaints.append({})
            except HttpError as problem:
                if problem.status != 400:
                    raise
                complaints.append(problem.body)
        if any(complaints):
            raise HttpError(400, complaints)
        return drafts

    def _commit(self, resource: Resource, drafts: list[Object], *, reads_back: bool) -> list[Object]:
        with self.work.commit():
            self._check_reach(resource, drafts)
            writer = self._writer()
            created = [writer.create(resource, draft) for draft in drafts]
            return [self._as_created(resource, stored, reads_back) for stored in created]

    def _as_created(self, resource: Resource, stored: Object, reads_back: bool) -> Object:
        """Return the reply to a creation.

        Unless NetBox reads the object back, or it has tags, the reply has no counts of children and parents yet.
        """
        shown = self.presenter.full(resource, stored)
        if resource.type == "ipam.prefix" and not stored["tags"] and not reads_back:
            shown |= {"children": 0, "_depth": 0}
        if resource.type == "users.token" and self.version.v2_tokens:
            shown |= {"token": stored["token"] or stored["key"]}  # once
        return shown

    def _check_reach(self, resource: Resource, written: Sequence[Object]) -> None:
        """Check the objects to write against the constraints of the permissions.

        Raises:
            HttpError: 403; the constraints exclude an object.
        """
        if not all(self.caller.reaches(self.request.method, resource, one) for one in written):
            raise HttpError(403, {"detail": "You do not have permission to perform this action."})

    def _etag(self, stored: Object) -> str:
        """Return the ETag of an object; empty if this version sends none."""
        since = stored.get("last_updated") or stored.get("created")
        return f'W/"{since}"' if self.version.etags and since else ""

    def _check_match(self, current: Object) -> None:
        """Check the header `If-Match`.

        Raises:
            HttpError: 412; the object has changed since the client read it.
        """
        requested = [one.strip() for one in self.request.if_match.split(",") if one.strip() not in ("", "*")]
        if self.version.etags and requested and self._etag(current) not in requested:
            raise HttpError(412, {"detail": "Precondition failed."}, self._etag(current))

    def _update_many(self, resource: Resource) -> Reply:
        """Update the objects of the body. As NetBox does, ignore unknown ids."""
        given = {one["id"]: one for one in self.request.items()}
        with self.store.lock:
            known = [stored for key in given if (stored := self.store.get(resource.type, key))]
        known.sort(key=resource.order)
        return Reply(200, self._update(resource, [(current, given[current["id"]]) for current in known]))

    def _update(self, resource: Resource, changes: list[tuple[Object, Any]]) -> list[Object]:
        partial = self.request.method == "PATCH"
        with self.store.lock:
            drafts = [
                (current, validated(resource, body, self.store, self.presenter, current=current, partial=partial))
                for current, body in changes
            ]
        self.work.spend(lambda costs: costs.create * len(drafts))
        with self.work.commit():
            writer = self._writer()
            self._check_reach(resource, [{**current, **draft} for current, draft in drafts])
            still = [(self._reread(resource, current), draft) for current, draft in drafts]
            changed = [writer.update(resource, current, draft) for current, draft in still]
            return [self.presenter.full(resource, stored) for stored in changed]

    def _delete_many(self, resource: Resource) -> Reply:
        keys = [one["id"] for one in self.request.items()]
        with self.store.lock:
            known = [stored for key in keys if (stored := self.store.get(resource.type, key))]
        self._delete(resource, known)
        return Reply(204)

    def _delete(self, resource: Resource, doomed: list[Object]) -> None:
        self.work.spend(lambda costs: costs.delete * len(doomed))
        with self.work.commit():
            writer = self._writer()
            still = [self._reread(resource, current) for current in doomed]
            for current in still:
                writer.check_deletable(resource, current)
            for current in still:
                writer.delete(resource, current)

    def _reread(self, resource: Resource, current: Object) -> Object:
        """Return the current state of the object.

        Raises:
            HttpError: 404; another request has deleted the object meanwhile.
        """
        found = self.store.get(resource.type, current["id"])
        if found is None:
            raise not_found(resource.name)
        return found

    def _writer(self) -> Writer:
        return Writer(self.store, self.caller, self.request.id)

    def _permit(self, resource: Resource, *, read_only: bool = False, without: Sequence[str] = ()) -> None:
        with self.store.lock:
            self.caller.check(self.request.method, resource)
        method = self.request.method
        known = ("GET", "OPTIONS") if read_only else ("GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
        if method not in known or method in without:
            raise HttpError(405, {"detail": f'Method "{method}" not allowed.'})
