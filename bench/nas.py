"""`python -m bench.nas`: a NAS that acknowledges everything, in a process of its own so that it does not slow its
clients down. It writes its port to standard output and ends with its standard input."""

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
