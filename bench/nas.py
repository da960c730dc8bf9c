"""The command `python -m bench.nas`: a NAS that acknowledges every request.

The NAS runs in its own process, so that it does not slow down its clients. It prints its port, and ends when its
standard input closes.
"""

import asyncio
import sys

from lastmile.devstack.nas import ACK, ScriptedNas

__all__ = ["SECRET"]

SECRET = b"bench"


async def main() -> None:
    async with ScriptedNas(SECRET, script=lambda _: ACK) as nas:
        print(nas.nas.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
