"""A guard between the stack and one server: the server ends when the stack ends, however the stack ended.

Run as a program of its own, `guard.py STOP_SIGNAL PATIENCE_SECONDS USER COMMAND…` (USER may be empty). Its
standard input is a pipe from the stack. When that pipe closes (an orderly stop, a crash and a SIGKILL of the
stack look alike here) the server gets STOP_SIGNAL, and SIGKILL when it is still there PATIENCE_SECONDS later.
The exit status is the server's.

Nothing but the standard library is imported, so that a guard starts in milliseconds and costs little.
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
    # A group of its own: what is typed at the terminal reaches the stack, which stops its servers in order.
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        user=user or None,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    # Only the pipe ends a guard. Handlers, not SIG_IGN, because the server must not inherit them.
    for blunt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(blunt, lambda *_: None)
    threading.Thread(
        target=_stop_when_pipe_closes, args=(server, int(stop_signal), float(patience)), daemon=True
    ).start()
    status = server.wait()
    _kill_group(server.pid)  # whatever the server itself left behind
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
