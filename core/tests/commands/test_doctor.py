"""`longshore doctor`, on whatever machine the tests run."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

from click.testing import CliRunner
from longshore_core._commands import doctor


def test_this_machine_meets_the_hard_requirements() -> None:
    result = CliRunner().invoke(doctor.doctor, ["-o", "json"], catch_exceptions=False)
    findings = {row["subject"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert findings["python"]["state"] == "ok"
    assert {"kernel", "memory", "docker", "podman", "nft", "port 8095"} <= findings.keys()


def test_what_is_absent_says_what_to_do() -> None:
    result = CliRunner().invoke(doctor.doctor, ["-o", "json"], catch_exceptions=False)
    rows = json.loads(result.stdout)
    assert [row for row in rows if row["state"] == "absent" and not row["hint"]] == []


def test_an_engine_is_asked_and_not_just_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
        engine.bind(str(path))
        engine.listen()

        def answer() -> None:
            connection, _ = engine.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert doctor._ping(path) == ""
        thread.join()


def test_an_engine_that_has_gone_is_told_by_what_it_leaves(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
        engine.bind(str(path))
    assert doctor._ping(path) == "Connection refused"
