"""`lastmile acs`."""

from pathlib import Path

from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_json, print_text
from lastmile.errors import InvalidInputError
from lastmile.services.acs_setup import read_extension, set_up_acs

__all__ = ["acs_setup"]


async def acs_setup(name: str, extension_file: Path | None, *, as_json: bool) -> Exit:
    """Install what a GenieACS needs, and say of each part whether it was so already."""
    settings = load_settings()
    async with open_database(settings) as database:
        changed = await set_up_acs(database, name, settings.key_ring)
    if extension_file is not None:
        changed[str(extension_file)] = _write_extension(extension_file)
    for part, is_new in changed.items():
        if as_json:
            print_json({"part": part, "changed": is_new})
        else:
            print_text(f"{'Installed' if is_new else 'Up to date'}: {part}.")
    return Exit.DONE


def _write_extension(file: Path) -> bool:
    """Write the extension; return whether the file had another content before. Raises `InvalidInputError`."""
    content = read_extension().encode()
    try:
        if file.exists() and file.read_bytes() == content:
            return False
        file.write_bytes(content)
    except OSError as failure:
        raise InvalidInputError(f"--extension-file: {file} cannot be written: {failure.strerror}.") from None
    return True
