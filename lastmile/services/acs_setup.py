"""The preparation of an ACS, so that CPEs in service keep their configuration."""

from typing import cast

from lastmile.db import Database
from lastmile.devices.genieacs import driver as genieacs
from lastmile.devices.genieacs.options import GenieAcsOptions
from lastmile.devices.genieacs.setup import read_script
from lastmile.devices.installed_drivers import find_driver, validate_options
from lastmile.encryption.keys import KeyRing
from lastmile.errors import InvalidInputError
from lastmile.services.controllers import find_controller

__all__ = ["read_extension", "set_up_acs"]


async def set_up_acs(database: Database, name: str, keys: KeyRing | None) -> dict[str, bool]:
    """Install in the GenieACS of this controller what Lastmile needs there.

    Returns:
        Each part, as `presets/lastmile-line`, with whether this call has created or changed it.

    Raises:
        UnknownControllerError: there is no controller of this name.
        InvalidInputError: the controller is no GenieACS, or its driver does not take its options.
        DecryptionError: this process lacks the key that encrypts the secret.
        ControllerUnavailableError: GenieACS does not answer, or refuses a part. The parts before it are installed.
    """
    stored = await find_controller(database, name)
    driver = find_driver(stored.driver)
    if driver.options is not GenieAcsOptions:
        raise InvalidInputError(
            f"Controller {name} has the driver {stored.driver}. `lastmile acs setup` prepares a GenieACS: name a "
            "controller with the driver genieacs."
        )
    options = cast(GenieAcsOptions, validate_options(stored.driver, driver, stored.options))
    return await genieacs.set_up(stored.endpoint(keys), options)


def read_extension() -> str:
    """Return the extension with which GenieACS asks Lastmile's API for the settings of CPEs."""
    return read_script("ext")
