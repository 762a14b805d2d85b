"""A sandbox from start to end: `make demo`.

Starts the whole system on free ports, and speaks to it as any client would, over HTTP: creates a
sandbox, uploads a program and its data, runs it and prints its output as it comes, fetches the
result and checks it, serves a web page from inside, deletes the sandbox, and stops the system.
Every step is timed, and every answer checked: anything unexpected ends with a non-zero status.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
STARTUP_SECONDS = 60
STOP_SECONDS = 60
PORTS = ("http", "grpc", "proxy", "monitoring")


class Unexpected(Exception):
    """A step did not end as it should."""


class System:
    """`longshore up` with a data directory of its own, on ports that were free."""

    def __init__(self, data_dir: str) -> None:
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.log: deque[str] = deque(maxlen=60)
        self._up = threading.Event()
        options = [f"--port-{name}={port}" for name, port in self.ports.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "longshore", "up", "--data-dir", data_dir, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the system
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_up(self) -> None:
        self._up.wait(STARTUP_SECONDS)
        if self._process.poll() is not None or not self._up.is_set():
            raise Unexpected("the system did not come up")

    def stop(self) -> int:
        """Stop it in order; the answer is its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise Unexpected("the system did not stop") from None
        self._reader.join(1)
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line.rstrip())
            if line.startswith("Longshore ") and " is up" in line:
                self._up.set()
        self._up.set()


class Sandbox:
    """One sandbox: the calls that the demo makes, each checked for its status."""

    def __init__(self, ports: dict[str, int], image: str = "python:3.14-slim") -> None:
        self._image = image
        self._api = httpx.Client(base_url=f"http://127.0.0.1:{ports['http']}", timeout=60)
        self._proxy = httpx.Client(base_url=f"http://127.0.0.1:{ports['proxy']}", timeout=60)
        self.id = ""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()
        self._proxy.close()

    def create(self) -> str:
        body = {"image": self._image}
        url = "/v1/namespaces/default/sandboxes"
        answer = checked(self._api.post(url, params={"wait": "true"}, json=body)).json()
        self.id = answer["sandbox_id"]
        # Whoever comes through the proxy says which sandbox is meant.
        self._proxy.headers["Tensorlake-Sandbox-Id"] = self.id
        status = str(answer.get("status", "running")).lower()
        expect(status == "running", f"the sandbox is {status}")
        return self.id

    def upload(self, file: Path) -> None:
        params = {"path": file.name}
        checked(self._proxy.put("/api/v1/files", params=params, content=file.read_bytes()))

    def download(self, path: str) -> bytes:
        return checked(self._proxy.get("/api/v1/files", params={"path": path})).content

    def run(self, command: str, *args: str) -> Iterator[dict[str, Any]]:
        """Run a command; its output and its end, as they come."""
        body = {"command": command, "args": args}
        with self._proxy.stream("POST", "/api/v1/processes/run", json=body) as response:
            yield from events(response)

    def start(self, command: str, *args: str) -> int:
        """Start a command that goes on; the answer is its process id inside."""
        body = {"command": command, "args": args}
        return int(checked(self._proxy.post("/api/v1/processes", json=body)).json()["pid"])

    def follow(self, pid: int) -> Iterator[dict[str, Any]]:
        with self._proxy.stream("GET", f"/api/v1/processes/{pid}/output/follow") as response:
            yield from events(response)

    def get(self, port: int, path: str) -> str:
        headers = {"Tensorlake-Sandbox-Port": str(port)}
        return checked(self._proxy.get(path, headers=headers)).text

    def delete(self) -> None:
        """Delete it, and see that it has ended."""
        url = f"/v1/namespaces/default/sandboxes/{self.id}"
        checked(self._api.delete(url))
        deadline = time.monotonic() + STOP_SECONDS
        while (answer := self._api.get(url)).status_code != 404:
            if str(checked(answer).json()["status"]).lower() == "terminated":
                return
            expect(time.monotonic() < deadline, "the sandbox does not end")
            time.sleep(0.02)


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The data of server-sent events."""
    if response.status_code != 200:
        response.read()
    for line in checked(response).iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def checked(response: httpx.Response) -> httpx.Response:
    request = response.request
    where = f"{request.method} {request.url.path}"
    if not response.is_success:
        raise Unexpected(f"{where} answered {response.status_code}: {response.text[:300]}")
    return response


def expect(true: bool, otherwise: str) -> None:
    if not true:
        raise Unexpected(otherwise)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Screen:
    """Steps, aligned, with what each took."""

    def __init__(self) -> None:
        self._colourful = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Time a step; what is appended to the yielded list is shown beside it."""
        notes: list[str] = []
        began = time.monotonic()
        try:
            yield notes
        except BaseException:
            print(f"  {self._coloured('failed', 31)}  {what}", flush=True)
            raise
        took = f"{(time.monotonic() - began) * 1000:7,.0f} ms"
        print(f"  {self._coloured('ok', 32)}  {what:<36} {took}   {' '.join(notes)}", flush=True)

    def line(self, text: str) -> None:
        print(f"      {self._coloured('|', 36)} {text}", flush=True)

    def _coloured(self, text: str, colour: int) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colourful else text


