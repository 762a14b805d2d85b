"""The supervisor of `longshore up`, over small real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from longshore._supervisor import Program, Screen, Supervisor


class Stage:
    """Programs that say what they do into one file, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.journal.touch()

    def program(self, name: str, body: str, *, stop_seconds: float = 10) -> Program:
        """`body` may `note(word)`; the program is ready once it has noted something."""
        source = f"def note(word): print(word, file=open({str(self.journal)!r}, 'a'), flush=True)\n"

        async def ready() -> bool:
            return f"{name} up" in self.notes()

        return Program(
            name=name,
            argv=(sys.executable, "-S", "-c", source + body),
            ready=ready,
            stop_seconds=stop_seconds,
        )

    def obedient(self, name: str) -> Program:
        body = "import signal, sys\n"
        body += f"def stop(*_): note('{name} down'); sys.exit(0)\n"
        body += f"signal.signal(signal.SIGTERM, stop); note('{name} up'); signal.pause()"
        return self.program(name, body)

    def notes(self) -> list[str]:
        return self.journal.read_text().splitlines()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def play(*programs: Program, when_ready: Callable[[], None], seconds: float = 20) -> int:
    supervisor = Supervisor(programs, Screen([program.name for program in programs]))
    with anyio.fail_after(60):
        return await supervisor.run(when_ready, seconds)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def test_an_interrupt_stops_all_in_order_and_is_a_success(stage: Stage) -> None:
    names = ["first", "second", "third"]
    assert await play(*map(stage.obedient, names), when_ready=interrupt) == 0
    assert sorted(stage.notes()[:3]) == ["first up", "second up", "third up"]
    assert stage.notes()[3:] == ["first down", "second down", "third down"]


async def test_lines_come_out_under_the_name_of_who_said_them(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    talker = stage.program(
        "talker",
        "import sys, signal\nprint('one\\ntwo', flush=True); sys.stderr.write('three')\n"
        "sys.stderr.flush(); note('talker up'); signal.pause()",
    )
    assert await play(talker, stage.obedient("x"), when_ready=interrupt) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "|" in line] == [
        "talker | one", "talker | two", "talker | three",
    ]  # fmt: skip


async def test_a_child_that_dies_is_started_again(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    mortal = stage.program(
        "mortal",
        "import os, signal\n"
        f"first = not os.path.exists({str(stage.folder / 'died')!r})\n"
        f"open({str(stage.folder / 'died')!r}, 'w').close()\n"
        "if first: os.kill(os.getpid(), signal.SIGKILL)\n"
        "note('mortal up'); signal.pause()",
    )
    assert await play(mortal, when_ready=interrupt) == 0
    assert "mortal was killed by SIGKILL; starting it again in 0.5 s" in capsys.readouterr().out


async def test_a_refused_configuration_ends_everything_with_its_message(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = stage.program(
        "worker", "import sys; print('error: driver.type: no such plugin'); sys.exit(2)"
    )
    status = await play(refusing, stage.obedient("other"), when_ready=lambda: None)
    assert status == 2
    assert capsys.readouterr().err == "error: worker: driver.type: no such plugin\n"


async def test_what_is_not_ready_in_time_is_named(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = stage.program("slow", "import signal; signal.pause()")
    assert await play(slow, when_ready=lambda: None, seconds=0.3) == 1
    assert "slow was not ready within 0.3 s" in capsys.readouterr().err


async def test_one_that_does_not_stop_is_killed_with_its_whole_group(stage: Stage) -> None:
    stubborn = stage.program(
        "stubborn",
        "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = os.fork()\n"
        "if other: note(f'pid {other}'); note('stubborn up')\n"
        "while True: signal.pause()",
        stop_seconds=0.3,
    )
    assert await play(stubborn, when_ready=interrupt) == 0
    (pid,) = [int(note.split()[1]) for note in stage.notes() if note.startswith("pid")]
    await wait_gone(pid)


async def test_a_second_interrupt_hurries(stage: Stage) -> None:
    stubborn = stage.program(
        "stubborn",
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGINT))\n"
        "note('stubborn up')\nwhile True: signal.pause()",
        stop_seconds=3600,
    )
    assert await play(stubborn, when_ready=interrupt) == 0


async def test_a_full_disk_below_the_output_ends_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert await play(stage.obedient("one"), when_ready=interrupt) == 0
        monkeypatch.undo()
        # The rest that could not be written, or closing the file complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert stage.notes() == ["one up", "one down"]


def test_children_see_their_supervisor_go_however_it_goes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "seen")
    body = "import sys; print('up', flush=True); sys.stdin.read(); "
    body += "open(sys.argv[1], 'w').write('gone')"
    source = f"""
import anyio, sys
from longshore._supervisor import Program, Screen, Supervisor
async def ready(): return True
program = Program(name="x", argv=(sys.executable, "-c", {body!r}, sys.argv[1]), ready=ready,
                  stop_seconds=1)
anyio.run(Supervisor([program], Screen(["x"])).run, lambda: None, 10)
"""
    with subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path / "seen")], stdout=subprocess.PIPE
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"x | up\n"
        supervisor.kill()
    # Whoever opens a pipe for reading waits for its writer.
    assert (tmp_path / "seen").read_text() == "gone"


async def wait_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with anyio.fail_after(10):
        await anyio.wait_readable(descriptor)
    os.close(descriptor)
