"""What an operator configures for GenieACS: the tag, and the parameters of each model of CPE, as data."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from lastmile.fields.rules import rule_error

__all__ = ["TR_098", "TR_181", "CpeModel", "GenieAcsOptions", "Value"]

Value = StrictBool | StrictInt | StrictStr

_PATH = re.compile(r"(Device|InternetGatewayDevice)(\.[A-Za-z0-9_-]+)+")
_SECRET = re.compile(r"password|passphrase|presharedkey|wepkey", re.IGNORECASE)


def _path(written: str) -> str:
    if not _PATH.fullmatch(written):
        raise rule_error(
            "must be the whole path of a parameter of TR-181 or TR-098, as in Device.PPP.Interface.1.Enable"
        )
    if _SECRET.search(written):
        raise rule_error("must not be the path of a password, since every client of the NBI can read its value")
    return written


ParameterPath = Annotated[str, AfterValidator(_path)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CpeModel(_Model):
    """The parameters that Lastmile writes in CPEs of one model."""

    provisioning_code: ParameterPath
    """The parameter that gets the reference of the subscriber."""
    values: Mapping[ParameterPath, Value] = {}
    """The other parameters of a CPE in service, with their values."""


TR_181 = CpeModel(
    provisioning_code="Device.DeviceInfo.ProvisioningCode",
    values={
        "Device.PPP.Interface.1.Enable": True,
        "Device.IP.Interface.1.IPv6Enable": True,
        "Device.DHCPv6.Client.1.RequestPrefixes": True,
        "Device.DHCPv6.Client.1.RequestAddresses": True,
        "Device.DHCPv6.Client.1.Enable": True,
    },
)

# TR-098 has no standard parameter for IPv6 prefix delegation: an operator adds the vendor's by product class.
TR_098 = CpeModel(
    provisioning_code="InternetGatewayDevice.DeviceInfo.ProvisioningCode",
    values={"InternetGatewayDevice.WANDevice.1.WANConnectionDevice.1.WANPPPConnection.1.Enable": True},
)

_BY_ROOT = {"Device": TR_181, "InternetGatewayDevice": TR_098}


class GenieAcsOptions(_Model):
    """The options of a GenieACS."""

    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "lastmile"
    """The tag of CPEs in service. The NBI refuses a tag with other characters in its path."""
    mac_parameter: Annotated[str, Field(pattern=r"^[A-Za-z]+(\.[A-Za-z0-9_-]+)+$")] = "VirtualParameters.MACAddress"
    """The virtual parameter with the CPE's MAC address, which the operator defines in GenieACS."""
    models: Mapping[str, CpeModel] = {}
    """The parameters by product class. Other CPEs have those of their data model, `TR_181` or `TR_098`."""

    def model_of(self, product_class: str, roots: Collection[str]) -> CpeModel | None:
        """Return the parameters of a CPE with these root objects; None where GenieACS knows neither root yet."""
        if product_class in self.models:
            return self.models[product_class]
        return next((model for root, model in _BY_ROOT.items() if root in roots), None)
