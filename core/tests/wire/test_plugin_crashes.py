"""A plugin that raises anywhere ends its container with the reason; the worker lives."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scripted_server import sandbox, scripted_server

PLUGIN = """
    from contextlib import asynccontextmanager
    from pydantic import BaseModel
    from longshore_core import Attachment, Exit, Facts, Found, Handle, Phase, Plug
    from longshore_core import TcpReach, hookimpl
    from longshore_core.abc import Driver, Guest, NetworkEnforcer, Runtime, SecretsProvider, Session

    WHERE = {where!r}

    def at(operation):
        if operation == WHERE:
            raise ZeroDivisionError(operation)

    class Config(BaseModel):
        pass

    class Crashing(Driver, Guest, NetworkEnforcer, SecretsProvider, Session):
        removals = 0
        specs = {{}}
        async def create(self, spec):
            at("create")
            self.specs[spec.id] = spec
            return Handle(id=spec.id)
        async def start(self, handle):
            at("start")
            return Attachment(reach=TcpReach("x"))
        async def wait(self, handle):
            at("wait")
            import anyio
            await anyio.sleep_forever()
        async def signal(self, handle, signal): ...
        async def remove(self, handle):
            self.removals += 1
            if self.removals == 1:
                at("remove")
            self.specs.pop(handle.id, None)
        async def survey(self):
            return [Found(id=i, handle=Handle(id=i), phase=Phase.CREATED) for i in self.specs]
        def launch(self, spec, facts):
            at("launch")
            return spec
        async def connect(self, reach):
            at("connect")
            return self
        async def go(self, launch): at("go")
        async def health(self): ...
        async def stop(self): at("stop")
        async def aclose(self): at("aclose")
        async def admit(self, container, attachment, policy): at("admit")
        async def revoke(self, container):
            if self.removals == 0 and not hasattr(self, "revoked"):
                self.revoked = True
                at("revoke")
        async def fetch(self, namespace, names):
            at("fetch")
            return {{name: "" for name in names}}

    thing = Crashing()

    @asynccontextmanager
    async def open_driver(config, host):
        yield Runtime(driver=thing, facts=Facts())

    @asynccontextmanager
    async def open_thing(config, host):
        yield thing

    @hookimpl
    def longshore_driver(): return Plug(config=Config, open=open_driver)
    @hookimpl
    def longshore_guest(): return Plug(config=Config, open=open_thing)
    @hookimpl
    def longshore_network(): return Plug(config=Config, open=open_thing)
    @hookimpl
    def longshore_secrets(): return Plug(config=Config, open=open_thing)
    @hookimpl
    def longshore_admit(spec): at("longshore_admit")
"""

GROUPS = ("drivers", "guests", "networks", "secrets")
BEFORE_RUNNING = ("create", "start", "launch", "connect", "go", "admit", "fetch", "longshore_admit")
AFTERWARDS = ("remove", "revoke", "stop", "aclose")


@pytest.fixture
def crash_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict]:
    """Install a plugin for four seams that raises at one operation; the answer selects it."""

    def install(where: str) -> dict:
        site = tmp_path / "site"
        info = site / "acme-2.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 2.1\n")
        entries = "".join(f"[longshore.{group}]\ncrash = acme_crash\n" for group in GROUPS)
        (info / "entry_points.txt").write_text(entries)
        (site / "acme_crash.py").write_text(textwrap.dedent(PLUGIN.format(where=where)))
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, "acme_crash", raising=False)
        return {key: {"type": "crash"} for key in ("driver", "guest", "network", "secrets")}

    return install


@pytest.mark.parametrize("where", [*BEFORE_RUNNING, "wait"])
async def test_a_crash_ends_the_container_with_the_reason(crash_at, start_worker, where) -> None:
    settings = crash_at(where)
    async with (
        scripted_server(speaks_longshore=True) as server,
        start_worker(server.port, **settings),
    ):
        await server.until(lambda: server.registered)
        description = sandbox("s1")
        description.secret_names.append("KEY")
        server.add(description)
        await server.until(lambda: server.terminated())
        details = [d for beat in server.beats for d in beat.longshore.containers]
        message = next(d.error_message for d in details if d.error_message)
        assert f"plugin crash (acme 2.1): {where} raised ZeroDivisionError: {where}" in message
        await still_lives(server)


@pytest.mark.parametrize("where", AFTERWARDS)
async def test_a_crash_on_the_way_out_does_not_keep_the_container(
    crash_at, start_worker, where
) -> None:
    settings = crash_at(where)
    async with scripted_server() as server, start_worker(server.port, **settings):
        await server.until(lambda: server.registered)
        server.add(sandbox("s1"))
        await server.until(lambda: server.started())
        server.remove("s1")
        await server.until(lambda: server.terminated())
        await still_lives(server)


async def still_lives(server) -> None:
    seq = server.remove("unknown")
    await server.until(lambda: server.acks[-1:] == [seq])
