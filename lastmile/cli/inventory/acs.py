"""`lastmile acs`."""

from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_json, print_text
from lastmile.services.acs_setup import set_up_acs

__all__ = ["acs_setup"]


async def acs_setup(name: str, *, as_json: bool) -> Exit:
    """Install what a GenieACS needs, and say of each part whether it was so already."""
    settings = load_settings()
    async with open_database(settings) as database:
        changed = await set_up_acs(database, name, settings.key_ring)
    for part, is_new in changed.items():
        if as_json:
            print_json({"part": part, "changed": is_new})
        else:
            print_text(f"{'Installed' if is_new else 'Up to date'}: {part}.")
    return Exit.DONE
