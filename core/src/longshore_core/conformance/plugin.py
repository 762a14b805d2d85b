"""The options of the kit, for pytest.

Loaded into every run of pytest where Longshore is installed, so it imports nothing of the kit
until a plugin is named that is to be examined.
"""

from __future__ import annotations

from typing import Final

import pytest

PACKAGE: Final = "longshore_core.conformance"
KINDS: Final = ("driver", "network", "registry", "middleware", "guest")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("longshore", "Longshore's conformance kit")
    for kind in KINDS:
        what = f"the {kind} to examine: an entry point's name, or pkg:Thing"
        group.addoption(f"--{kind}", metavar="NAME", default=None, help=what)
    group.addoption(
        *("--driver-config", "--plugin-config"),
        metavar="FILE",
        default=None,
        dest="plugin_config",
        help="YAML with what stands beside `type` in its section of the config",
    )
    profiles = ("core", "full", "chaos", "security", "perf")
    group.addoption("--profile", choices=profiles, default="core", help="how much is asked of it")
    group.addoption("--laws", metavar="IDS", default=None, help="only these laws: L1,E10")
    group.addoption("--against", metavar="NAME", default=None, help="a driver to compare it with")
    group.addoption("--against-config", metavar="FILE", default=None, help="that driver's YAML")
    group.addoption("--report", metavar="FILE", default=None, help="write the outcome as JSON")
    group.addoption("--matrix", metavar="FILE", default=None, help="and as a table in Markdown")
    group.addoption("--image", default=None, help="an image with /bin/sh, for drivers with images")
    group.addoption("--sandbox-guest", default="sandbox_daemon", help="what drivers carry inside")
    group.addoption("--golden", metavar="DIRECTORY", default=None, help="handles of past releases")
    group.addoption("--law-seed", type=int, default=0, help="of everything that laws draw by lot")
    group.addoption(
        "--patience",
        metavar="FACTOR",
        type=float,
        default=1.0,
        help="on a slow or busy machine: how many times as long a law may take",
    )
    group.addoption("--engine-stop", metavar="COMMAND", default=None, help="takes its engine away")
    group.addoption("--engine-start", metavar="COMMAND", default=None, help="brings it back")
    group.addoption(
        "--exclusive-host",
        action="store_true",
        help="nobody else works here: whatever is new on the host counts as left behind",
    )


def pytest_configure(config: pytest.Config) -> None:
    if any(config.getoption(f"--{kind}") for kind in KINDS):
        config.pluginmanager.import_plugin(f"{PACKAGE}.session")
