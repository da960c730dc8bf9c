"""Change the attribute templates, and the templates that a tenant chose. Every group gets its new items at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from lastmile.db import PlatformConnection
from lastmile.radius.catalogue import Catalogue, Choice, read_catalogue
from lastmile.radius.errors import InvalidTemplateError, TemplateInUseError, UnknownTemplateError
from lastmile.radius.membership import lock_groups, rewrite_groups
from lastmile.radius.tables import nas, radius_choices, radius_templates
from lastmile.radius.templates import READY_TEMPLATES, Template, find_problems

__all__ = ["check_templates", "choose_templates", "reset_template", "set_templates"]


def check_templates(given: Mapping[str, Template], known: Mapping[str, Template]) -> None:
    """Raise `InvalidTemplateError` with every problem of the templates `given`; `known` are the other templates."""
    templates = {**known, **given}
    problems = [f"{name}: {problem}" for name, template in given.items() for problem in find_problems(template)]
    for name in given:
        followed = [name]
        while (following := templates[followed[-1]].otherwise) is not None:
            if following not in templates or following in followed:
                reason = "names this template again" if following in followed else "is not a template"
                problems.append(f"{name}: otherwise: {following} {reason}. Name another template.")
                break
            followed.append(following)
    if problems:
        raise InvalidTemplateError("\n".join(["Invalid template:", *(f"  {problem}" for problem in problems)]))


async def set_templates(connection: PlatformConnection, given: Mapping[str, Template]) -> int:
    """Store the templates, and return the number of groups that changed.

    Raises:
        InvalidTemplateError: a template is wrong.
        InvalidAttributeError: a template cannot say the rates of a plan that is in use.
    """
    await lock_groups(connection, exclusively=True)
    before = await read_catalogue(connection)
    check_templates(given, before.templates)
    for name, template in given.items():
        values = {"definition": template.model_dump(mode="json")}
        statement = insert(radius_templates).values(name=name, **values)
        await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
    return await rewrite_groups(connection, before, await read_catalogue(connection))


async def reset_template(connection: PlatformConnection, name: str) -> int:
    """Bring back the ready template of this name, or remove a template that is not a ready one.

    Return the number of groups that changed.

    Raises:
        UnknownTemplateError: there is no such template.
        TemplateInUseError: the template is not a ready one, and a tenant, a NAS or another template uses it.
    """
    await lock_groups(connection, exclusively=True)
    before = await read_catalogue(connection)
    _require(before, [name])
    if name not in READY_TEMPLATES and (users := await _users(connection, before, name)):
        raise TemplateInUseError(f"Cannot remove template {name}: {', '.join(users)} use it. Change these first.")
    await connection.execute(delete(radius_templates).where(radius_templates.c.name == name))
    return await rewrite_groups(connection, before, await read_catalogue(connection))


async def choose_templates(
    connection: PlatformConnection, tenant: str, names: Sequence[str], slow: tuple[int | None, int | None]
) -> tuple[Choice, int]:
    """Let the groups of the tenant hold the items of these templates. Return the choice, and the changed groups.

    Args:
        names: the templates; none keeps the present ones.
        slow: the download and upload rate of a slow line in kbit/s. None keeps the present rate.

    Raises:
        UnknownTemplateError: there is no such template.
        InvalidAttributeError: a template cannot say the rates of a plan that is in use.
    """
    await lock_groups(connection, exclusively=True)
    before = await read_catalogue(connection)
    _require(before, names)
    present = before.choice(tenant)
    download, upload = slow
    choice = Choice(
        tuple(dict.fromkeys(names)) or present.templates,
        download or present.slow_download_kbps,
        upload or present.slow_upload_kbps,
    )
    values: dict[str, Any] = {
        "templates": list(choice.templates),
        "slow_download_kbps": choice.slow_download_kbps,
        "slow_upload_kbps": choice.slow_upload_kbps,
    }
    statement = insert(radius_choices).values(tenant_id=tenant, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["tenant_id"], set_=values))
    after = Catalogue(before.templates, {**before.choices, tenant: choice})
    return choice, await rewrite_groups(connection, before, after)


def _require(catalogue: Catalogue, names: Sequence[str]) -> None:
    for name in names:
        if name not in catalogue.templates:
            raise UnknownTemplateError(
                f"There is no template {name}. The templates are {', '.join(sorted(catalogue.templates))}."
            )


async def _users(connection: PlatformConnection, catalogue: Catalogue, name: str) -> list[str]:
    """Return who uses the template, in words."""
    names = (await connection.scalars(select(nas.c.shortname).where(nas.c.type == name))).all()
    return [
        *(f"tenant {tenant}" for tenant, choice in catalogue.choices.items() if name in choice.templates),
        *(f"NAS {nas_name}" for nas_name in names),
        *(f"template {other}" for other, template in catalogue.templates.items() if template.otherwise == name),
    ]
