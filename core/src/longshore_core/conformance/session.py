"""One run of the kit under pytest: which laws, over what, and the report of it all."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final, cast

import anyio
import pytest

from longshore_core._errors import LongshoreError
from longshore_core.conformance.plugin import KINDS, PACKAGE, asked_for, asked_otherwise
from longshore_core.process import config as configuration
from longshore_core.testing.against import run_against
from longshore_core.testing.bench import Settings
from longshore_core.testing.catalogue import LAWS
from longshore_core.testing.law import (
    Environment,
    Failed,
    Law,
    NotDeclared,
    Outcome,
    Profile,
    in_profile,
)
from longshore_core.testing.report import Line, line_of, matrix, report_of, to_json
from longshore_core.testing.run import run_law
from longshore_core.testing.subject import Subject, find_subject

_PROPERTY: Final = "longshore.law"
_SLACK_SECONDS: Final = 60
_COMMAND_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """An engine that shell commands stop and start."""

    to_stop: str
    to_start: str

    async def stop(self) -> None:
        await self._run(self.to_stop)

    async def start(self) -> None:
        await self._run(self.to_start)

    async def _run(self, command: str) -> None:
        with anyio.fail_after(_COMMAND_SECONDS):
            await anyio.run_process(command, stdin=DEVNULL, check=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What the command line asks for."""

    kind: str
    subject: Subject[Any]
    other: Subject[Any] | None
    settings: Settings
    profile: Profile

    @classmethod
    def of(cls, config: pytest.Config) -> Kit:
        named = [(kind, str(asked_for(config, kind) or "")) for kind in KINDS]
        asked = [(kind, name) for kind, name in named if name]
        if len(asked) != 1:
            choices = ", ".join(f"--{kind}" for kind in KINDS)
            raise pytest.UsageError(f"name one plugin to examine, with one of {choices}")
        ((kind, name),) = asked
        against = asked_for(config, "against")
        try:
            options = _options(asked_for(config, "plugin-config"))
            subject = find_subject(name, options, kind=kind)
            others = _options(asked_for(config, "against-config"))
            other = find_subject(against, others, kind=kind) if against else None
        except LongshoreError as exc:
            raise pytest.UsageError(str(exc)) from exc
        profile = Profile(asked_for(config, "profile"))
        return cls(
            kind=kind,
            subject=subject,
            other=other,
            settings=_settings(config, profile),
            profile=profile,
        )

    def laws(self, ids: str | None) -> list[Law[Any]]:
        """Those that are asked for, by profile or by id; to ask for none is a mistake."""
        if not ids:
            return self._of_the_profile()
        wanted = set(ids.split(","))
        chosen = [law for law in LAWS[self.kind] if {law.id, law.group} & wanted]
        if unknown := wanted - {word for law in chosen for word in (law.id, law.group)}:
            raise pytest.UsageError(f"no law or group is called {', '.join(sorted(unknown))}")
        return chosen

    def _of_the_profile(self) -> list[Law[Any]]:
        laws = LAWS[self.kind]
        if chosen := in_profile(laws, self.profile):
            return list(chosen)
        others = ", ".join(each for each in Profile if in_profile(laws, each))
        raise pytest.UsageError(
            f"--profile={self.profile}: it has no laws for a {self.kind}; those of {others} are"
        )


class Collector:
    """Hears of every law that is done, in whichever process, and writes the report."""

    def __init__(self, config: pytest.Config, kit: Kit) -> None:
        self._config = config
        self._kit = kit
        self._lines = list[Line]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == _PROPERTY:
                    self._lines.append(Line(**json.loads(str(value))))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """A comparison that has compared nothing is no success."""
        if exitstatus == pytest.ExitCode.OK and self._compared_nothing:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    @property
    def _compared_nothing(self) -> bool:
        if self._kit.other is None or hasattr(self._config, "workerinput"):
            return False
        return not any(line.verdict in ("passed", "failed") for line in self._lines)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        order = {law.id: number for number, law in enumerate(LAWS[self._kit.kind])}
        self._lines.sort(key=lambda line: order.get(line.id, 0))
        report = report_of(self._kit.subject, self._kit.profile, self._lines)
        for option, text in (("report", to_json(report)), ("matrix", matrix([report]))):
            if file := asked_for(self._config, option):
                Path(file).write_text(text, encoding="utf-8")
        terminalreporter.write_line(report.conforms)
        if self._compared_nothing:
            terminalreporter.write_line(
                "nothing was compared: no law is for both, and known of both"
            )


