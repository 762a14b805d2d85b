"""Running programs in a container, as its user does: through the guest that the driver carries."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
from anyio import to_thread

from longshore_core._errors import GuestError, LongshoreError
from longshore_core.testing.bench import Bench, every
from longshore_core.testing.expect import Broken, equal, expect, refused
from longshore_core.testing.host import Seen, leaks
from longshore_core.testing.law import SOCKETS, Group, Law, laws_in
from longshore_core.testing.session import Finished, Sandbox, held_sandbox, open_sandbox

EXEC: Final[Group[Bench]] = Group("exec", requires=(SOCKETS,))

_MIB: Final = 1 << 20


@EXEC.law("E0")
async def nothing_runs_before_the_guest_is_released(bench: Bench) -> None:
    guest = await bench.guest()
    sandbox = await held_sandbox(bench.driver, guest, bench.spec("c", "exit 9", sockets=False))
    session = await guest.connect(sandbox.reach)
    await session.aclose()
    answer = await sandbox.ask("POST", "processes", b'{"command": "true"}')
    expect(answer.status >= 400, f"a program was started before its time: {answer.status}")


@EXEC.law("E0.2")
async def who_does_not_have_the_token_is_turned_away(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    sandbox.token = "another"
    for method, path in (("POST", "processes"), ("GET", "processes"), ("GET", "files?path=/")):
        answer = await sandbox.ask(method, path, b'{"command": "true"}')
        equal(answer.status, 401, f"the status of {method} {path} with another token")


@EXEC.law("E1", traced=True)
async def a_program_ends_with_its_code_and_both_its_streams(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    done = await sh(sandbox, "echo out; echo err >&2; exit 43")
    equal((done.code, done.stdout, done.stderr), (43, b"out\n", b"err\n"), "what came of it")
    done = await sh(sandbox, "kill -KILL $$")
    equal((done.code, done.signal), (None, 9), "the end of one that kills itself")


@EXEC.law("E2")
async def output_comes_while_the_program_runs(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    gate = f"{bench.inside}/gate"
    script = f"echo first; until [ -e {gate} ]; do sleep 0.02; done; echo second"
    seen = list[str]()
    request = _command("sh", "-c", script)
    async with sandbox.call("POST", "processes/run", request) as call:
        await call.begin()
        async for event in call.events():
            if line := event.get("line"):
                seen.append(line)
                await sandbox.write(gate, b"")
    equal(seen, ["first", "second"], "what came, the second only after the first was seen")


@EXEC.law("E3", traced=True)
async def without_a_terminal_there_is_none(bench: Bench) -> None:
    done = await sh(await bench.sandbox(), "[ -t 0 ] || [ -t 1 ] || [ -t 2 ]; echo $?")
    equal(done.stdout.strip(), b"1", "the answer of a program that looks for a terminal")


@EXEC.law("E4")
async def what_is_fed_to_a_program_it_reads(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    pid = await sandbox.spawn("cat", stdin_mode="pipe")
    for piece in (b"one\n", b"two\n", b"no newline"):
        equal((await sandbox.feed(pid, piece)).status, 204, "the status of feeding it")
    await sandbox.ask("POST", f"processes/{pid}/stdin/close")
    info = await sandbox.ended(pid)
    equal(info["exit_code"], 0, "its code")
    equal(await sandbox.output(pid), b"one\ntwo\nno newline", "what it has read")


@EXEC.law("E5")
async def a_signal_reaches_a_program_and_is_told_from_a_code(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    for number in (15, 9, 10):
        pid = await sandbox.spawn("sleep", "1000")
        body = f'{{"signal": {number}}}'.encode()
        equal((await sandbox.ask("POST", f"processes/{pid}/signal", body)).status, 200, "status")
        info = await sandbox.ended(pid)
        equal((info["exit_code"], info["signal"]), (None, number), "how it ended")


@EXEC.law("E6")
async def a_command_that_is_not_there_is_refused_by_name(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    answer = await sandbox.ask("POST", "processes", _command("/nonexistent/program"))
    equal((answer.status, answer.code), (400, "SPAWN_FAILED"), "the answer")
    answer = await sandbox.ask("POST", "processes", _command("sh", working_dir="/nonexistent"))
    equal((answer.status, answer.code), (400, "SPAWN_FAILED"), "the answer, without its directory")


@EXEC.law("E9")
async def a_child_in_the_background_does_not_hold_up_the_end(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    began = time.monotonic()
    done = await sh(sandbox, "sleep 600 & echo started; exit 3")
    equal((done.code, done.stdout), (3, b"started\n"), "what came of it")
    took = time.monotonic() - began
    expect(took < 5, f"the end came after {took:.1f} s")


@EXEC.law("E10", seconds=120)
async def every_byte_arrives_and_streams_are_not_mixed(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    size = bench.many(4, 64) * _MIB
    source = f"{bench.inside}/bytes"
    data = await to_thread.run_sync(bench.random.randbytes, size)
    equal((await sandbox.write(source, data)).status, 204, "the status of bringing them in")
    done = await sh(
        sandbox,
        f"cat {source}; echo complaint >&2",
    )
    wanted, got = (hashlib.sha256(each).hexdigest() for each in (data, done.stdout))
    equal((len(done.stdout), got), (size, wanted), "length and hash of what came")
    equal(done.stderr, b"complaint\n", "the other stream")


@EXEC.law("E11", traced=True)
async def bytes_that_are_no_text_arrive_as_they_are(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    odd = {
        "invalid": bytes(range(256)),
        "split": "é€😀".encode() * 700,
        "long": b"x" * _MIB,
        "bare": b"no end",
        "returns": b"a\r\nb\rc\n\n\n",
    }
    for name, data in odd.items():
        file = f"{bench.inside}/{name}"
        await sandbox.write(file, data)
        done = await sandbox.run("cat", file)
        expect(done.stdout == data, f"{name}: {len(data)} bytes became {len(done.stdout)} others")


@EXEC.law("E12", seconds=90)
async def a_slow_reader_loses_nothing_and_holds_up_nobody(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    count = bench.many(40_000, 400_000)
    pid = await sandbox.spawn("sh", "-c", f"seq {count}; echo done >&2")
    async with sandbox.call("GET", f"processes/{pid}/stdout/follow") as slow:
        await slow.begin()
        with anyio.fail_after(60):
            # Nobody reads from the one; the program and another reader get to their end.
            info = await sandbox.ended(pid)
        equal(info["exit_code"], 0, "its code, with a reader that does not read")
        lines = [event["line"] async for event in slow.events() if "line" in event]
    equal((len(lines), lines[-1]), (count, str(count)), "lines for the slow reader, and the last")


@EXEC.law("E13")
async def output_can_be_read_on_from_any_byte_and_after_the_end(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    done = await sh(sandbox, "seq 5000")
    for offset in (0, 1, 17, len(done.stdout) // 2, len(done.stdout) - 1, len(done.stdout)):
        rest = await sandbox.output(done.pid, offset=offset)
        expect(rest == done.stdout[offset:], f"from byte {offset} on, it is not what it was")


@EXEC.law("E14", seconds=60)
async def a_timeout_ends_all_that_the_program_has_started(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    before = await to_thread.run_sync(bench.view.look)
    script = (
        "echo partial; setsid sleep 1000 & sleep 1000 & (sleep 1000 &); "
        "trap '' TERM; sleep 1000; sleep 1000"
    )
    done = await sandbox.run("sh", "-c", script, timeout=0.5)
    equal((done.timed_out, done.stdout), (True, b"partial\n"), "the verdict and what it wrote")
    await _vanish(bench, before, "after the timeout")


@EXEC.law("E14.2", seconds=60)
async def killing_a_program_ends_all_that_it_has_started(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    before = await to_thread.run_sync(bench.view.look)
    pid = await sandbox.spawn("sh", "-c", "sleep 1000 & (sleep 1000 &) ; echo up; sleep 1000")
    async with sandbox.call("GET", f"processes/{pid}/stdout/follow") as call:
        await call.begin()
        await anext(aiter(call.events()))
    equal((await sandbox.ask("DELETE", f"processes/{pid}")).status, 204, "the status of killing it")
    await _vanish(bench, before, "after it was killed")


@EXEC.law("E15")
async def who_runs_a_program_hears_within_two_seconds_that_the_container_is_gone(
    bench: Bench,
) -> None:
    sandbox = await bench.sandbox()
    runs, heard = anyio.Event(), anyio.Event()

    async def run() -> None:
        request = _command("sh", "-c", "echo up; sleep 1000")
        try:
            async with sandbox.call("POST", "processes/run", request) as call:
                await call.begin()
                async for _ in call.events():
                    runs.set()
        except LongshoreError:
            heard.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await runs.wait()
        with anyio.move_on_after(2) as scope:
            await bench.driver.remove(sandbox.handle)
            await heard.wait()
        expect(not scope.cancelled_caught, "the caller had heard of no error after two seconds")
        tasks.cancel_scope.cancel()
    await refused(sandbox.run("true"), "running a program in what is gone", GuestError)


@EXEC.law("E16", seconds=60)
async def megabytes_of_input_arrive_and_its_end_is_seen(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    data = bench.random.randbytes(10 * _MIB)
    pid = await sandbox.spawn("sha256sum", stdin_mode="pipe")
    await sandbox.feed(pid, data)
    await sandbox.ask("POST", f"processes/{pid}/stdin/close")
    await sandbox.ended(pid)
    digest = (await sandbox.output(pid)).split()[0].decode()
    equal(digest, hashlib.sha256(data).hexdigest(), "the hash of what arrived")
    answer = await sandbox.feed(pid, b"late")
    equal((answer.status, answer.code), (400, "STDIN_NOT_WRITABLE"), "feeding it after the end")


@EXEC.law("E16.2", traced=True)
async def a_program_without_input_finds_its_end_at_once(bench: Bench) -> None:
    done = await (await bench.sandbox()).run("cat", timeout=10)
    equal((done.code, done.stdout, done.timed_out), (0, b"", False), "the end of a `cat`")


@EXEC.law("E17")
async def environment_and_directory_are_as_asked(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    env = {"COLOUR": "deep green", "EMPTY": "", "ODD": "a=b\n'\"$x"}
    script = 'printf "%s|%s|%s|" "$COLOUR" "$EMPTY" "$ODD"; pwd'
    done = await sandbox.run("sh", "-c", script, env=env, working_dir="/")
    equal(done.stdout, b"deep green||a=b\n'\"$x|/\n", "what a program sees of both")


@EXEC.law("E17.2")
async def a_secret_shows_in_no_argument_list_and_in_no_description(bench: Bench) -> None:
    secret = f"hush-{bench.mark}"
    spec = bench.spec("c", "exit 9", sockets=False)
    sandbox = await open_sandbox(bench.driver, await bench.guest(), spec, CODE=secret)
    done = await sh(sandbox, 'printf %s "$CODE" | sha256sum')
    digest = hashlib.sha256(secret.encode()).hexdigest()
    equal(done.stdout[:64].decode(), digest, "the hash of the secret that a program sees")
    lines = await to_thread.run_sync(_argument_lists)
    expect(not [each for each in lines if secret.encode() in each], "it shows in a process list")
    shown = repr(await bench.driver.survey())
    expect(secret not in shown, "it shows in the survey")
    held = [str(file) for file in (bench.root / "state").rglob("*") if _holds(str(file), secret)]
    expect(not held, f"it is written in {', '.join(held)}")


@EXEC.law("E17.3")
async def a_program_runs_as_the_user_asked_for_or_not_at_all(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    own = (await sandbox.run("id", "-u")).stdout.decode().strip()
    done = await sandbox.run("id", "-u", user=own)
    equal(done.stdout.decode().strip(), own, "who runs, when the sandbox's own user is asked for")
    other = "65534" if own != "65534" else "0"
    try:
        done = await sandbox.run("id", "-u", user=other)
    except GuestError:
        return  # refused by name
    equal(done.stdout.decode().strip(), other, "who runs, when another user is asked for")


@EXEC.law("E18", traced=True)
async def arguments_arrive_as_they_are_without_a_shell(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    words = ("two words", "", "$HOME", "*", "'\"\\", "line\nbreak", "ünï", "--", "-n")
    done = await sandbox.run("printf", "%s|", *words)
    equal(done.stdout.decode(), "".join(f"{word}|" for word in words), "what printf was given")


@EXEC.law("E19", seconds=150)
async def many_programs_at_once_and_many_in_a_row(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    count = bench.many(24, 200)
    calls = [partial(sandbox.run, "sh", "-c", f"echo {n}; exit {n % 7}") for n in range(count)]
    answers = await every(list[Callable[[], object]](calls))
    wanted = [(n % 7, f"{n}\n".encode()) for n in range(count)]
    got = [(a.code, a.stdout) if isinstance(a, Finished) else a for a in answers]
    equal(got, wanted, "what came of all")
    before = await to_thread.run_sync(bench.view.look)
    for _ in range(bench.many(40, 1000)):
        equal((await sandbox.run("true")).code, 0, "the code of `true`")
    left = await bench.left_since(before, "descriptor")
    expect(not left, f"descriptors have grown: {', '.join(left)}")


async def sh(sandbox: Sandbox, script: str) -> Finished:
    """Run a script to its end."""
    return await sandbox.run("sh", "-c", script)


def _command(*argv: str, **rest: str) -> bytes:
    return json.dumps({"command": argv[0], "args": list(argv[1:]), **rest}).encode()


def _argument_lists() -> list[bytes]:
    found = list[bytes]()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                found.append(file.read())
        except OSError:
            continue  # it has ended
    return found


def _holds(path: str, text: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return text.encode() in file.read()


async def _vanish(bench: Bench, before: Seen, when: str) -> None:
    left = tuple[str, ...]()
    with anyio.move_on_after(5):
        while True:
            after = await to_thread.run_sync(bench.view.look)
            left = tuple(e for e in leaks(before, after) if e.startswith("process"))
            if not left:
                return
            await anyio.sleep(0.02)
    raise Broken(f"still running {when}: {', '.join(left)}")


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
