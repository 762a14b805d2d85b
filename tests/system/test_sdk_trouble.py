"""Somebody is in the middle of something, and a sandbox, its worker or the proxy goes.

    LONGSHORE_SDK_TRIALS=2000 make test ARGS=tests/system/test_sdk_trouble.py

Whoever waits is told within two seconds, by an error with a type, whatever it was that he did. What
is counted are commands that run while something is killed; others do other things beside them.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice, repeat

import httpx
import longshore
import pytest
from longshore import Sandbox, SandboxError
from longshore._carrier import finish
from longshore._http import BlockingCarrier
from longshore._session import Session

from tests.machine import fair_time
from tests.system.harness import System, system, until
from tests.system.test_sdk import first_process

TRIALS = int(
    os.environ.get("LONGSHORE_SDK_TRIALS") or (200 if os.environ.get("LONGSHORE_CI") else 24)
)
pytestmark = [pytest.mark.alone, pytest.mark.timeout(120 + 6 * TRIALS)]
SOON = 2.0
TOGETHER = 5
"""So many commands run when a part goes that all of them need."""
ROUNDS = -(-TRIALS // 4 // TOGETHER)
SILENCE = 15.0
"""Seconds after which one who only stays silent is given up."""
ENDED = (longshore.SandboxTerminatedError, longshore.SandboxNotFoundError)
TOLD = (*ENDED, longshore.SandboxConnectionError)
"""In time comes first: a busy server may not know why before that."""
SEED = int(os.environ.get("LONGSHORE_SDK_SEED") or 1)


def run(sandbox: Sandbox) -> None:
    while True:
        sandbox.run("head -c 100000 /dev/zero; sleep 0.02", check=True)


def wait_long(sandbox: Sandbox) -> None:
    sandbox.run("sleep 60", check=True)


def follow(sandbox: Sandbox) -> None:
    for chunk in sandbox.start("yes"):
        assert chunk.data


def wait(sandbox: Sandbox) -> None:
    sandbox.start("sleep 60").wait()


def feed(sandbox: Sandbox) -> None:
    sandbox.start("cat > /dev/null", stdin=True).write(repeat(b"x" * 1000))


def upload(sandbox: Sandbox) -> None:
    sandbox.files.write("endless", repeat(b"x" * 1000))


def look_on(sandbox: Sandbox) -> None:
    with sandbox.terminal(["sleep", "60"]) as terminal:
        terminal.wait()


def type_on(sandbox: Sandbox) -> None:
    with sandbox.terminal(["cat"]) as terminal:
        while True:
            terminal.write("hello\n")
            terminal.read()


def watch(sandbox: Sandbox) -> None:
    for change in sandbox.files.watch("."):
        assert change


Act = Callable[[Sandbox], None]
COMMANDS: tuple[Act, ...] = (run, wait_long, follow, wait, feed)
OTHERS: tuple[Act, ...] = (upload, look_on, type_on, watch)


@dataclass
class Actor:
    """Does something in a thread, until it cannot be done."""

    act: Callable[[Sandbox], None]
    sandbox: Sandbox
    error: BaseException | None = None
    told: float = 0.0

    def start(self) -> Actor:
        self.thread = threading.Thread(target=self._act, name=self.act.__name__)
        self.thread.start()
        return self

    def _act(self) -> None:
        try:
            self.act(self.sandbox)
        except BaseException as exc:  # noqa: BLE001  # whatever it is, another thread checks it
            self.error = exc
        self.told = fair_time()

    def join(self) -> None:
        self.thread.join(40)
        assert not self.thread.is_alive(), f"{self.act.__name__} hangs"

    def check(self, gone: float, *kinds: type[SandboxError], within: float = SOON) -> None:
        self.join()
        assert isinstance(self.error, kinds), f"{self.act.__name__}: {self.error!r}"
        self.check_told(gone, within)

    def check_told(self, gone: float, within: float = SOON) -> None:
        late = self.told - gone
        assert late < within, f"{self.act.__name__} is told after {late:.2f} s: {self.error!r}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with (
        system(tmp_path_factory.mktemp("trouble")) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("LONGSHORE_API_URL", f"http://127.0.0.1:{started.http_port}")
        started.start_all()
        yield started


def begin(sandbox: Sandbox, *commands: Act, others: Iterable[Act] = ()) -> list[Actor]:
    """Returns when that many commands run, or have run."""
    actors = [Actor(act, sandbox).start() for act in (*commands, *others)]
    until(lambda: len(sandbox.processes()) >= len(commands), "the commands run")
    return actors


def test_who_uses_a_sandbox_that_is_killed_is_told_in_time(whole: System) -> None:
    moments = random.Random(SEED)
    others = cycle(OTHERS)
    for act in islice(cycle(COMMANDS), TRIALS // 2):
        with Sandbox.create() as sandbox:
            actors = begin(sandbox, act, others=[next(others)])
            time.sleep(moments.uniform(0, 0.3))
            gone = fair_time()
            os.kill(first_process(whole, sandbox), signal.SIGKILL)
            for actor in actors:
                actor.check(gone, *TOLD)


def test_who_is_about_to_use_a_sandbox_that_is_killed_is_told_in_time(whole: System) -> None:
    for act in (*COMMANDS, *OTHERS):
        with Sandbox.create() as sandbox:
            first = first_process(whole, sandbox)
            actor = Actor(act, sandbox).start()
            gone = fair_time()
            os.kill(first, signal.SIGKILL)
            actor.check(gone, *TOLD)


def test_who_uses_sandboxes_whose_proxy_is_killed_is_told_in_time(whole: System) -> None:
    moments = random.Random(SEED)
    for _ in range(ROUNDS):
        with Sandbox.create() as sandbox:
            actors = begin(sandbox, *islice(cycle(COMMANDS), TOGETHER), others=OTHERS)
            time.sleep(moments.uniform(0, 0.5))
            gone = fair_time()
            whole.stop("proxy", signal.SIGKILL)
            try:
                for actor in actors:
                    actor.check(gone, SandboxError)
            finally:
                whole.start("proxy")
                whole.wait_ready()


def test_who_follows_commands_through_a_proxy_that_only_stays_silent_is_told(
    whole: System,
) -> None:
    proxy = whole.running["proxy"]
    with Sandbox.create() as sandbox:
        actors = begin(sandbox, wait_long, follow, wait)
        gone = fair_time()
        proxy.send_signal(signal.SIGSTOP)
        try:
            for actor in actors:
                # What was on its way when it went silent still comes.
                actor.check(gone, SandboxError, within=SILENCE + 2 * SOON)
        finally:
            proxy.send_signal(signal.SIGCONT)


def test_who_uses_sandboxes_whose_worker_is_killed_does_not_notice(whole: System) -> None:
    moments = random.Random(SEED)
    for _ in range(ROUNDS):
        with Sandbox.create() as sandbox:
            actors = begin(sandbox, *[_brief] * TOGETHER)
            time.sleep(moments.uniform(0, 0.3))
            whole.stop("worker", signal.SIGKILL)
            try:
                for actor in actors:
                    actor.join()
                    assert actor.error is None, repr(actor.error)
            finally:
                whole.start("worker")
                whole.wait_ready()


def _brief(sandbox: Sandbox) -> None:
    """An exec of half a second, and of as much as that again if the worker's end is in there."""
    began = fair_time()
    result = sandbox.run("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done", timeout=10)
    assert (result.text, result.exit_code) == ("1\n2\n3\n4\n5\n", 0)
    assert fair_time() - began < 0.5 + SOON


