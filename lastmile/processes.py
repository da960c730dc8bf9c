"""Several processes of one command, which live and end together."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

__all__ = ["run_together"]


def run_together(command: Sequence[str], environments: Sequence[Mapping[str, str]], *, keep: Sequence[int] = ()) -> int:
    """Run the command once for each environment, and return the highest exit status; 0 after a signal to stop.

    Each environment adds to that of this process. The processes inherit the file descriptors `keep`. SIGTERM and SIGINT
    stop all of them, and so does the end of any.
    """
    children = [
        subprocess.Popen(command, env=os.environ | dict(environment), pass_fds=keep) for environment in environments
    ]
    untold = list(children)

    def stop(*_: object) -> None:
        # One SIGTERM for each: a second one would kill a process in its last steps, without a handler.
        while untold:
            untold.pop().terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # the first to end, by our signal or its own fault
    stop()
    # A process that our signal killed before its handler was set has not failed.
    return max((abs(status) for child in children if (status := child.wait()) != -signal.SIGTERM), default=0)
