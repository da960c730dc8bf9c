"""Simulated CPEs of the two data models, as those of the recordings."""

from lastmile.devstack.genieacs.cpe import Cpe, Parameter

__all__ = ["tr_098_cpe", "tr_181_cpe"]


def _flag(value: bool) -> Parameter:
    return Parameter(value, "xsd:boolean")


def _fixed(value: str) -> Parameter:
    return Parameter(value, writable=False)


def tr_181_cpe(serial: str, *, product_class: str = "HGW-1", oui: str = "00D09E", mac: str = "") -> Cpe:
    """Return a home gateway with the data model TR-181."""
    mac = mac or "02:00:00:00:00:01"
    return Cpe(
        oui,
        product_class,
        serial,
        {
            "Device.DeviceInfo.SerialNumber": _fixed(serial),
            "Device.DeviceInfo.SoftwareVersion": _fixed("1.0"),
            "Device.DeviceInfo.ProvisioningCode": Parameter(""),
            "Device.ManagementServer.ConnectionRequestUsername": Parameter(""),
            "Device.ManagementServer.ConnectionRequestPassword": Parameter("", hidden=True),
            "Device.Ethernet.Interface.1.MACAddress": _fixed(mac),
            "Device.Ethernet.VLANTermination.1.VLANID": Parameter(7, "xsd:unsignedInt", largest=4094),
            "Device.IP.Interface.1.IPv6Enable": _flag(False),
            "Device.PPP.Interface.1.ConnectionTrigger": Parameter("AlwaysOn"),
            "Device.PPP.Interface.1.Enable": _flag(False),
            "Device.PPP.Interface.1.IPv6CPEnable": _flag(True),
            "Device.PPP.Interface.1.Password": Parameter("", hidden=True),
            "Device.PPP.Interface.1.Status": _fixed("Down"),
            "Device.PPP.Interface.1.Username": Parameter(""),
            "Device.DHCPv6.Client.1.DUID": _fixed(f"00030001{mac.replace(':', '')}"),
            "Device.DHCPv6.Client.1.Enable": _flag(False),
            "Device.DHCPv6.Client.1.Interface": Parameter("Device.IP.Interface.1"),
            "Device.DHCPv6.Client.1.RapidCommit": _flag(False),
            "Device.DHCPv6.Client.1.Renew": _flag(False),
            "Device.DHCPv6.Client.1.RequestAddresses": _flag(False),
            "Device.DHCPv6.Client.1.RequestPrefixes": _flag(False),
            "Device.DHCPv6.Client.1.Status": _fixed("Disabled"),
            "Device.WiFi.SSID.1.SSID": Parameter("Factory"),
        },
        mac=mac,
    )


def tr_098_cpe(serial: str, *, mac: str = "") -> Cpe:
    """Return a home gateway with the data model TR-098."""
    ppp = "InternetGatewayDevice.WANDevice.1.WANConnectionDevice.1.WANPPPConnection.1"
    return Cpe(
        "202BC1",
        "BM632w",
        serial,
        {
            "InternetGatewayDevice.DeviceInfo.SerialNumber": _fixed(serial),
            "InternetGatewayDevice.DeviceInfo.ProvisioningCode": Parameter(""),
            f"{ppp}.Username": Parameter(""),
            f"{ppp}.Password": Parameter("", hidden=True),
            f"{ppp}.Enable": _flag(False),
        },
        manufacturer="Huawei Technologies Co., Ltd.",
        mac=mac,
    )
