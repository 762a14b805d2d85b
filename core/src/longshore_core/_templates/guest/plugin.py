"""The guest `acme`: a few lines of Python as PID 1, which wait to be let go."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
from longshore_core import (
    JSON,
    ContainerSpec,
    Facts,
    GuestError,
    Host,
    Launch,
    Plug,
    Reach,
    hookimpl,
)
from longshore_core.abc import Guest, Session
from longshore_core.reach import CONTROL, call, connect
from pydantic import BaseModel, ConfigDict

PID_1 = r"""
import json, os, signal, socket, subprocess
path = os.environ["LONGSHORE_SOCKETS"] + "/control.sock"
if os.path.exists(path): os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
held, program = None, None
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
while True:
    stream = listener.accept()[0].makefile("rw")
    for line in stream:
        asked, answer = json.loads(line), {"ok": True}
        if asked["op"] == "go":
            if held not in (None, asked["token"]):
                answer = {"ok": False, "code": "ALREADY_RELEASED", "error": "released already"}
            elif held is None and asked["entrypoint"]:
                program = subprocess.Popen(asked["entrypoint"], env={**os.environ, **asked["env"]})
            held = held or asked["token"]
        stream.write(json.dumps(answer) + "\n")
        stream.flush()
        if asked["op"] == "stop":
            os._exit(0)
"""


class Config(BaseModel):
    """What operators may write beside `type: acme`."""

    model_config = ConfigDict(extra="forbid")

    python: str = sys.executable
    """The interpreter, as it is called inside a container."""
    answer_secs: float = 5


class AcmeSession(Session):
    def __init__(self, control: socket.socket, seconds: float) -> None:
        self.control, self.seconds = control, seconds

    async def health(self) -> None:
        await self._ask("health", {})

    async def go(self, launch: Launch) -> None:
        env: dict[str, JSON] = dict(launch.env)
        entrypoint: list[JSON] = list(launch.entrypoint)
        await self._ask("go", {"token": launch.token, "env": env, "entrypoint": entrypoint})

    async def stop(self) -> None:
        await self._ask("stop", {})

    async def aclose(self) -> None:
        self.control.close()

    async def _ask(self, op: str, fields: Mapping[str, JSON]) -> None:
        with anyio.move_on_after(self.seconds):
            answer, _ = await call(self.control, op, fields)
            if answer.get("ok") is not True:
                raise GuestError(f"the guest refused {op}: {answer.get('error')}")
            return
        raise GuestError(f"no answer to {op} within {self.seconds:g} s", retryable=True)


class AcmeGuest(Guest):
    def __init__(self, config: Config) -> None:
        self.config = config

    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        return replace(spec, argv=(self.config.python, "-c", PID_1), sockets=True)

    async def connect(self, reach: Reach) -> Session:
        with anyio.move_on_after(self.config.answer_secs):
            while True:
                try:
                    return AcmeSession(await connect(reach, CONTROL), self.config.answer_secs)
                except GuestError as exc:
                    if not exc.retryable:
                        raise
                await anyio.sleep(0.02)  # it starts up, and nothing tells when it has
        raise GuestError(f"it did not start within {self.config.answer_secs:g} s")


@asynccontextmanager
async def open_acme(config: Config, host: Host) -> AsyncGenerator[Guest]:
    yield AcmeGuest(config)


@hookimpl
def longshore_guest() -> Plug[Config, Guest]:
    return Plug(config=Config, open=open_acme)
