"""Fifty creates at once hold nobody's event loop."""

from __future__ import annotations

import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.harness import System, system, until

PROBED = str(Path(__file__).with_name("probed.py"))
LIMIT_MS = 50


def probed(whole: System, name: str, *flags: str) -> None:
    config = whole.server_config if name == "server" else whole.worker_config
    trace = str(whole.directory / f"{name}.trace")
    whole.start(name, [sys.executable, PROBED, trace, name, "--config", str(config), *flags])


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_fifty_concurrent_creates_hold_no_event_loop(tmp_path: Path) -> None:
    with system(tmp_path, on_exit="remove") as whole:
        probed(whole, "server")
        whole.start("proxy")
        probed(whole, "worker", "--no-proxy")
        whole.wait_ready()
        whole.delete(whole.create())  # what is done once is done: imports, the guest's runtime
        for name in ("server", "worker"):
            whole.running[name].send_signal(signal.SIGUSR1)
        with ThreadPoolExecutor(50) as pool:
            ids = list(pool.map(lambda _: whole.create(), range(50)))
        assert len(set(ids)) == 50
        assert {whole.sandbox(id_)["status"] for id_ in ids} == {"running"}
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(whole.delete, ids))
        until(lambda: all(whole.sandbox(id_)["status"] == "terminated" for id_ in ids), "all end")
        for name in ("worker", "server"):
            whole.stop(name, signal.SIGINT)
            report = json.loads((tmp_path / f"{name}.trace").read_text(encoding="utf-8"))
            assert report["callbacks"] > 100
            slow = [item for item in report["slowest_ms"] if item[0] > LIMIT_MS]
            assert not slow, (name, report)
