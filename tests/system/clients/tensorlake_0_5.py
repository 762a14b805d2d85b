"""What a user of Tensorlake's client 0.5 does with a sandbox. Run in an environment of its own."""

from __future__ import annotations

import socket
import time
from typing import Any

from tensorlake.sandbox import (
    RemoteAPIError,
    Sandbox,
    SandboxClient,
    SandboxNotFoundError,
    StdinMode,
)


def raised(error: type[Exception], call: Any) -> Any:
    try:
        call()
    except error as exc:
        return exc
    raise AssertionError(f"no {error.__name__}")


def run(sandbox: Sandbox) -> None:
    assert sandbox.health().healthy
    result = sandbox.run("sh", ["-c", "echo out; echo err >&2; exit 3"])
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out", "err")

    data = bytes(range(256)) * 40
    path = f"/tmp/{sandbox.sandbox_id}/a file"
    sandbox.write_file(path, data)
    assert bytes(sandbox.read_file(path).value) == data
    (entry,) = sandbox.list_directory(f"/tmp/{sandbox.sandbox_id}").entries
    assert (entry.name, entry.size, entry.is_dir) == ("a file", len(data), False)
    sandbox.delete_file(path)

    cat = sandbox.start_process("sh", ["-c", "cat; echo end >&2"], stdin_mode=StdinMode.PIPE)
    sandbox.write_stdin(cat.pid, b"a line\n")
    sandbox.close_stdin(cat.pid)
    assert [event.line for event in sandbox.follow_stdout(cat.pid)] == ["a line"]
    assert sandbox.get_output(cat.pid).line_count == 2


def terminal(sandbox: Sandbox) -> None:
    seen: list[bytes] = []
    pty = sandbox.create_pty(
        "sh", ["-c", "stty size; read x; echo [$x]; exit 5"], rows=30, cols=100, on_data=seen.append
    )
    pty.send_input("hello\n")
    assert pty.wait(timeout=20) == 5
    shown = b"".join(seen)
    assert b"30 100" in shown, shown
    assert b"[hello]" in shown, shown


def tunnel(sandbox: Sandbox) -> None:
    server = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], "
        "flush=True); c, _ = s.accept(); c.sendall(c.recv(100).upper()); c.close()"
    )
    process = sandbox.start_process("python3", ["-c", server])
    # Its `follow_stdout` hands nothing out before the process has ended.
    deadline = time.monotonic() + 20
    while not (lines := sandbox.get_stdout(process.pid).lines):
        assert time.monotonic() < deadline, "the server says no port"
        time.sleep(0.05)
    port = int(lines[0])
    with (
        sandbox.create_tunnel(port, local_port=0) as opened,
        socket.create_connection((opened.local_host, opened.local_port), 20) as connection,
    ):
        connection.sendall(b"through")
        assert connection.recv(100) == b"THROUGH"


def main() -> None:
    sandbox = Sandbox.create(image="python:3.11-slim", cpus=0.5, memory_mb=256, name="box")
    info = sandbox.info()
    assert (info.image, info.resources.memory_mb) == ("python:3.11-slim", 256)
    assert info.name == "box"
    client = SandboxClient()
    assert sandbox.sandbox_id in [one.sandbox_id for one in client.list()]
    run(sandbox)
    sandbox.update(name="crate")
    run(Sandbox.connect("crate"))
    terminal(sandbox)
    tunnel(sandbox)
    assert raised(RemoteAPIError, sandbox.suspend).status_code == 501
    sandbox.terminate()
    raised(SandboxNotFoundError, lambda: client.get("no-such-sandbox"))


if __name__ == "__main__":
    main()