def pytest_configure(config: pytest.Config) -> None:
    kit = Kit.of(config)
    kit.laws(asked_for(config, "laws"))  # one that is not known is told of here, and now
    config.stash[_KIT] = kit
    config.pluginmanager.register(Collector(config, kit))


_KIT: Final = pytest.StashKey[Kit]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"law", "examine"} <= set(metafunc.fixturenames):
        kit = metafunc.config.stash[_KIT]
        laws = kit.laws(asked_for(metafunc.config, "laws"))
        marked = [
            # A law has a deadline of its own; this one is for a driver that blocks the loop.
            pytest.param(law, id=f"{law.id}-{law.name}", marks=_timeout(metafunc.config, law, kit))
            for law in laws
        ]
        metafunc.parametrize("law", marked)


@pytest.fixture(scope="session")
def kit_settings(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings, with a place for what takes a guest long to make."""
    kit = pytestconfig.stash[_KIT]
    cache = tmp_path_factory.mktemp("cache")
    return replace(kit.settings, cache=cache)


@pytest.fixture
def examine(
    pytestconfig: pytest.Config, kit_settings: Settings, request: pytest.FixtureRequest
) -> Any:
    """Check a law, tell the report, and turn the verdict into pytest's."""
    kit = pytestconfig.stash[_KIT]
    item: pytest.Item = cast("Any", request).node  # which some releases of pytest leave untyped

    def check(law: Law[Any]) -> None:
        outcome = anyio.run(_outcome, kit, law, kit_settings)
        line = json.dumps(asdict(line_of(outcome)))
        item.user_properties.append((_PROPERTY, line))
        match outcome.verdict:
            case Failed():
                pytest.fail(f"{outcome.verdict.reason}\n{_again(pytestconfig, law)}", pytrace=False)
            case NotDeclared():
                pytest.skip(f"not declared: {outcome.verdict.reason}")
            case Environment():
                pytest.skip(f"environment: {outcome.verdict.reason}")
            case _:
                return

    return check


async def _outcome(kit: Kit, law: Law[Any], settings: Settings) -> Outcome:
    if kit.other is not None:
        return await run_against(kit.subject, kit.other, law, settings)
    return await run_law(kit.subject, law, settings)


def _again(config: pytest.Config, law: Law[Any]) -> str:
    """The line that repeats a failure."""
    words = ["pytest", "--pyargs", PACKAGE, *asked_otherwise(config), f"--laws={law.id}"]
    return f"again: {shlex.join(words)}"


def _timeout(config: pytest.Config, law: Law[Any], kit: Kit) -> Sequence[pytest.MarkDecorator]:
    if not config.pluginmanager.hasplugin("timeout"):
        return ()
    return (pytest.mark.timeout(2 * law.seconds * kit.settings.patience + _SLACK_SECONDS),)


def _options(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    return configuration.load_section(Path(file), os.environ)


def _settings(config: pytest.Config, profile: Profile) -> Settings:
    def option(name: str) -> Any:
        return asked_for(config, name)

    stop, start = option("engine-stop"), option("engine-start")
    if bool(stop) != bool(start):
        raise pytest.UsageError("--engine-stop and --engine-start belong together")
    if not 1 <= option("patience") < math.inf:
        raise pytest.UsageError("--patience: a number from 1 is wanted, such as 2.5")
    return Settings(
        heavy=profile is Profile.FULL,
        image=option("image"),
        guest=option("sandbox-guest"),
        engine=Commands(to_stop=stop, to_start=start) if stop else None,
        golden=Path(option("golden")) if option("golden") else None,
        exclusive_host=option("exclusive-host"),
        seed=option("law-seed"),
        patience=option("patience"),
    )
