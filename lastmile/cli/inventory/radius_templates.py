"""`lastmile radius template`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lastmile.cli.connections import choose_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_all, print_json, print_result, print_text
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import count_of
from lastmile.radius.templates import Template
from lastmile.services import radius_templates as service

__all__ = ["template_check", "template_list", "template_reset", "template_set", "template_show", "template_use"]


async def template_list(as_json: bool) -> Exit:
    """List all templates."""
    async with open_database(load_settings()) as database:
        templates = await service.list_templates(database)
    rows = [(one.name, one.origin, ", ".join(one.tenants), one.summary) for one in templates]
    print_all([asdict(one) for one in templates], as_json, ("template", "origin", "tenants", "detail"), rows, "")
    return Exit.DONE


async def template_show(name: str, as_json: bool) -> Exit:
    """Show a template. Raises `UnknownTemplateError`."""
    async with open_database(load_settings()) as database:
        template = await service.find_template(database, name)
    if as_json:
        print_json({"name": name, **template.model_dump(mode="json")})
    else:
        print_text(service.as_toml(name, template))
    return Exit.DONE


async def template_check(file: str, as_json: bool) -> Exit:
    """Check the templates of a file. Raises `InvalidInputError` and `InvalidTemplateError`."""
    given = _read(file)
    async with open_database(load_settings()) as database:
        await service.check_templates(database, given)
    print_result(f"{_names(given)}: valid.", as_json, templates=list(given), valid=True)
    return Exit.DONE


async def template_set(file: str, as_json: bool) -> Exit:
    """Store the templates of a file. Raises `InvalidInputError` and `InvalidTemplateError`."""
    given = _read(file)
    async with open_database(load_settings()) as database:
        groups = await service.set_templates(database, given, actor=current_user())
    print_result(f"{_names(given)} stored. {_changed(groups)}", as_json, templates=list(given), groups=groups)
    return Exit.DONE


async def template_reset(name: str, as_json: bool) -> Exit:
    """Bring back a ready template. Raises `UnknownTemplateError` and `TemplateInUseError`."""
    async with open_database(load_settings()) as database:
        groups = await service.reset_template(database, name, actor=current_user())
    print_result(f"Template {name} reset. {_changed(groups)}", as_json, template=name, groups=groups)
    return Exit.DONE


async def template_use(
    names: Sequence[str], slow: tuple[int | None, int | None], *, tenant: str | None, as_json: bool
) -> Exit:
    """Choose the templates of a tenant. Raises `InvalidInputError` and `UnknownTemplateError`."""
    for option, rate in zip(("--slow-download", "--slow-upload"), slow, strict=True):
        if rate is not None and not 1 <= rate <= 2**32 - 1:
            raise InvalidInputError(f"{option} must be from 1 to 4294967295 kbit/s, and is {rate}.")
    async with open_database(load_settings()) as database:
        tenant = await choose_tenant(database, tenant)
        choice, groups = await service.choose_templates(database, tenant, names, slow, actor=current_user())
    words = (
        f"Tenant {tenant}: {', '.join(choice.templates)}; slow lines {choice.slow_download_kbps:,} kbit/s down and "
        f"{choice.slow_upload_kbps:,} kbit/s up. {_changed(groups)}"
    )
    print_result(words, as_json, tenant=tenant, groups=groups, **asdict(choice))
    return Exit.DONE


def _read(file: str) -> dict[str, Template]:
    try:
        content = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise InvalidInputError(f"{file} cannot be read: {getattr(failure, 'strerror', None) or failure}.") from None
    return service.parse_templates(content)


def _names(given: dict[str, Template]) -> str:
    return f"Template{'s' if len(given) > 1 else ''} {', '.join(given)}"


def _changed(groups: int) -> str:
    return f"{count_of(groups, 'group', 'groups')} changed."
