"""`lastmile nas`: the access servers that take Disconnect and CoA requests."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit
from lastmile.cli.inventory.inventory import show_all
from lastmile.cli.output import console, facts, print_json, tell
from lastmile.errors import InvalidInputError
from lastmile.radius.errors import UnknownNasError
from lastmile.radius.nas import NasChange, NasRecord, add_nas, list_nas, remove_nas, set_nas
from lastmile.validation_messages import mistakes

__all__ = ["nas_add", "nas_list", "nas_remove", "nas_set", "nas_show"]

_OPTIONS = {
    "address": "ADDRESS",
    "name": "--name",
    "coa_port": "--coa-port",
    "coa_address": "--coa-address",
    "secret": "the secret",
}

_RESTART = "Restart FreeRADIUS if it reads its clients from the table `nas`: it reads them only when it starts."


async def nas_add(address: str, values: dict[str, Any], secret: str | Path, as_json: bool) -> Exit:
    """Add a NAS, with its secret or the file that holds it; the same one again changes nothing."""
    record = _validated(NasRecord, {"address": address, "secret": _secret(secret)} | values)
    async with open_database(load_settings()) as database, database.platform(actor=actor()) as connection:
        added = await add_nas(connection, record)
    words = f"NAS {record.name} at {record.address} {f'added. {_RESTART}' if added else 'exists already, unchanged.'}"
    tell(words, as_json, name=record.name, address=record.address, coa_port=record.coa_port, added=added)
    return Exit.DONE


async def nas_set(named: str, values: dict[str, Any], secret: str | Path | None, as_json: bool) -> Exit:
    """Change a NAS; what is not given stays. Raises `UnknownNasError`."""
    given = {name: value for name, value in values.items() if value is not None}
    if secret is not None:
        given["secret"] = _secret(secret)
    if not given:
        raise InvalidInputError("Say what to change: --name, --secret-file, --ask-secret, --coa-address or --coa-port.")
    change = _validated(NasChange, given)
    async with open_database(load_settings()) as database, database.platform(actor=actor()) as connection:
        shown = dict(await set_nas(connection, named, change))
    restart = f" {_RESTART}" if secret is not None else ""
    tell(f"NAS {shown['name']} at {shown['address']} changed.{restart}", as_json, **shown)
    return Exit.DONE


async def nas_remove(named: str, force: bool, as_json: bool) -> Exit:
    """Remove a NAS. Raises `UnknownNasError` and `NasInUseError`."""
    async with open_database(load_settings()) as database, database.platform(actor=actor()) as connection:
        gone = dict(await remove_nas(connection, named, force=force))
    tell(f"NAS {gone['name']} at {gone['address']} removed. {_RESTART}", as_json, **gone, removed=True)
    return Exit.DONE


Model = TypeVar("Model", NasRecord, NasChange)


def _validated(model: type[Model], values: dict[str, Any]) -> Model:
    """Raises `InvalidInputError`, without the secret."""
    try:
        return model.model_validate(values)
    except ValidationError as failure:
        # A secret is not for the terminal.
        problems = mistakes(failure, model, _OPTIONS, show_values=False)
        raise InvalidInputError("This cannot be a NAS:", problems) from None


def _secret(typed: str | Path) -> str:
    """The RADIUS shared secret, or the content of its file without the last line end."""
    if isinstance(typed, str):
        return typed
    try:
        return typed.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as failure:
        raise InvalidInputError(f"{typed} cannot be read: {getattr(failure, 'strerror', None) or failure}.") from None


async def nas_list(as_json: bool) -> Exit:
    known = await _nas()
    columns = ("NAS", "address", "CoA address", "CoA port", "detail")
    rows = [(nas["name"], nas["address"], nas["coa_address"], nas["coa_port"], nas["description"]) for nas in known]
    show_all(known, as_json, columns, rows, "There is no NAS yet. Add one: lastmile nas add ADDRESS --name NAME")
    return Exit.DONE


async def nas_show(name: str, as_json: bool) -> Exit:
    """Raises `UnknownNasError`."""
    found = [nas for nas in await _nas() if name in (nas["name"], nas["address"])]
    if not found:
        raise UnknownNasError(f"There is no NAS of name or address {name}: `lastmile nas list` shows those there are.")
    for nas in found:
        if as_json:
            print_json(nas)
        else:
            console.print(facts("", nas))
    return Exit.DONE


async def _nas() -> list[dict[str, Any]]:
    async with open_database(load_settings()) as database, database.platform() as connection:
        return [dict(row) for row in await list_nas(connection)]
