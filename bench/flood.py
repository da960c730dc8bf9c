"""A caller that sends requests at a constant rate, whatever is answered: `python -m bench.flood PORT KEY RATE`.

It runs until its input ends, and then prints the answers by status, and how many there were a second.
"""

import asyncio
import json
import sys
import time
from collections import Counter

from lastmile.devstack.ports import HOST

CONNECTIONS = 128
AT_ONCE = 4
"""Requests that a connection sends before it reads their answers."""
LAG = 1.0
"""Seconds: what could not be sent in this time is not sent later."""


async def flood(port: int, key: str, rate: int) -> dict[str, float]:
    """Send requests until the input ends."""
    request = f"GET /v1/orders HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    statuses: Counter[str] = Counter()
    tasks = [
        asyncio.create_task(_caller(port, request, rate / CONNECTIONS / AT_ONCE, statuses)) for _ in range(CONNECTIONS)
    ]
    began = time.perf_counter()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    return {"per_second": statuses.total() / (time.perf_counter() - began), **statuses}


async def _caller(port: int, request: bytes, rounds: float, statuses: Counter[str]) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    due = time.perf_counter()
    while True:
        writer.write(request * AT_ONCE)
        for _ in range(AT_ONCE):
            status = (await reader.readline()).split()[1].decode()
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            await reader.readexactly(length)
            statuses[status] += 1
        due = max(due + 1 / rounds, time.perf_counter() - LAG)
        await asyncio.sleep(due - time.perf_counter())


if __name__ == "__main__":
    print(json.dumps(asyncio.run(flood(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))))
