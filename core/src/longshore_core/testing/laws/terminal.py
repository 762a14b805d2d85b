"""Programs with a terminal of their own, through the guest."""

from __future__ import annotations

import json
from typing import Any, Final

from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, eventually, expect
from longshore_core.testing.law import SOCKETS, Group, Law, laws_in
from longshore_core.testing.session import Sandbox

TERMINAL: Final[Group[Bench]] = Group("exec", requires=(SOCKETS,))


@TERMINAL.law("E7")
async def a_program_in_a_terminal_has_one_of_the_size_asked_for(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    told = f"{bench.inside}/told"
    script = f"[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && stty size > {told}.part; mv {told}.part {told}"
    await _begun(sandbox, f"mkdir -p {bench.inside}; {script}", rows=33, cols=99)
    await eventually(lambda: _holds(sandbox, told, b"33 99\n"), "a terminal of 33 rows and 99")


@TERMINAL.law("E7.2")
async def of_two_sizes_the_last_holds(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    told = f"{bench.inside}/told"
    script = f"while :; do stty size > {told}.part; mv {told}.part {told}; sleep 0.05; done"
    session = await _begun(sandbox, f"mkdir -p {bench.inside}; {script}", rows=24, cols=80)
    for rows, cols in ((50, 200), (40, 120)):
        body = json.dumps({"rows": rows, "cols": cols}).encode()
        equal((await sandbox.ask("POST", f"pty/{session}/resize", body)).status, 204, "a resize")
    await eventually(lambda: _holds(sandbox, told, b"40 120\n"), "a terminal of 40 rows and 120")


@TERMINAL.law("E8")
async def a_child_in_the_background_does_not_keep_a_terminal_open(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    session = await _begun(sandbox, "sleep 600 & exit 3")

    async def is_over() -> bool:
        return not (await _info(sandbox, session))["is_alive"]

    await eventually(is_over, "the end of a terminal whose program has ended", seconds=5)
    equal((await _info(sandbox, session)).get("exit_code"), 3, "its code")


@TERMINAL.law("E8.2")
async def ending_a_terminal_ends_what_runs_in_it(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    told = f"{bench.inside}/told"
    script = f"mkdir -p {bench.inside}; echo $$ > {told}.part; mv {told}.part {told}; sleep 1000"
    session = await _begun(sandbox, script)

    async def is_there() -> bool:
        return (await sandbox.read(told)).status == 200

    await eventually(is_there, "the program says that it runs")
    pid = (await sandbox.read(told)).body.decode().strip()
    equal((await sandbox.ask("DELETE", f"pty/{session}")).status, 204, "the status of ending it")

    async def is_gone() -> bool:
        return (await sandbox.run("kill", "-0", pid)).code != 0

    await eventually(is_gone, "the end of what ran in the terminal")


async def _begun(sandbox: Sandbox, script: str, **size: int) -> str:
    asked = {"command": "sh", "args": ["-c", script], **size}
    answer = await sandbox.ask("POST", "pty", json.dumps(asked).encode())
    expect(answer.status == 201, f"a terminal was refused: {answer.status} {answer.code}")
    return str(answer.data["session_id"])


async def _info(sandbox: Sandbox, session: str) -> dict[str, Any]:
    return (await sandbox.ask("GET", f"pty/{session}")).data


async def _holds(sandbox: Sandbox, path: str, data: bytes) -> bool:
    return (await sandbox.read(path)).body == data


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
