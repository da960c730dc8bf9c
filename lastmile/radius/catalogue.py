"""The attribute templates of this installation, and the templates that each tenant chose for its groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import text

from lastmile.contract.suspension import SuspensionMode
from lastmile.db import PlatformConnection, TenantConnection
from lastmile.radius.groups import Group
from lastmile.radius.templates import DEFAULT_TEMPLATE, READY_TEMPLATES, Item, State, Template, render

__all__ = ["Catalogue", "Choice", "read_catalogue"]

_READ = text(
    """
    SELECT (SELECT coalesce(jsonb_object_agg(name, definition), '{}') FROM radius_templates) AS templates,
           (SELECT coalesce(jsonb_object_agg(tenant_id, to_jsonb(choice) - 'tenant_id'), '{}')
            FROM radius_choices choice) AS choices
    """
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The templates of a tenant's groups, and its slow rates."""

    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)
    slow_download_kbps: int = 1000
    slow_upload_kbps: int = 1000


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All templates by name, and the choice of each tenant that made one."""

    templates: Mapping[str, Template] = field(default_factory=lambda: READY_TEMPLATES)
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def choice(self, tenant: str) -> Choice:
        """Return the choice of the tenant, or the default."""
        return self.choices.get(tenant, Choice())

    def reply_items(self, group: Group) -> list[Item]:
        """Return the reply items of the group. A blocked account gets none.

        Raises:
            InvalidAttributeError: a value does not fit its attribute.
        """
        if group.suspended is SuspensionMode.BLOCK:
            return []
        return [item for name in self.choice(group.tenant).templates for item in self._render(name, group)]

    def check_items(self, group: Group) -> list[Item]:
        """Return the check items of the group: a blocked account can log in nowhere."""
        return [Item("Auth-Type", ":=", "Reject")] if group.suspended is SuspensionMode.BLOCK else []

    def coa_attributes(self, nas_type: str, before: Group, after: Group) -> list[tuple[str, str]] | None:
        """Return the attributes of a CoA-Request that switches a live session from the group `before` to `after`.

        None: a NAS of this type cannot be told by CoA, and the session must be disconnected.

        Args:
            nas_type: the type of the NAS in the table `nas`, which is the name of a template.
        """
        template = self.templates.get(nas_type)
        if template is None or not {_state(before), _state(after)} <= set(template.coa):
            return None
        return [(item.attribute, item.value) for item in self._render(nas_type, after)]

    def _render(self, name: str, group: Group) -> list[Item]:
        state = _state(group)
        assert state is not None  # a blocked account has no reply items
        if state != "in_service":
            choice = self.choice(group.tenant)
            group = replace(group, download_kbps=choice.slow_download_kbps, upload_kbps=choice.slow_upload_kbps)
        return render(self.templates, name, state, group)


def _state(group: Group) -> State | None:
    match group.suspended:
        case None:
            return "in_service"
        case SuspensionMode.SLOW:
            return "slow"
        case SuspensionMode.WALLED_GARDEN:
            return "walled_garden"
    return None


async def read_catalogue(connection: TenantConnection | PlatformConnection) -> Catalogue:
    """Return the templates, and the choices of the tenants that the connection can see."""
    row: Any = (await connection.execute(_READ)).one()
    stored = {name: Template.model_validate(definition) for name, definition in row.templates.items()}
    choices = {
        tenant: Choice(tuple(choice["templates"]), choice["slow_download_kbps"], choice["slow_upload_kbps"])
        for tenant, choice in row.choices.items()
    }
    return Catalogue({**READY_TEMPLATES, **stored}, choices)
