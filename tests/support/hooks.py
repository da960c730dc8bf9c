"""Events of UISP, as it sends them, for the service of one test."""

import json
import random
import re
import textwrap
import uuid
from pathlib import Path
from typing import Any

from lastmile.services.hooks.mapping import Mapping
from tests.support.readme import ROOT

__all__ = ["UISP_EVENTS", "UispService", "documented_mapping"]

UISP_EVENTS: Path = ROOT / "tests" / "services" / "hooks" / "uisp"
"""The directory with a body of each event."""


class UispService:
    """A service in UISP, which no other test has."""

    def __init__(self) -> None:
        self.id = random.randrange(10**6, 10**12)
        self.ref = f"uisp-{self.id}"
        """The subscriber of the service."""

    def event(self, name: str, **changes: Any) -> dict[str, Any]:
        """Return an event of the service with an id of its own. `changes` are fields of the service."""
        body: dict[str, Any] = json.loads((UISP_EVENTS / f"{name}.json").read_text())
        body["extraData"]["entity"] |= changes
        return body | {"uuid": str(uuid.uuid4()), "entityId": self.id}


def documented_mapping() -> Mapping:
    """Return the mapping in docs/development/adding-a-webhook-mapping.md."""
    page = (ROOT / "docs" / "development" / "adding-a-webhook-mapping.md").read_text()
    block = re.search(r"```python\n(.*?)\n *```", page, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(textwrap.dedent(block[1]), names)
    made: Mapping = names["ExampleCrm"]()
    return made
