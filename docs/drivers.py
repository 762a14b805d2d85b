"""Examine our drivers with the conformance kit, and write what came of it into the docs.

python docs/drivers.py [NAME…]   runs the kit over each, or these, and writes reports and table
python docs/drivers.py --against runs the laws that leave traces over both engines, and compares
python docs/drivers.py --table   writes the table again from the reports that there are
python docs/drivers.py --check   says whether it is what the reports say, and of the laws there are
python docs/drivers.py --golden  keeps a handle of each driver, for the releases to come
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from longshore_core import ContainerId, ContainerSpec, Handle, Host, Plug, __version__
from longshore_core.abc import Runtime
from longshore_core.testing import (
    DRIVER_LAWS,
    Profile,
    Settings,
    find_subject,
    golden,
    in_profile,
    run_laws,
)
from longshore_core.testing.bench import bare_host
from longshore_core.testing.law import IMAGES
from longshore_core.testing.laws.recover import golden_of
from longshore_core.testing.report import Report, from_json, matrix
from longshore_forkexec import Config, open_fork_exec

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.engines import images
from tests.engines.dockerd import PrivateDocker, open_docker
from tests.engines.podman import PrivatePodman, open_podman

DOCS = Path(__file__).parent
ROOT = DOCS.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PAGE = DOCS / "conformance.md"
REPORTS = DOCS / "conformance"
OWN = ("fork_exec", "null", "reference")
ENGINES: dict[str, tuple[type[Any], Callable[..., AbstractContextManager[Any]]]] = {
    "docker": (PrivateDocker, open_docker),
    "podman": (PrivatePodman, open_podman),
}
DRIVERS = ("docker", "podman", *OWN)
BEGIN, END = "<!-- drivers: begin -->\n", "<!-- drivers: end -->\n"
ISOLATION = "<!-- isolation: begin -->\n", "<!-- isolation: end -->\n"
ISOLATING = ("docker", "podman", "fork_exec")
UNDECLARED = "fork_exec.undeclared.json"
SURFACE = "S10.3"
PATIENCE = "--patience=4"
"""An engine is as fast as its machine; a law that hangs is found all the same."""


def examine(driver: str) -> int:
    """Run the kit over one driver; the answer is 0 when all is kept that was kept before."""
    REPORTS.mkdir(exist_ok=True)
    file = REPORTS / f"{driver}.json"
    before = report_of(driver) if file.exists() else None
    command = [sys.executable, "-m", "pytest", "-q", "--pyargs", "longshore_core.conformance"]
    with surroundings(driver) as extra:
        words = [*command, f"--driver={driver}", f"--report={file}", PATIENCE, *extra]
        done = subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, check=False)
    if file.exists():
        file.write_text(kept(file.read_text(encoding="utf-8")), encoding="utf-8")
    lost = lost_since(before, report_of(driver)) if before else []
    sys.stdout.writelines(f"{driver}: {each}\n" for each in lost)
    return done.returncode or int(bool(lost))


def lost_since(before: Report, now: Report) -> list[str]:
    """Laws that passed, and of which nobody knows now: what cannot be tried proves nothing."""
    verdicts = {line.id: line for line in now.lines}
    return [
        f"{line.id} passed, and is now {verdicts[line.id].verdict}: {verdicts[line.id].reason}"
        for line in before.lines
        if line.verdict == "passed" and line.id in verdicts
        if verdicts[line.id].verdict not in ("passed", "failed")
    ]


def compare(driver: str, other: str) -> int:
    """Run the laws that leave traces over two drivers with engines; the answer is pytest's."""
    laws = ",".join(law.id for law in in_profile(DRIVER_LAWS, Profile.CORE) if law.traced)
    command = [sys.executable, "-m", "pytest", "-q", "--pyargs", "longshore_core.conformance"]
    with surroundings(driver) as ours, surroundings(other) as theirs:
        # Each law runs over both: none may take the engine of one away.
        words = [each for each in ours if not each.startswith("--engine")]
        config = next(each for each in theirs if each.startswith("--driver-config="))
        words += [f"--against={other}", config.replace("--driver-config", "--against-config")]
        done = subprocess.run(
            [*command, f"--driver={driver}", f"--laws={laws}", PATIENCE, *words],
            cwd=ROOT,
            env=ENVIRONMENT,
            check=False,
        )
    return done.returncode


def kept(report: str) -> str:
    """What is kept of a report, a line a law: how long it took is the machine's."""
    data = json.loads(report.replace(f"{ROOT}/", ""))
    names = ("id", "group", "name", "verdict", "reason")
    lines = [
        json.dumps(
            {name: line[name] for name in names}
            | ({"measured": line["measured"]} if line["group"] == "iso" else {})
        )
        for line in data.pop("lines")
    ]
    head = json.dumps(data, indent=2).removesuffix("\n}")
    return f'{head},\n  "lines": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"


@contextmanager
def surroundings(driver: str) -> Iterator[list[str]]:
    """What a driver needs to show all: an image, and an engine that can be taken away."""
    with tempfile.TemporaryDirectory() as place:
        config = Path(place, "config.yaml")
        if driver == "reference":
            away = Path(place, "away")
            stop, start = f"touch {away}", f"rm {away}"
            yield arguments(config, {"engine_away_file": str(away)}, "example/image:1", stop, start)
        elif driver in ENGINES:
            kind, open_engine = ENGINES[driver]
            with open_engine(private=True) as engine:
                # Each law opens the driver anew: a pool is filled, and emptied, as often.
                options = {"address": engine.address, "ready_networks": 1}
                module = shlex.join([sys.executable, "-m", kind.__module__])
                stop, start = (f"{module} {word} {engine.directory}" for word in ("stop", "start"))
                yield arguments(config, options, engine.load(images.BASE), stop, start)
        else:
            yield []


