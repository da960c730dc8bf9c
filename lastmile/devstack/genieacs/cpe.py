"""A simulated CPE: its parameters, how it answers a connection request, and its faults."""

import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum

from lastmile.errors import LastmileError

__all__ = ["Cpe", "CpeFaultError", "Parameter", "Reachability", "Value"]

Value = bool | int | str

_UNSAFE = re.compile(r"[^A-Za-z0-9_]")

# Parameters that follow another one: the value where the other is true, and the value where it is false.
_STATUS = {
    "Device.PPP.Interface.1.Status": ("Device.PPP.Interface.1.Enable", "Up", "Down"),
    "Device.DHCPv6.Client.1.Status": ("Device.DHCPv6.Client.1.Enable", "Enabled", "Disabled"),
}


class Reachability(StrEnum):
    """What comes of a connection request, in the words of the NBI's reason phrase; empty: a session."""

    ONLINE = ""
    OFFLINE = "Device is offline"
    MUTE = "Task queued but not processed"
    """The CPE answers the connection request, and starts no session."""


@dataclass
class Parameter:
    """A parameter of a CPE."""

    value: Value
    type: str = "xsd:string"
    writable: bool = True
    hidden: bool = False
    """Whether the value reads back empty, as passwords do (TR-181)."""
    largest: int | None = None
    """The largest number that the CPE accepts."""


class CpeFaultError(LastmileError):
    """A fault of the RPC SetParameterValues: the CPE has changed nothing (TR-069, A.3.2.1)."""

    def __init__(self, parameters: list[str]) -> None:
        super().__init__(parameters)
        self.detail = {
            "faultCode": "9003",
            "faultString": "Invalid arguments",
            "setParameterValuesFault": [
                {"parameterName": path, "faultCode": "9007", "faultString": "Invalid parameter value"}
                for path in parameters
            ],
        }


class Cpe:
    """A CPE.

    Args:
        parameters: the factory settings by path. A path that ends in a dot is an object without parameters.
        mac: the MAC address that GenieACS's virtual parameter shows; empty: none.
    """

    def __init__(
        self,
        oui: str,
        product_class: str,
        serial: str,
        parameters: Mapping[str, Parameter],
        *,
        manufacturer: str = "Labco",
        mac: str = "",
    ) -> None:
        self.identity = {
            "_Manufacturer": manufacturer,
            "_OUI": oui,
            **({"_ProductClass": product_class} if product_class else {}),
            "_SerialNumber": serial,
        }
        self.mac = mac
        self.reachability = Reachability.ONLINE
        self.wants_password = False
        """Whether a connection request needs the CPE's ConnectionRequestPassword."""
        self.before_rpc: Callable[[], object] | None = None
        """A function that delays or changes the CPE before each RPC."""
        self.was_reset = True
        """Whether the next session begins with the event `0 BOOTSTRAP`."""
        self.written: list[dict[str, Value]] = []
        """The values of each successful SetParameterValues."""
        self._factory = deepcopy(dict(parameters))
        self.parameters = deepcopy(self._factory)

    @property
    def id(self) -> str:
        """GenieACS's id of the CPE."""
        parts = [self.identity[key] for key in ("_OUI", "_ProductClass", "_SerialNumber") if key in self.identity]
        return "-".join(_UNSAFE.sub(lambda one: f"%{ord(one[0]):02X}", part) for part in parts)

    @property
    def root(self) -> str:
        """The root object of the data model: `Device` or `InternetGatewayDevice`."""
        return next(iter(self.parameters)).partition(".")[0]

    def reset(self, *, silent: bool = False) -> None:
        """Return to the factory settings. A silent reset sends no `0 BOOTSTRAP`, so the ACS does not notice it."""
        self.parameters = deepcopy(self._factory)
        self.was_reset = not silent

    def read(self, path: str) -> Value:
        """Return the value as the RPC GetParameterValues shows it."""
        if status := _STATUS.get(path):
            follows, yes, no = status
            return yes if self.parameters[follows].value else no
        parameter = self.parameters[path]
        return "" if parameter.hidden else parameter.value

    def write(self, values: Mapping[str, Value]) -> None:
        """Set every value, or none.

        Raises:
            CpeFaultError: the CPE refuses a value.
        """
        refused = [path for path, value in values.items() if self._refuses(self.parameters[path], value)]
        if refused:
            raise CpeFaultError(refused)
        for path, value in values.items():
            self.parameters[path].value = value
        self.written.append(dict(values))

    @staticmethod
    def _refuses(parameter: Parameter, value: Value) -> bool:
        return parameter.largest is not None and not (isinstance(value, int) and 0 <= value <= parameter.largest)

    def below(self, object_name: str) -> Iterator[str]:
        """Yield the paths of the parameters below an object, or that of the parameter itself."""
        prefix = f"{object_name.rstrip('.')}."
        yield from (path for path in self.parameters if path.startswith(prefix) or path == object_name)

    def add_object(self, name: str) -> str | None:
        """Copy the first instance of an object; return the path of the new one. None: the CPE has no such object."""
        instances = {path.removeprefix(f"{name}.").partition(".")[0] for path in self.below(name)} - {name}
        if not instances or not all(number.isdecimal() for number in instances):
            return None
        new = f"{name}.{max(map(int, instances)) + 1}"
        for path in list(self.below(f"{name}.1")):
            self.parameters[path.replace(f"{name}.1", new, 1)] = deepcopy(self.parameters[path])
        return new

    def delete_object(self, name: str) -> None:
        """Delete the instance of an object. A repeated call changes nothing."""
        for path in list(self.below(name)):
            del self.parameters[path]
