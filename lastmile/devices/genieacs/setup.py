"""What GenieACS needs so that a CPE in service keeps the parameters of its model after a factory reset.

A task acts once, on the CPE as it is. The preset by tag acts in every session: it writes what the CPE has lost.
"""

import json
import re
from collections.abc import Mapping
from importlib.resources import files

from lastmile.devices.genieacs.nbi import Document, Nbi
from lastmile.devices.genieacs.options import TR_098, TR_181, GenieAcsOptions

__all__ = ["LINE", "install", "read_script"]

BOOTSTRAP, LINE = "lastmile-bootstrap", "lastmile-line"
"""The names of the presets, and of their provisions and channels."""

_CONSTANT = re.compile(r"(?<== |, )\{([a-z_]+)\}")


def read_script(name: str) -> str:
    """Return a script for GenieACS: `bootstrap`, `line` and `line_settings` are provisions, `ext` is the extension."""
    return files("lastmile.devices.genieacs").joinpath("scripts", f"{name}.js").read_text(encoding="utf-8")


async def install(nbi: Nbi, options: GenieAcsOptions) -> dict[str, bool]:
    """Install the presets and their provisions.

    Returns:
        Each part, as `presets/lastmile-line`, with whether this call has created or changed it. A repeated call changes
        nothing. Other presets and provisions stay as they are.

    Raises:
        ControllerUnavailableError: GenieACS does not answer, or refuses a part. The parts before it are installed.
    """
    changed = {}
    # Without the provision `bootstrap`, GenieACS does not notice that a CPE has lost its values.
    # A preset whose provision is missing is a fault of each CPE: the provisions come first.
    for name, script in ((BOOTSTRAP, read_script("bootstrap")), (LINE, _line_script(options))):
        changed[f"provisions/{name}"] = await _put(nbi, "provisions", name, {"_id": name, "script": script}, script)
    for name, preset in _presets(options).items():
        changed[f"presets/{name}"] = await _put(nbi, "presets", name, {"_id": name, **preset}, preset)
    return changed


async def _put(nbi: Nbi, collection: str, name: str, expected: Document, content: Document | str) -> bool:
    if await nbi.find(collection, {"_id": name}) == [expected]:
        return False
    await nbi.put(collection, name, content)
    return True


def _presets(options: GenieAcsOptions) -> Mapping[str, Document]:
    return {
        BOOTSTRAP: {
            "weight": 0,
            "channel": BOOTSTRAP,
            "events": {"0 BOOTSTRAP": True},
            "configurations": [{"type": "provision", "name": BOOTSTRAP, "args": None}],
        },
        LINE: {
            "weight": 10,
            "channel": LINE,
            "precondition": json.dumps({"_tags": options.tag}),
            "events": {},
            "configurations": [{"type": "provision", "name": LINE, "args": None}],
        },
    }


def _line_script(options: GenieAcsOptions) -> str:
    constants = {
        "mac_parameter": options.mac_parameter,
        "values_by_product_class": {name: options.values_of(model) for name, model in options.models.items()},
        "settings_by_product_class": {name: dict(model.settings) for name, model in options.models.items()},
        # GenieACS skips the paths of the other data model.
        "values_by_data_model": options.values_of(TR_181) | options.values_of(TR_098),
        "settings_by_data_model": {**TR_181.settings, **TR_098.settings},
    }
    script = read_script("line") + (read_script("line_settings") if options.extension else "")
    return _CONSTANT.sub(lambda found: json.dumps(constants[found[1]], sort_keys=True), script)
