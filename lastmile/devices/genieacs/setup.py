"""What GenieACS needs so that a CPE in service keeps the parameters of its model after a factory reset.

A task acts once, on the CPE as it is. The preset by tag acts in every session: it writes what the CPE has lost.
"""

import json
from collections.abc import Mapping

from lastmile.devices.genieacs.nbi import Document, Nbi
from lastmile.devices.genieacs.options import TR_098, TR_181, GenieAcsOptions, Value

__all__ = ["install"]

BOOTSTRAP, LINE = "lastmile-bootstrap", "lastmile-line"
"""The names of the presets, and of their provisions and channels."""

# Without it, GenieACS does not notice that a CPE has lost its values.
_BOOTSTRAP_SCRIPT = """\
// Lastmile: forget what GenieACS knew of the CPE before its factory reset.
clear("Device", Date.now());
clear("InternetGatewayDevice", Date.now());
"""

# GenieACS skips the paths of the other data model.
_LINE_SCRIPT = """\
// Lastmile: keep the parameters of a CPE in service. Written by `lastmile acs setup` from the controller's options.
const byProductClass = {by_product_class};
const byDataModel = {by_data_model};
const productClass = declare("DeviceID.ProductClass", {{value: 1}}).value;
const values = (productClass && byProductClass[productClass[0]]) || byDataModel;
for (const path of Object.keys(values)) {{
  declare(path, {{value: Date.now()}}, {{value: values[path]}});
}}
"""


async def install(nbi: Nbi, options: GenieAcsOptions) -> dict[str, bool]:
    """Install the presets and their provisions.

    Returns:
        Each part, as `presets/lastmile-line`, with whether this call has created or changed it. A repeated call changes
        nothing. Other presets and provisions stay as they are.

    Raises:
        ControllerUnavailableError: GenieACS does not answer, or refuses a part. The parts before it are installed.
    """
    changed = {}
    # A preset whose provision is missing is a fault of each CPE: the provisions come first.
    for name, script in ((BOOTSTRAP, _BOOTSTRAP_SCRIPT), (LINE, _line_script(options))):
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
    by_data_model: dict[str, Value] = {**TR_181.values, **TR_098.values}
    by_product_class = {name: dict(model.values) for name, model in options.models.items()}
    return _LINE_SCRIPT.format(
        by_product_class=json.dumps(by_product_class, sort_keys=True),
        by_data_model=json.dumps(by_data_model, sort_keys=True),
    )
