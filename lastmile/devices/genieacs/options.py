"""What an operator configures for GenieACS: the tag, and the parameters of each model of CPE, as data."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from lastmile.fields.rules import rule_error

__all__ = ["TR_098", "TR_181", "CpeModel", "GenieAcsOptions", "Setting", "Value"]

Value = StrictBool | StrictInt | StrictStr

_PATH = re.compile(r"(Device|InternetGatewayDevice)(\.[A-Za-z0-9_-]+)+")
_SECRET = re.compile(r"password|passphrase|presharedkey|wepkey", re.IGNORECASE)


def _any_path(written: str) -> str:
    if not _PATH.fullmatch(written):
        raise rule_error(
            "must be the whole path of a parameter of TR-181 or TR-098, as in Device.PPP.Interface.1.Enable"
        )
    return written


def _path(written: str) -> str:
    if _SECRET.search(written):
        raise rule_error("must not be the path of a password, since every client of the NBI can read its value")
    return written


AnyPath = Annotated[str, AfterValidator(_any_path)]
ParameterPath = Annotated[AnyPath, AfterValidator(_path)]

Setting = Literal["provisioning_code", "ppp_enabled", "ppp_username", "ppp_password", "ipv6_enabled", "ipv6_prefix"]
"""What Lastmile's API says of the line of a CPE (`lastmile.services.cpe_settings`)."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CpeModel(_Model):
    """The parameters that Lastmile writes in CPEs of one model."""

    provisioning_code: ParameterPath
    """The parameter that gets the reference of the subscriber."""
    values: Mapping[ParameterPath, Value] = {}
    """The other parameters of a CPE in service, with their values."""
    settings: Mapping[AnyPath, Setting] = {}
    """The parameters whose values Lastmile's API gives, where GenieACS has the extension. They go before `values`."""


TR_181 = CpeModel(
    provisioning_code="Device.DeviceInfo.ProvisioningCode",
    values={
        "Device.PPP.Interface.1.Enable": True,
        "Device.IP.Interface.1.IPv6Enable": True,
        "Device.DHCPv6.Client.1.RequestPrefixes": True,
        "Device.DHCPv6.Client.1.RequestAddresses": True,
        "Device.DHCPv6.Client.1.Enable": True,
    },
    settings={
        "Device.DeviceInfo.ProvisioningCode": "provisioning_code",
        "Device.PPP.Interface.1.Username": "ppp_username",
        "Device.PPP.Interface.1.Password": "ppp_password",
        "Device.PPP.Interface.1.Enable": "ppp_enabled",
        "Device.IP.Interface.1.IPv6Enable": "ipv6_enabled",
        "Device.DHCPv6.Client.1.RequestPrefixes": "ipv6_prefix",
        "Device.DHCPv6.Client.1.RequestAddresses": "ipv6_enabled",
        "Device.DHCPv6.Client.1.Enable": "ipv6_enabled",
    },
)

_TR_098_PPP = "InternetGatewayDevice.WANDevice.1.WANConnectionDevice.1.WANPPPConnection.1"

# TR-098 has no standard parameter for IPv6 prefix delegation: an operator adds the vendor's by product class.
TR_098 = CpeModel(
    provisioning_code="InternetGatewayDevice.DeviceInfo.ProvisioningCode",
    values={f"{_TR_098_PPP}.Enable": True},
    settings={
        "InternetGatewayDevice.DeviceInfo.ProvisioningCode": "provisioning_code",
        f"{_TR_098_PPP}.Username": "ppp_username",
        f"{_TR_098_PPP}.Password": "ppp_password",
        f"{_TR_098_PPP}.Enable": "ppp_enabled",
    },
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

    extension: StrictBool = False
    """Whether GenieACS has Lastmile's extension: it asks Lastmile's API for the settings of a CPE in each session."""

    def values_of(self, model: CpeModel) -> dict[str, Value]:
        """Return the values that are the same for each line."""
        return {path: value for path, value in model.values.items() if not (self.extension and path in model.settings)}

    def model_of(self, product_class: str, roots: Collection[str]) -> CpeModel | None:
        """Return the parameters of a CPE with these root objects; None where GenieACS knows neither root yet."""
        if product_class in self.models:
            return self.models[product_class]
        return next((model for root, model in _BY_ROOT.items() if root in roots), None)
