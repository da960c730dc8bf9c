"""The name of an account's RADIUS group: its plan, and the mode of its suspension while the line is suspended."""

import re
from dataclasses import dataclass, replace

from lastmile.contract.lines import ServicePlan
from lastmile.contract.suspension import SuspensionMode

__all__ = ["Group"]

_MODES = "|".join(SuspensionMode)
_NAME = re.compile(rf"([A-Za-z0-9_-]+)-([0-9]+)-([0-9]+)(?::({_MODES}))?@([a-z0-9-]+)\.lastmile")


@dataclass(frozen=True, slots=True)
class Group:
    """The group of the accounts with one plan, one pair of rates and one state.

    A suspended account keeps the plan in its group, so that a resume finds the plan there.
    """

    tenant: str
    plan: str
    download_kbps: int
    upload_kbps: int
    suspended: SuspensionMode | None = None
    """None: the line is in service."""

    @property
    def plan_name(self) -> str:
        """Return the plan with its rates, as in `home-50000-10000`."""
        return f"{self.plan}-{self.download_kbps}-{self.upload_kbps}"

    @property
    def name(self) -> str:
        """Return the name in `radusergroup`, as in `home-50000-10000:slow@acme.lastmile`.

        The colon is one of the characters that FreeRADIUS's SQL module does not escape.
        """
        mode = f":{self.suspended}" if self.suspended else ""
        return f"{self.plan_name}{mode}@{self.tenant}.lastmile"

    def with_plan(self, plan: ServicePlan) -> "Group":
        """Return the group of another plan, in the same state."""
        return replace(self, plan=plan.name, download_kbps=plan.download_kbps, upload_kbps=plan.upload_kbps)

    @classmethod
    def parse(cls, name: str) -> "Group | None":
        """Return the group with this name; None if Lastmile did not make the name."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        plan, download, upload, mode, tenant = found.groups()
        return cls(tenant, plan, int(download), int(upload), SuspensionMode(mode) if mode else None)
