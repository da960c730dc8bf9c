"""The caller of a request."""

from dataclasses import dataclass
from datetime import datetime

from lastmile.api.auth.permissions import Permission
from lastmile.services.api_keys import PrincipalKind

__all__ = ["API_KEY_SUBJECT", "Principal"]

API_KEY_SUBJECT = "api-key/"
"""The beginning of the subject of every API key, and of no token."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request, as an API key or a token describes it."""

    subject: str
    """The name of the caller in the audit log: `sub` of a token, or `api-key/<id>`."""
    tenant: str | None
    """The tenant to which the caller is bound; None: the caller works for the platform, and names a tenant."""
    permissions: frozenset[Permission]
    kind: PrincipalKind
    expires: datetime | None
    """The time at which the key or the token expires; None: never."""