def test_who_uses_a_sandbox_that_is_deleted_is_told_in_time(whole: System) -> None:
    for act in (*COMMANDS, *OTHERS):
        with Sandbox.create() as sandbox:
            actor = Actor(act, sandbox).start()
            time.sleep(0.2)
            gone = fair_time()
            Sandbox.delete(sandbox.id)
            actor.join()
            # Its processes are ended before it is, and mostly there is time to tell.
            assert actor.error is None or isinstance(actor.error, SandboxError)
            actor.check_told(gone)


class Forgetful(httpx.HTTPTransport):
    """The way that there is, on which the first answers to one kind of request are lost."""

    def __init__(self, path: str, losses: int) -> None:
        super().__init__()
        self._path = path
        self._losses = losses

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if request.method == "POST" and request.url.path == self._path and self._losses:
            self._losses -= 1
            answer.close()
            raise httpx.ReadError("cut off")
        return answer


@pytest.mark.parametrize("losses", [1, 3])
def test_a_command_of_which_the_answer_is_lost_runs_once(whole: System, losses: int) -> None:
    with Sandbox.create() as made:
        made.files.write("log", b"")
        for path, act in (("/processes/frames", Sandbox.run), ("/processes", _to_its_end)):
            carrier = BlockingCarrier(Forgetful(f"/api/v1{path}", losses))
            attached = Session.attach(carrier, made.id, longshore.Endpoint())
            with Sandbox(finish(attached)) as sandbox:
                assert act(sandbox, "echo ran >> log; echo told").text == "told\n"
        assert made.files.read("log") == b"ran\n" * 2
        assert len(made.processes()) == 2


def test_a_restart_or_a_terminal_of_which_the_answer_is_lost_is_one(whole: System) -> None:
    with Sandbox.create() as made:
        made.files.write("log", b"")
        first = made.start("echo ran >> log")
        first.wait()
        for path in (f"/processes/{first.pid}/restart", "/pty"):
            carrier = BlockingCarrier(Forgetful(f"/api/v1{path}", 2))
            attached = Session.attach(carrier, made.id, longshore.Endpoint())
            with Sandbox(finish(attached)) as sandbox:
                if path == "/pty":
                    with sandbox.terminal("echo ran >> log; echo told") as terminal:
                        assert b"".join(terminal) == b"told\r\n"
                else:
                    sandbox.process(first.pid).restart().wait()
        assert made.files.read("log") == b"ran\n" * 3


def _to_its_end(sandbox: Sandbox, command: str) -> longshore.Result:
    return sandbox.start(command).result()
