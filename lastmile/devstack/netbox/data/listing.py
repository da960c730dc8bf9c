"""A page of a list, and the form of its objects."""

from collections.abc import Callable
from urllib.parse import urlencode

from lastmile.devstack.netbox.data.filters import apply
from lastmile.devstack.netbox.data.presenter import Presenter
from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.http.messages import Request
from lastmile.devstack.netbox.model.fields import Object
from lastmile.devstack.netbox.model.resource import Resource

__all__ = ["page", "shown"]


def page(
    resource: Resource, request: Request, store: Store, presenter: Presenter, visible: Callable[[Object], bool]
) -> Object:
    """Return the requested page of the matching objects.

    Raises:
        HttpError: 400; a filter has an invalid value.
    """
    found = [stored for stored in apply(resource, request.query, store) if visible(stored)]
    limit, offset = request.limit(store.max_page_size), request.number("offset", 0)
    return {
        "count": len(found),
        "next": _url(request, limit, offset + limit) if offset + limit < len(found) else None,
        "previous": _url(request, limit, offset - limit) if offset > 0 else None,
        "results": [shown(resource, stored, request, presenter) for stored in found[offset : offset + limit]],
    }


def shown(resource: Resource, stored: Object, request: Request, presenter: Presenter) -> Object:
    """Return the object, reduced by `brief` or `fields` in the query."""
    if request.query.get("brief", [""])[-1] in ("1", "true", "True"):
        return presenter.brief(resource, stored)
    whole = presenter.full(resource, stored)
    names = ",".join(request.query.get("fields", ())).split(",")
    return whole if names == [""] else {name: value for name, value in whole.items() if name in names}


def _url(request: Request, limit: int, offset: int) -> str:
    query = {name: list(values) for name, values in request.query.items() if name != "offset"}
    query["limit"] = [str(limit)]
    if offset > 0:
        query["offset"] = [str(offset)]
    return f"{request.root}{request.path}?{urlencode(sorted(query.items()), doseq=True)}"
