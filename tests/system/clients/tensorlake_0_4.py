"""What a user of Tensorlake's client 0.4 does with a sandbox. Run in an environment of its own."""

from __future__ import annotations

import time
from typing import Any

from tensorlake.sandbox import SandboxClient
from tensorlake.sandbox.exceptions import RemoteAPIError, SandboxNotFoundError
from tensorlake.sandbox.models import ProcessStatus, SandboxStatus, StdinMode

DEADLINE = 30.0


def until(condition: Any, what: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)
    return answer


def raised(error: type[Exception], call: Any) -> Any:
    try:
        call()
    except error as exc:
        return exc
    raise AssertionError(f"no {error.__name__}")


def run(client: SandboxClient, sandbox_id: str) -> None:
    sandbox = client.connect(sandbox_id)
    assert sandbox.health().healthy
    assert sandbox.info().running_processes == 0

    result = sandbox.run("sh", ["-c", "echo out; echo err >&2; exit 3"])
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out", "err")
    result = sandbox.run("sh", ["-c", 'echo "$A $PWD"'], env={"A": "1"}, working_dir="/")
    assert result.stdout == "1 /"

    data = bytes(range(256)) * 40
    sandbox.write_file(f"/tmp/{sandbox_id}/file", data)
    assert sandbox.read_file(f"/tmp/{sandbox_id}/file") == data
    (entry,) = sandbox.list_directory(f"/tmp/{sandbox_id}").entries
    assert (entry.name, entry.size, entry.is_dir) == ("file", len(data), False)
    sandbox.delete_file(f"/tmp/{sandbox_id}/file")

    cat = sandbox.start_process("sh", ["-c", "cat; echo end >&2"], stdin_mode=StdinMode.PIPE)
    sandbox.write_stdin(cat.pid, b"a line\n")
    sandbox.close_stdin(cat.pid)
    assert [event.line for event in sandbox.follow_stdout(cat.pid)] == ["a line"]
    assert {(one.stream, one.line) for one in sandbox.follow_output(cat.pid)} == {
        ("stdout", "a line"),
        ("stderr", "end"),
    }
    assert sandbox.get_stdout(cat.pid).lines == ["a line"]
    assert sandbox.get_stderr(cat.pid).lines == ["end"]
    assert sandbox.get_process(cat.pid).exit_code == 0

    sleep = sandbox.start_process("sleep", ["1000"])
    assert sandbox.send_signal(sleep.pid, 15).success
    ended = until(
        lambda: (
            one if (one := sandbox.get_process(sleep.pid)).status != ProcessStatus.RUNNING else None
        ),
        "the signal ends the process",
    )
    assert (ended.status, ended.signal) == (ProcessStatus.SIGNALED, 15)
    sandbox.kill_process(sandbox.start_process("sleep", ["1000"]).pid)
    assert len(sandbox.list_processes()) >= 4


def main() -> None:
    client = SandboxClient()
    created = client.create(image="python:3.11-slim", cpus=0.5, memory_mb=256, timeout_secs=300)
    running = until(
        lambda: (
            one if (one := client.get(created.sandbox_id)).status == SandboxStatus.RUNNING else None
        ),
        "the sandbox runs",
    )
    assert (running.image, running.resources.memory_mb) == ("python:3.11-slim", 256)
    assert created.sandbox_id in [one.sandbox_id for one in client.list()]

    run(client, created.sandbox_id)

    client.delete(created.sandbox_id)
    assert client.get(created.sandbox_id).status == SandboxStatus.TERMINATED
    raised(SandboxNotFoundError, lambda: client.get("no-such-sandbox"))
    refused = raised(RemoteAPIError, lambda: client.create(image="python:3.11-slim", cpus=-1))
    assert refused.status_code == 422


if __name__ == "__main__":
    main()
