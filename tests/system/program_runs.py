"""Run a program many times, some at once, and print how each run ended: `program_runs.py PROGRAM RUNS AT_ONCE`.

The program's modules are imported once. Each run is a fork, which ends as a program does: the interpreter is taken
down. An import in each run would take five times as long.
"""

import asyncio
import json
import os
import runpy
import sys
from collections import Counter


def main() -> None:
    program, runs, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    start = runpy.run_path(program)["main"]
    ended: Counter[int] = Counter()
    for number in range(runs):
        if number >= at_once:
            ended[_ended()] += 1
        if os.fork() == 0:
            os.dup2(2, 1)
            asyncio.run(start())
            return
    for _ in range(at_once):
        ended[_ended()] += 1
    print(json.dumps(ended))


def _ended() -> int:
    _, status = os.wait()
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
