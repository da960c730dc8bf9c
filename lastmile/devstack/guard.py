"""A parent process of one server, which stops the server when the stack ends in any way.

The guard is a separate program: `guard.py STOP_SIGNAL PATIENCE_SECONDS USER COMMAND…` (USER may be empty). Its standard
input is a pipe from the stack. The pipe closes after an orderly stop, a crash or a SIGKILL of the stack. Then the guard
sends STOP_SIGNAL to the server, and SIGKILL after PATIENCE_SECONDS. The guard exits with the server's exit status.

The guard imports only the standard library, so that it starts in milliseconds and needs little memory.
"""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading
import time


def _stop_when_pipe_closes(server: "subprocess.Popen[bytes]", stop_signal: int, patience: float) -> None:
    while os.read(0, 1024):
        pass
    server.send_signal(stop_signal)
    time.sleep(patience)
    _kill_group(server.pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def main(argv: list[str]) -> int:
    stop_signal, patience, user, *command = argv
    # The server has its own process group. Ctrl-C then reaches only the stack, which stops its servers in order.
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        user=user or None,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    # Only the pipe ends the guard. SIG_IGN would be inherited by the server; handlers are not.
    for blunt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(blunt, lambda *_: None)
    threading.Thread(
        target=_stop_when_pipe_closes, args=(server, int(stop_signal), float(patience)), daemon=True
    ).start()
    status = server.wait()
    _kill_group(server.pid)  # child processes that the server left behind
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
