"""The options of the kit, for pytest.

Loaded into every run of pytest where Longshore is installed, so it imports nothing of the kit
until a plugin is named that is to be examined.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final

import pytest

PACKAGE: Final = "longshore_core.conformance"
KINDS: Final = ("driver", "network", "registry", "middleware", "guest")


def _kinds() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in KINDS:
        what = f"the {kind} to examine: an entry point's name, or pkg:Thing"
        yield kind, {"metavar": "NAME", "help": what}


OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    **dict(_kinds()),
    "plugin-config": {
        "metavar": "FILE",
        "help": "YAML with what stands beside `type` in its section of the config",
    },
    "profile": {
        "choices": ("core", "full", "chaos", "security", "perf"),
        "default": "core",
        "help": "how much is asked of it",
    },
    "laws": {"metavar": "IDS", "help": "only these laws: L1,E10"},
    "against": {"metavar": "NAME", "help": "a driver to compare it with"},
    "against-config": {"metavar": "FILE", "help": "that driver's YAML"},
    "report": {"metavar": "FILE", "help": "write the outcome as JSON"},
    "matrix": {"metavar": "FILE", "help": "and as a table in Markdown"},
    "image": {"help": "an image with /bin/sh, for drivers with images"},
    "sandbox-guest": {"default": "sandbox_daemon", "help": "what drivers carry inside"},
    "golden": {"metavar": "DIRECTORY", "help": "handles of past releases"},
    "law-seed": {"type": int, "default": 0, "help": "of everything that laws draw by lot"},
    "patience": {
        "metavar": "FACTOR",
        "type": float,
        "default": 1.0,
        "help": "on a slow or busy machine: how many times as long a law may take",
    },
    "engine-stop": {"metavar": "COMMAND", "help": "takes its engine away"},
    "engine-start": {"metavar": "COMMAND", "help": "brings it back"},
    "exclusive-host": {
        "action": "store_true",
        "default": False,
        "help": "nobody else works here: whatever is new on the host counts as left behind",
    },
}
"""What pytest is told of each, by its name without the dashes."""
ALIASES: Final[Mapping[str, str]] = {"plugin-config": "driver-config"}
_TAKEN: Final = pytest.StashKey[frozenset[str]]()
_SAYS_NOT_HOW: Final = ("laws", "report", "matrix")
"""These choose laws, and where to write; not how a law is examined."""


def asked_for(config: pytest.Config, name: str) -> Any:
    """What the command line says to one of the kit's options, or its default."""
    return config.getoption(_destination(name), OPTIONS[name].get("default"))


def asked_otherwise(config: pytest.Config) -> list[str]:
    """The words that examine another law in the same way: all that differ from the defaults."""
    words, taken = list[str](), config.stash.get(_TAKEN, frozenset[str]())
    for name, attributes in OPTIONS.items():
        value = asked_for(config, name)
        if name in _SAYS_NOT_HOW or value == attributes.get("default"):
            continue
        word = _long(name) if name in taken else f"--{name}"
        words.append(word if "action" in attributes else f"{word}={value}")
    return words


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Generator[None, object, object]:
    """Add the options when every other plugin has, and every conftest that pytest begins with.

    `--driver` is pytest-selenium's, too, `--profile` pytest-profiling's: a name that is taken is
    left to who has it, whichever of us was found first. The long spelling is always ours.
    """
    result = yield
    group = parser.getgroup("longshore", "Longshore's conformance kit")
    taken = set[str]()
    for name, attributes in OPTIONS.items():
        names = [each for each in (ALIASES.get(name), name) if each]
        short, long = [f"--{each}" for each in names], [_long(each) for each in names]
        try:
            group.addoption(*short, *long, dest=_destination(name), **attributes)
        except (argparse.ArgumentError, ValueError):  # pytest 9 and others differ in which
            group.addoption(*long, dest=_destination(name), **attributes)
            taken.add(name)
    early_config.stash[_TAKEN] = frozenset(taken)
    return result


def _long(name: str) -> str:
    return f"--longshore-{name}"


def _destination(name: str) -> str:
    return f"longshore_{name.replace('-', '_')}"


def pytest_configure(config: pytest.Config) -> None:
    if any(asked_for(config, kind) for kind in KINDS):
        config.pluginmanager.import_plugin(f"{PACKAGE}.session")
