"""Types of parameters that several routes have, and the refusal of parameters that a route does not have."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field, PlainValidator, WithJsonSchema

from lastmile.api.problems import ProblemError, Violation
from lastmile.contract.addressing import LABEL
from lastmile.fields.rules import rule_error
from lastmile.fields.text import PRINTABLE
from lastmile.validation_messages import suggest_name

__all__ = ["AddressText", "FilterText", "NetworkText", "PoolName", "refuse_unknown_parameters"]

FilterText = Annotated[str, Field(min_length=1, max_length=100), PRINTABLE]
"""A value to look for."""

PoolName = Annotated[str, Field(pattern=LABEL)]


def _address(written: Any) -> IPv4Address | IPv6Address:
    try:
        if "%" in str(written):  # a zone, which no address of a subscriber has
            raise ValueError
        return ip_address(str(written))
    except ValueError:
        raise rule_error("must be an IP address, as in 2001:db8::1 or 192.0.2.1") from None


def _network(written: Any) -> IPv4Network | IPv6Network:
    try:
        if "%" in str(written):
            raise ValueError
        return ip_network(str(written))
    except ValueError:
        raise rule_error("must be a prefix without host bits, as in 2001:db8::/40 or 192.0.2.0/24") from None


_ADDRESS = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}

AddressText = Annotated[IPv4Address | IPv6Address, PlainValidator(_address), WithJsonSchema(_ADDRESS)]
NetworkText = Annotated[IPv4Network | IPv6Network, PlainValidator(_network), WithJsonSchema({"type": "string"})]


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a parameter of the query that the OpenAPI document does not have for the route.

    Otherwise a misspelt filter would list everything.
    """
    route = request.scope["route"]
    described = request.app.openapi()["paths"].get(route.path_format, {}).get(request.method.lower())
    if described is None:
        return
    valid = {one["name"] for one in described.get("parameters", ()) if one["in"] == "query"}
    errors = [
        Violation(detail=f"Unknown parameter. {suggest_name(name, valid)}".rstrip(), parameter=name)
        for name in dict.fromkeys(request.query_params)
        if name not in valid
    ]
    if errors:
        names = ", ".join(sorted(valid)) or "none"
        raise ProblemError("invalid", f"{route.path_format} has no such parameter. Valid: {names}.", errors=errors)
