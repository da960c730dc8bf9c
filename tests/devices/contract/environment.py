"""What the contract suite needs of a driver: a stand-in of its controller, and one device at it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, ClassVar, Self

from lastmile.devices.controllers import Controller, LineDevice
from lastmile.devices.drivers import Driver, Endpoint

__all__ = ["ControllerEnv"]


class ControllerEnv(ABC):
    """A driver and a stand-in of its controller.

    The controller knows `device`, which is reachable and out of service, and has never seen `unseen`.
    """

    driver: ClassVar[Driver]
    has_credentials: ClassVar[bool]
    """Whether the stand-in refuses wrong credentials."""

    device: LineDevice
    unseen: LineDevice

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """Run the stand-in for the time of the block."""
        env = cls()
        with env.controller():
            yield env

    @abstractmethod
    def controller(self) -> AbstractContextManager[Any]:
        """Return the stand-in, which is run by `with`."""

    @abstractmethod
    def endpoint(self, *, wrong_secret: bool = False) -> Endpoint:
        """Return where the stand-in answers, with its credentials or with a wrong secret."""

    def options(self) -> Any:
        """Return the driver's options."""
        return self.driver.options()

    @abstractmethod
    def stop(self) -> None:
        """Stop the stand-in: nothing answers at its address."""

    @abstractmethod
    def is_on(self) -> bool:
        """Return whether the device itself is in service."""

    @abstractmethod
    def is_off(self) -> bool:
        """Return whether the device is out of service, and nothing at the controller will change that."""

    @abstractmethod
    def unplug(self) -> None:
        """Make the device unreachable for the controller."""

    @abstractmethod
    def plug_in(self) -> None:
        """Make the device reachable, and let it report to the controller."""

    @abstractmethod
    def lose_reply(self, after: int) -> None:
        """Lose the reply to a request from now on, after so many requests that are answered."""

    @abstractmethod
    def lost_reply(self) -> bool:
        """Return whether a reply has been lost, and lose none from now on."""

    @asynccontextmanager
    async def open(self, *, wrong_secret: bool = False) -> AsyncIterator[Controller]:
        """Open the driver on the stand-in."""
        async with self.driver.open(self.endpoint(wrong_secret=wrong_secret), self.options()) as controller:
            yield controller
