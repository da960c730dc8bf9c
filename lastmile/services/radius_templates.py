"""Attribute templates: read them from a file, show, check and change them, and choose those of a tenant."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.radius import template_changes
from lastmile.radius.catalogue import Catalogue, Choice, read_catalogue
from lastmile.radius.errors import UnknownTemplateError
from lastmile.radius.templates import READY_TEMPLATES, Template, TemplateName
from lastmile.validation_messages import mistakes

__all__ = [
    "TemplateSummary",
    "as_toml",
    "check_templates",
    "choose_templates",
    "find_template",
    "list_templates",
    "parse_templates",
    "reset_template",
    "set_templates",
]

_NAME: TypeAdapter[str] = TypeAdapter(TemplateName)


@dataclass(frozen=True, slots=True)
class TemplateSummary:
    """A template in a list."""

    name: str
    summary: str
    origin: str
    """ready, changed (a ready template that an operator has changed) or added."""
    tenants: list[str]
    """The tenants that chose the template. Those that chose none have wispr."""


def parse_templates(content: str) -> dict[str, Template]:
    """Parse TOML with one table for each template. Raises `InvalidInputError`."""
    try:
        tables = tomllib.loads(content)
    except tomllib.TOMLDecodeError as failure:
        raise InvalidInputError(f"The file is not TOML: {failure}.") from None
    problems: list[str] = []
    templates: dict[str, Template] = {}
    for name, table in tables.items():
        try:
            _NAME.validate_python(name)
        except ValidationError:
            problems.append(f"[{name}]: a name has lower-case letters, digits and '-', at most 32 characters.")
            continue
        if not isinstance(table, dict):
            problems.append(f"{name}: Put it into the table of a template, such as [mikrotik].")
            continue
        try:
            templates[name] = Template.model_validate_json(json.dumps(table, default=str))
        except ValidationError as failure:
            problems += [f"[{name}]: {problem}" for problem in mistakes(failure, Template)]
    if not tables:
        problems.append("There is no template. A template is a table such as [mikrotik].")
    if problems:
        raise InvalidInputError("Invalid templates:", problems)
    return templates


def as_toml(name: str, template: Template) -> str:
    """Return the template as `parse_templates` reads it."""
    lines = [f"[{name}]"]
    for field, value in template.model_dump(mode="json", exclude_defaults=True).items():
        if isinstance(value, list):
            lines += [f"{field} = [", *(f"    {_quoted(item)}," for item in value), "]"]
        else:
            lines.append(f"{field} = {_quoted(value)}")
    return "\n".join(lines)


async def list_templates(database: Database) -> list[TemplateSummary]:
    """Return all templates, by name."""
    async with database.platform() as connection:
        catalogue = await read_catalogue(connection)
    return [_summary(catalogue, name) for name in sorted(catalogue.templates)]


async def find_template(database: Database, name: str) -> Template:
    """Return a template. Raises `UnknownTemplateError`."""
    async with database.platform() as connection:
        template = (await read_catalogue(connection)).templates.get(name)
    if template is None:
        raise UnknownTemplateError(f"There is no template {name}: `lastmile radius template list` lists them.")
    return template


async def check_templates(database: Database, given: Mapping[str, Template]) -> None:
    """Check templates, and change nothing. Raises `InvalidTemplateError`."""
    async with database.platform() as connection:
        template_changes.check_templates(given, (await read_catalogue(connection)).templates)


async def set_templates(database: Database, given: Mapping[str, Template], *, actor: str) -> int:
    """Store templates and return the number of changed groups. Raises as `template_changes.set_templates`."""
    async with database.platform(actor=actor) as connection:
        return await template_changes.set_templates(connection, given)


async def reset_template(database: Database, name: str, *, actor: str) -> int:
    """Bring back the ready template, or remove an added one. Raises as `template_changes.reset_template`."""
    async with database.platform(actor=actor) as connection:
        return await template_changes.reset_template(connection, name)


async def choose_templates(
    database: Database, tenant: str, names: Sequence[str], slow: tuple[int | None, int | None], *, actor: str
) -> tuple[Choice, int]:
    """Choose the templates of a tenant. Raises as `template_changes.choose_templates`.

    Without names and rates, only return the present choice.
    """
    async with database.platform(actor=actor) as connection:
        if not names and slow == (None, None):
            return (await read_catalogue(connection)).choice(tenant), 0
        return await template_changes.choose_templates(connection, tenant, names, slow)


def _summary(catalogue: Catalogue, name: str) -> TemplateSummary:
    template = catalogue.templates[name]
    ready = READY_TEMPLATES.get(name)
    origin = "added" if ready is None else "ready" if template == ready else "changed"
    tenants = [tenant for tenant, choice in catalogue.choices.items() if name in choice.templates]
    return TemplateSummary(name, template.summary, origin, sorted(tenants))


def _quoted(text: str) -> str:
    # A basic string of TOML has the escapes of JSON.
    return json.dumps(text, ensure_ascii=False)
