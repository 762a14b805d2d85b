"""Server, proxy and daemon in one, over real sockets: as little of each as one command takes.

Run as a program, it prints its port, and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import sys

from sdk.tests.world import CREATE, FOLLOW, INFO, RUN, START, STARTED, STARTED_WITH_INPUT, frame

_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = head.partition("content-length: ")[2].split()[:1] or ["0"]
            await reader.readexactly(int(length[0]))
            method, path = head.split()[:2]
            path = path.partition("?")[0]
            if path in (FOLLOW, RUN):
                # A process that writes, and does not end.
                data = STARTED + frame(1, b"y\n")
                writer.write(f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
                writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            else:
                body = json.dumps(_answer(method, path, writer.get_extra_info("sockname")[1]))
                writer.write(f"{_HEAD}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _answer(method: str, path: str, port: int) -> object:
    if path == START and method == "post":
        return STARTED_WITH_INPUT.json()
    if path == CREATE and method == "get":
        return {"sandboxes": []}
    if path.startswith(CREATE):
        return {**INFO, "sandbox_id": "sb", "sandbox_url": f"http://127.0.0.1:{port}"}
    return {"healthy": True}


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
