"""What an operator configures for SmartOLT beside the endpoint."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SmartOltOptions"]

# SmartOLT's rule for the name of a zone.
Zone = Annotated[str, Field(pattern=r"^[A-Za-z0-9 _-]{1,64}$")]


class SmartOltOptions(BaseModel):
    """What an operator configures for SmartOLT beside the endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    olts: Mapping[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """SmartOLT's id of each OLT, by the name that orders have."""
    zone: Zone
    """The zone of authorized ONUs. SmartOLT must have it."""
    speed_profile: Annotated[str, Field(min_length=1, max_length=64)]
    """The speed profile of a line whose order names none. SmartOLT must have it for both directions."""
    pon_type: Literal["gpon", "epon"] = "gpon"
    onu_mode: Literal["Routing", "Bridging"] = "Bridging"
    calls_per_hour: int = Field(default=1_000, ge=1)
    """The calls that one worker makes in an hour. With several workers: their share of the account's budget."""
