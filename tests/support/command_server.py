"""Run `lastmile` commands as forks of this process, which has imported the command once.

A command needs 0.1 s of processor time in a fork, and three times as much with an interpreter and imports of its own.
In all else a fork is a process like any other: own environment, own standard streams, own event loop, real exit code.
The SDK of Temporal starts its threads with the first connection, so this process has one thread and can fork.
"""

import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
from datetime import timedelta
from typing import NoReturn

import typer

import lastmile.cli
from lastmile.cli import app as application
from lastmile.client import answer_time

STREAMS = 3
"""Descriptors of a request: standard input, output and error, and then the channel for the request and the end."""


def import_command() -> None:
    """Import each module of the command: a command imports what it needs only when it runs."""
    for module in pkgutil.walk_packages(lastmile.cli.__path__, f"{lastmile.cli.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    application.app = typer.main.get_command(application.app)  # Typer builds all commands at each call
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page


def serve(control: socket.socket) -> None:
    """Start a command for each request until the other end of `control` is closed."""
    channels: dict[int, socket.socket] = {}
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for ready, _ in selector.select():
                if ready.fileobj is woken:
                    woken.recv(4096)
                    report_ended(channels)
                    continue
                message, descriptors, _, _ = socket.recv_fds(control, 1, STREAMS + 1)
                if not message:
                    return
                *streams, channel = descriptors
                if (pid := os.fork()) == 0:
                    run_command(streams, socket.socket(fileno=channel))
                channels[pid] = socket.socket(fileno=channel)
                for stream in streams:
                    os.close(stream)


def report_ended(channels: dict[int, socket.socket]) -> None:
    """Send the exit status of each command that has ended."""
    while channels:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with channels.pop(pid) as channel:
            channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def run_command(streams: list[int], channel: socket.socket) -> NoReturn:
    """In the fork: become the command that the request describes."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with channel, channel.makefile("r") as requests:
        request = json.loads(requests.readline())
        channel.sendall(b"%d\n" % os.getpid())
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    answer_time.ANSWER_TIME = timedelta(seconds=request["answer_seconds"])
    sys.argv = ["lastmile", *request["arguments"]]
    lastmile.cli.main()


if __name__ == "__main__":
    import_command()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test run, which then closes the control socket
    serve(socket.socket(fileno=int(sys.argv[1])))
