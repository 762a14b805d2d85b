from __future__ import annotations

import importlib.metadata
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import longshore_daemon
import pytest
from longshore_core import (
    ContainerId,
    ContainerSpec,
    Facts,
    Gap,
    GuestError,
    Host,
    Launch,
    TcpReach,
    Transition,
    Tree,
    UnixReach,
    UnsupportedCapability,
)
from longshore_daemon import Config, Patience, PortableRuntime, SandboxDaemon, open_daemon
from pydantic import ValidationError

from tests.machine import fair_time

SPEC = ContainerSpec(
    id=ContainerId("c"),
    image="alpine",
    argv=("ignored",),
    env={"A": "b", "LD_PRELOAD": "/x.so"},
    trees=(Tree(source="/a", target="/b", digest="d"),),
)


def no_transitions() -> AbstractAsyncContextManager[AsyncIterator[Transition | Gap]]:
    raise AssertionError("nobody asked for them")


def test_the_plugin_is_offered_under_its_name() -> None:
    (entry,) = importlib.metadata.entry_points(group="longshore.guests", name="sandbox_daemon")
    assert entry.value == "longshore_daemon"
    plug = longshore_daemon.longshore_guest()
    assert (plug.config, plug.open) == (Config, open_daemon)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Config.model_validate({"start_timeout": 3})


class TestLaunch:
    def test_it_is_pure(self, guest: SandboxDaemon) -> None:
        assert guest.launch(SPEC, Facts()) == guest.launch(SPEC, Facts())

    def test_the_runtime_is_mounted(self, guest: SandboxDaemon, runtime: PortableRuntime) -> None:
        launched = guest.launch(SPEC, Facts())
        target = "/.longshore/runtime"
        tree = Tree(source=str(runtime.path), target=target, digest=runtime.digest)
        assert launched.trees == (*SPEC.trees, tree)
        assert launched.sockets is True
        assert launched.argv == (
            f"{target}/lib/{runtime.loader}",
            "--inhibit-cache",
            "--library-path",
            f"{target}/lib",
            f"{target}/bin/python3",
            *("-I", "-S", "-X", "utf8"),
            f"{target}/daemon/start.pyc",
        )

    def test_without_mounts_it_runs_from_its_source(
        self, guest: SandboxDaemon, runtime: PortableRuntime
    ) -> None:
        launched = guest.launch(SPEC, Facts(mounts=False))
        assert launched.argv[0] == f"{runtime.path}/lib/{runtime.loader}"
        assert "/.longshore" not in " ".join(launched.argv)

    def test_what_lets_code_in_is_blanked_and_conveyed(self, guest: SandboxDaemon) -> None:
        env = guest.launch(SPEC, Facts()).env
        assert env["A"] == "b"
        assert env["LD_PRELOAD"] == env["LD_AUDIT"] == env["GLIBC_TUNABLES"] == ""
        assert env["LONGSHORE_RESTORE_LD_PRELOAD"] == "/x.so"
        assert "LONGSHORE_RESTORE_LD_AUDIT" not in env
        assert set(env["LONGSHORE_BLANKED"].split()) <= set(env)

    def test_the_rest_stays_as_it_is(self, guest: SandboxDaemon) -> None:
        launched = guest.launch(SPEC, Facts())
        assert (launched.id, launched.image, launched.limits) == (SPEC.id, "alpine", SPEC.limits)


class TestSession:
    async def test_a_guest_is_released_and_stopped(self, guest: SandboxDaemon, held: Any) -> None:
        session = await guest.connect(UnixReach(str(held.sockets)))
        launch = Launch(token="the-token", env={"X": "y"}, entrypoint=("sh", "-c", "echo $X"))
        for _ in range(2):
            await session.go(launch)
        assert held.http.get("info").json()["total_processes"] == 1
        await session.health()
        await session.stop()
        assert held.process.wait(10) == 0
        with pytest.raises(GuestError):
            await session.health()
        await session.aclose()

    async def test_a_refusal_is_an_error_that_says_why(
        self, guest: SandboxDaemon, held: Any
    ) -> None:
        session = await guest.connect(UnixReach(str(held.sockets)))
        await session.go(Launch(token="one"))
        with pytest.raises(GuestError) as caught:
            await session.go(Launch(token="two"))
        assert str(caught.value) == (
            "the guest refused go: the sandbox was released with another token (ALREADY_RELEASED)"
        )

    async def test_connect_waits_for_a_guest_that_starts(
        self, guest: SandboxDaemon, launch: Callable[..., Any]
    ) -> None:
        """The one that is started here is ready by then; its sockets only come late."""
        daemon = launch()
        late = daemon.sockets / "late"
        late.mkdir()
        mover = threading.Timer(
            0.1, lambda: (daemon.sockets / "control.sock").rename(late / "control.sock")
        )
        mover.start()
        began = fair_time()
        await guest.connect(UnixReach(str(late)))
        assert fair_time() - began < 1
        mover.join()

    async def test_a_guest_that_never_starts_is_an_error(
        self, runtime: PortableRuntime, tmp_path: Path
    ) -> None:
        guest = SandboxDaemon(runtime, Patience(start=0.05, call=1, grace=1))
        with pytest.raises(GuestError) as caught:
            await guest.connect(UnixReach(str(tmp_path)))
        assert str(caught.value) == (
            f"the guest did not answer within 0.05 s: no control.sock in {tmp_path}: "
            "No such file or directory"
        )
        assert caught.value.retryable

    async def test_a_guest_that_does_not_answer_is_an_error(
        self, runtime: PortableRuntime, tmp_path: Path
    ) -> None:
        guest = SandboxDaemon(runtime, Patience(start=0.1, call=0.03, grace=1))
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(tmp_path / "control.sock"))
            silent.listen()
            with pytest.raises(GuestError, match=r"did not answer health within 0\.03 s$"):
                await guest.connect(UnixReach(str(tmp_path)))

    async def test_what_is_planted_in_place_of_a_socket_is_an_error_at_once(
        self, guest: SandboxDaemon, tmp_path: Path
    ) -> None:
        (tmp_path / "control.sock").write_text("")
        with pytest.raises(GuestError, match="is not a socket"):
            await guest.connect(UnixReach(str(tmp_path)))

    async def test_other_ways_to_reach_it_are_refused(self, guest: SandboxDaemon) -> None:
        with pytest.raises(UnsupportedCapability):
            await guest.connect(TcpReach("192.0.2.1"))


async def test_opening_the_plugin_assembles_the_runtime(tmp_path: Path) -> None:
    host = Host(
        name="sandbox_daemon",
        owner="w",
        state_dir=tmp_path,
        logger=logging.getLogger("test"),
        transitions=no_transitions,
    )
    async with open_daemon(Config(), host) as guest:
        argv = guest.launch(SPEC, Facts(mounts=False)).argv
        assert isinstance(guest, SandboxDaemon)
    assert Path(argv[0]).is_relative_to(tmp_path / "runtimes")
    assert Path(argv[0]).exists()