def arguments(
    config: Path, options: dict[str, Any], image: str, stop: str, start: str
) -> list[str]:
    """The kit's, for a driver with an engine."""
    config.write_text(json.dumps(options), encoding="utf-8")
    return [
        f"--driver-config={config}",
        f"--image={image}",
        f"--engine-stop={stop}",
        f"--engine-start={start}",
    ]


def table() -> str:
    """The table of all drivers of which there are reports."""
    return matrix([report_of(driver) for driver in DRIVERS])


def isolation() -> str:
    """What a sandbox is kept from, by driver: laws of the escape suite, one a line. What a driver
    does not declare is tried all the same: it says so when it keeps nobody from it."""
    reports = [report_of(driver) for driver in ISOLATING]
    tried = json.loads((REPORTS / UNDECLARED).read_text(encoding="utf-8"))
    rows = [f"| | {' | '.join(ISOLATING)} |", f"| --- |{' --- |' * len(ISOLATING)}"]
    verdicts = [{line.id: line.verdict for line in report.lines} for report in reports]
    for line in reports[0].lines:
        if line.group == "iso" and not line.is_refusal:
            promise = line.name.replace("_", " ")
            found = (each.get(line.id, "not examined") for each in verdicts)
            words = (in_short(verdict, tried.get(line.id)) for verdict in found)
            rows.append(f"| {line.id}: {promise} | {' | '.join(words)} |")
    measured = [
        ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in line.measured.items())
        for report in reports
        for line in report.lines
        if line.id == SURFACE
    ]
    rows.append(f"| *seen of the kernel* | {' | '.join(text or '*all*' for text in measured)} |")
    return "\n".join(rows) + "\n"


def in_short(verdict: str, tried: str | None) -> str:
    if verdict == "passed":
        return "yes"
    if verdict == "not declared" and tried == "passed":
        return "not promised"
    return "**no**" if verdict == "not declared" and tried == "failed" else f"**no**: {verdict}"


def try_undeclared() -> None:
    """Ask `fork_exec` for what only drivers with images promise, and keep what came of it."""

    @asynccontextmanager
    async def claiming(config: Any, host: Host) -> AsyncGenerator[Runtime]:
        async with open_fork_exec(config, host) as runtime:
            yield replace(runtime, facts=replace(runtime.facts, images=True))

    laws = [law for law in DRIVER_LAWS if law.group == "iso" and IMAGES in law.requires]
    plug = Plug(config=Config, open=claiming)
    outcomes = anyio.run(lambda: run_laws(plug, laws, settings=Settings(image="none/of-them:1")))
    tried = {outcome.law.id: outcome.verdict.word for outcome in outcomes}
    (REPORTS / UNDECLARED).write_text(json.dumps(tried, indent=2) + "\n", encoding="utf-8")


def report_of(driver: str) -> Report:
    return from_json((REPORTS / f"{driver}.json").read_text(encoding="utf-8"))


def page(text: str) -> str:
    """The page with both tables as they should be."""
    for (begin, end), made in (((BEGIN, END), table()), (ISOLATION, isolation())):
        before, _, rest = text.partition(begin)
        text = before + begin + made + end + rest.partition(end)[2]
    return text


def stale() -> list[str]:
    """What is not as it should be: the page, or a report of other laws than there are."""
    laws = [(law.id, law.name) for law in in_profile(DRIVER_LAWS, Profile.CORE)]
    found = list[str]()
    for driver in DRIVERS:
        report = report_of(driver)
        if [(line.id, line.name) for line in report.lines] != laws:
            found.append(f"docs/conformance/{driver}.json is of other laws: make laws")
    text = PAGE.read_text(encoding="utf-8")
    if page(text) != text:
        found.append("docs/conformance.md: make laws ARGS=--table")
    return found


def keep(driver: str) -> None:
    """Write down a handle of what a driver makes now."""
    if driver in ENGINES:
        _, open_engine = ENGINES[driver]
        with open_engine(private=True) as engine:
            options = {"address": engine.address, "ready_networks": 0}
            handle = anyio.run(made, driver, options, engine.load(images.BASE))
    else:
        handle = anyio.run(made, driver, {}, None)
    file = Path(next(iter(golden.__path__))) / driver / f"{__version__}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(golden_of(handle, driver, __version__), encoding="utf-8")


async def made(driver: str, options: dict[str, Any], image: str | None) -> Handle:
    with tempfile.TemporaryDirectory() as place:
        host = bare_host(driver, "worker-1/driver", Path(place))
        async with find_subject(driver, options).open(host) as runtime:
            argv = ("/bin/sh", "-c", "exit 0")
            spec = ContainerSpec(id=ContainerId("golden"), argv=argv, image=image)
            handle = await runtime.driver.create(spec)
            await runtime.driver.remove(handle)
    return handle


def main() -> int:
    if "--check" in sys.argv:
        found = stale()
        sys.stdout.writelines(f"{each}\n" for each in found)
        return 1 if found else 0
    if "--golden" in sys.argv:
        for driver in DRIVERS:
            keep(driver)
        return 0
    if "--against" in sys.argv:
        return compare("docker", "podman")
    asked = [word for word in sys.argv[1:] if word in DRIVERS] or DRIVERS
    worst = 0 if "--table" in sys.argv else max([examine(driver) for driver in asked])
    if "fork_exec" in asked and "--table" not in sys.argv:
        try_undeclared()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return worst


if __name__ == "__main__":
    sys.exit(main())
