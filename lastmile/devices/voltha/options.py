"""What an operator configures for VOLTHA beside the endpoint."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["VolthaOptions"]


class VolthaOptions(BaseModel):
    """What an operator configures for VOLTHA beside the endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    technology_profile: int = Field(default=64, ge=64, le=255)
    """The technology profile that the OLT gives a line (VOLTHA: 64 to 255)."""
    line_kbps: int = Field(default=1_000_000, ge=64)
    """The rate in each direction, in kbit/s, of a line whose own rates are not known. The BNG shapes as well."""
    c_vlan_at_uni: bool = False
    """Whether frames have the C-VLAN's tag at the ONU's Ethernet port already, as from a switch in the building.

    Lines that share an ONU (`fttb`) need it. Otherwise frames have no tag there, and an ONU has one line.
    """
    settle_seconds: float = Field(default=3.0, gt=0, le=30)
    """The time between a change and the reading that confirms it: VOLTHA accepts changes that it then takes back."""
