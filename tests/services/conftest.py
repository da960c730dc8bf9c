"""The fixtures of the command for the tests of order files, which also run the command."""

from tests.cli.conftest import alone, book, cli, command_server, faults, settings, worker, working

__all__ = ["alone", "book", "cli", "command_server", "faults", "settings", "worker", "working"]
