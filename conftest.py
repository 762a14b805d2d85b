"""What every test of the repository shares: saying what a test needs from the machine.

`require(condition, reason)` skips a test on a machine that lacks something. With `LONGSHORE_CI`
set, as in `.ci/run`, the machine is meant to have everything, and what is missing fails the test:
nothing goes untested unnoticed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.loops import ASYNCIO, TRIO

pytest_plugins = ["tests.engines.fixtures"]
# How long an example takes says how busy the machine is. The parent is another one in CI.
settings.register_profile(
    "longshore",
    settings.default,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("longshore")

Require = Callable[[object, str], None]


def _require(condition: object, reason: str) -> None:
    if condition:
        return
    if os.environ.get("LONGSHORE_CI"):
        pytest.fail(f"this machine must have it: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require() -> Require:
    """`require(condition, reason)`: skip, or fail in CI, unless the condition holds."""
    return _require


@pytest.fixture(scope="session", params=[ASYNCIO, TRIO], ids=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Each test that is asynchronous runs on both, unless it says otherwise."""
    return request.param


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """The marks `needs_root`, `needs_cgroups` and `needs_program(name)`, by `require`."""
    if request.node.get_closest_marker("needs_root"):
        _require(os.geteuid() == 0, "root")
    if request.node.get_closest_marker("needs_cgroups"):
        _require(_has_cgroups(), "a writable cgroup hierarchy with the memory controller")
    for mark in request.node.iter_markers("needs_program"):
        _require(shutil.which(mark.args[0]), f"{mark.args[0]} on PATH")


def _has_cgroups() -> bool:
    root = Path("/sys/fs/cgroup")
    if os.access(root / "memory" / "tasks", os.W_OK):
        return True
    controllers = root / "cgroup.controllers"
    return controllers.exists() and "memory" in controllers.read_text() and os.access(root, os.W_OK)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In CI, say what failed at once: a run of half an hour may not come to its end."""
    if report.failed and os.environ.get("LONGSHORE_CI") and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = str(crash.message).partition("\n")[0] if crash else report.longreprtext[-200:]
        sys.stderr.write(f"\n{report.when} failed: {report.nodeid}: {why}\n")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # In the background of a script. What tests start would not hear of Ctrl-C either.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "needs_root: only root can run it")
    config.addinivalue_line("markers", "needs_cgroups: wants cgroups that it may write to")
    config.addinivalue_line("markers", "needs_program(name): wants a program on PATH")