def play(screen: Screen, sandbox: Sandbox) -> None:
    with screen.step("create a sandbox") as notes:
        notes.append(sandbox.create())

    program, data = HERE / "sales.py", HERE / "sales.csv"
    with screen.step("upload a program and its data") as notes:
        sandbox.upload(program)
        sandbox.upload(data)
        notes.append(f"{(program.stat().st_size + data.stat().st_size) / 1024:.0f} KiB")

    with screen.step("run it, output as it comes") as notes:
        began = time.monotonic()
        outcome: dict[str, Any] = {}
        for event in sandbox.run("python3", program.name, data.name, "report.json"):
            if "line" in event:
                if not notes:
                    notes.append(f"first line after {(time.monotonic() - began) * 1000:.0f} ms")
                screen.line(event["line"])
            outcome = event
        expect(outcome.get("exit_code") == 0, f"the program ended with {outcome}")
        expect(bool(notes), "the program printed nothing")

    with screen.step("download its report, check it") as notes:
        report = json.loads(sandbox.download("report.json"))
        orders, cents = count(data)
        expect(report["orders"] == orders, f"{report['orders']} orders, not {orders}")
        expect(report["revenue_cents"] == cents, f"{report['revenue_cents']} cents, not {cents}")
        notes.append(f"{orders} orders, {cents / 100:,.2f}")

    with screen.step("serve a web page from inside") as notes:
        pid = sandbox.start("python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "0")
        port = announced_port(sandbox.follow(pid))
        page = sandbox.get(port, "/")
        expect("report.json" in page, "the page does not list report.json")
        notes.append(f"port {port}, {len(page)} bytes")

    with screen.step("delete the sandbox"):
        sandbox.delete()


def announced_port(lines: Iterator[dict[str, Any]]) -> int:
    """The port in `Serving HTTP on 127.0.0.1 port 43210 (…)`: port 0 let the system choose one."""
    for event in lines:
        words = str(event.get("line", "")).split()
        if "port" in words:
            return int(words[words.index("port") + 1])
    raise Unexpected("the web server ended before it said its port")


def count(data: Path) -> tuple[int, int]:
    """What the report must say, worked out here."""
    with data.open(newline="", encoding="utf-8") as file:
        cents = [
            round(int(row["quantity"]) * float(row["unit_price"]) * 100)
            for row in csv.DictReader(file)
        ]
    return len(cents), sum(cents)


def main() -> int:
    screen = Screen()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="longshore-demo-") as data_dir:
        system: System | None = None
        try:
            with screen.step("start server, worker and proxy") as notes:
                system = System(data_dir)
                system.wait_up()
                notes.append(f"API http://127.0.0.1:{system.ports['http']}")
            with Sandbox(system.ports) as sandbox:
                play(screen, sandbox)
            with screen.step("stop"):
                status = system.stop()
                expect(status == 0, f"`longshore up` ended with status {status}")
        except (Unexpected, httpx.HTTPError, OSError, KeyError, ValueError) as exc:
            print(f"\nerror: {type(exc).__name__}: {exc}", file=sys.stderr)
            if system is not None:
                print("\nthe system's last lines:", *system.log, sep="\n  ", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            if system is not None:
                system.stop()
    print(f"\nAll of it in {time.monotonic() - began:.1f} s. `make run` keeps the system up.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
