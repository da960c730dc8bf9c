"""The command `python -m lastmile.devstack.netbox`, which runs the stand-in until Ctrl-C or SIGTERM."""

import argparse
import signal
import threading
from pathlib import Path

from lastmile.devstack.netbox.http.latency import MEASURED
from lastmile.devstack.netbox.http.server import NetBoxServer
from lastmile.devstack.netbox.model.versions import V4_4, VERSIONS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lastmile.devstack.netbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the TCP port; 0 selects a free port")
    tokens = parser.add_mutually_exclusive_group()
    tokens.add_argument("--token", default="", help="the superuser's API token, of 40 characters or nbt_<key>.<secret>")
    tokens.add_argument("--token-file", type=Path, help="a file with the token")
    parser.add_argument(
        "--file", type=Path, help="the file for the data; without a file, the data ends with the process"
    )
    parser.add_argument("--version", choices=VERSIONS, default=V4_4.api, help="the version of NetBox")
    parser.add_argument("--as-slow-as-measured", action="store_true", help="be as slow as a real NetBox")
    options = parser.parse_args()
    costs = MEASURED if options.as_slow_as_measured else None
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    token = options.token_file.read_text().strip() if options.token_file else options.token
    version = VERSIONS[options.version]
    with NetBoxServer(port=options.port, token=token, version=version, file=options.file, costs=costs) as server:
        print(f"NetBox stand-in at {server.url}", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
