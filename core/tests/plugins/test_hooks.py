"""What an operator reads when a plugin is misconfigured, missing, claimed twice, or broken."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import anyio
import pytest
from longshore_core import (
    ConfigError,
    ContainerId,
    ContainerSpec,
    Handle,
    Host,
    KernelBug,
    PluginContractError,
    PluginCrash,
    PluginLoadError,
    UnknownPlugin,
)
from longshore_core._plugins import catalog, hooks
from longshore_core._plugins.opening import AdaptedDriver, opened
from longshore_core._worker.transitions import Transitions

DRIVERS = "longshore.drivers"
SPEC = ContainerSpec(id=ContainerId("c1"), argv=())

DRIVER = """
    from contextlib import asynccontextmanager
    from pydantic import BaseModel
    from longshore_core import Attachment, Exit, Facts, Handle, Plug, hookimpl
    from longshore_core.abc import Driver, Runtime

    class Config(BaseModel, extra="forbid"):
        prefix: str = ""

    class AcmeDriver(Driver):
        async def create(self, spec): return {create}
        async def start(self, handle): {start}
        async def wait(self, handle): return Exit()
        async def signal(self, handle, signal): ...
        async def remove(self, handle): ...
        async def survey(self): return []

    @asynccontextmanager
    async def open_acme(config, host):
        yield Runtime(driver=AcmeDriver(), facts=Facts())

    @hookimpl
    def longshore_driver():
        return Plug(config=Config, open=open_acme, api={api})
"""


def driver(
    create: str = "Handle(id=spec.id)", start: str = "return Attachment()", api: str = "(1, 0)"
) -> str:
    return DRIVER.format(create=create, start=start, api=api)


def host(tmp_path: Path) -> Host:
    return Host(
        name="acme",
        owner="o",
        state_dir=tmp_path,
        logger=logging.getLogger("acme"),
        transitions=Transitions().subscribe,
    )


def test_a_misspelt_name_is_answered_with_the_nearest(install) -> None:
    install("longshore-docker", DRIVERS, "docker", driver())
    with pytest.raises(UnknownPlugin) as caught:
        hooks.select(hooks.DRIVERS, "dcoker")
    installed = ", ".join(sorted({item.name for item in catalog.installed([DRIVERS])}))
    assert str(caught.value) == (
        f"driver.type: no plugin named 'dcoker'; did you mean 'docker'? (installed: {installed})"
    )


async def test_an_unknown_key_is_blamed_on_its_yaml_path(install, tmp_path: Path) -> None:
    install("longshore-acme", DRIVERS, "acme", driver())
    selected = hooks.select(hooks.DRIVERS, "acme")
    with pytest.raises(ConfigError) as caught:
        async with opened(selected, {"prefixx": "x"}, host(tmp_path), "driver"):
            pytest.fail("it opened")
    assert str(caught.value) == (
        "driver.prefixx: Extra inputs are not permitted; did you mean 'prefix'?"
    )


def test_a_plugin_that_cannot_be_imported_names_its_distribution(install) -> None:
    install("longshore-acme", DRIVERS, "acme", "import no_such_sdk")
    with pytest.raises(PluginLoadError) as caught:
        hooks.select(hooks.DRIVERS, "acme")
    assert str(caught.value) == (
        "plugin acme (longshore-acme 1.0): cannot import longshore_acme.plugin:"
        " No module named 'no_such_sdk'"
    )


def test_a_plugin_that_raises_at_import_names_its_distribution(install) -> None:
    install("longshore-acme", DRIVERS, "acme", "raise ValueError('x')")
    with pytest.raises(PluginLoadError, match=r"cannot import .*: ValueError\('x'\)"):
        hooks.select(hooks.DRIVERS, "acme")


def test_a_name_claimed_twice_is_an_error_naming_both(install) -> None:
    install("longshore-docker", DRIVERS, "docker", driver())
    install("acme-docker", DRIVERS, "docker", driver(), version="0.3")
    with pytest.raises(PluginContractError) as caught:
        hooks.select(hooks.DRIVERS, "docker")
    assert str(caught.value) == (
        "plugin docker: claimed in longshore.drivers by both acme-docker 0.3"
        " and longshore-docker 1.0"
    )


def test_an_incompatible_plugin_is_refused_with_both_versions(install) -> None:
    install("longshore-acme", DRIVERS, "acme", driver(api="(2, 0)"))
    with pytest.raises(PluginContractError) as caught:
        hooks.select(hooks.DRIVERS, "acme")
    assert str(caught.value) == (
        "plugin acme (longshore-acme 1.0): needs plugin API 2.0; this Longshore offers 1.0"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "implements no hook longshore_driver"),
        (
            "from longshore_core import hookimpl\n"
            "@hookimpl\ndef longshore_driver(): return 'docker'",
            "longshore_driver returned a str, not a Plug",
        ),
        (
            "from longshore_core import hookimpl\n@hookimpl\ndef longshore_drvier(): return None",
            "unknown hook 'longshore_drvier'",
        ),
        (
            "from longshore_core import hookimpl\n"
            "@hookimpl\ndef longshore_driver(config): return None",
            "Argument(s) {'config'} are declared in the hookimpl",
        ),
    ],
)
def test_a_broken_contract_says_which(install, source: str, message: str) -> None:
    install("longshore-acme", DRIVERS, "acme", source)
    with pytest.raises(PluginContractError) as caught:
        hooks.select(hooks.DRIVERS, "acme")
    assert str(caught.value).startswith("plugin acme (longshore-acme 1.0): ")
    assert message in str(caught.value)


async def test_a_crash_names_the_operation_the_error_and_the_distribution(
    install, tmp_path: Path
) -> None:
    install("longshore-acme", DRIVERS, "acme", driver(start="return {}['NetworkSettings']"))
    selected = hooks.select(hooks.DRIVERS, "acme")
    async with opened(selected, {}, host(tmp_path), "driver") as runtime:
        adapted = AdaptedDriver(runtime, selected.origin)
        with pytest.raises(PluginCrash) as caught:
            await adapted.start(Handle(id=SPEC.id))
    assert str(caught.value) == (
        "plugin acme (longshore-acme 1.0): start raised KeyError: 'NetworkSettings'"
    )


@pytest.mark.parametrize(
    ("create", "message"),
    [
        ("None", "create returned a NoneType, not Handle"),
        ("Handle(id='other')", "create returned the handle of 'other' for 'c1'"),
        (
            "Handle(id=spec.id, state={'a': object()})",
            "create returned a Handle that cannot be stored",
        ),
    ],
)
async def test_what_a_driver_returns_is_checked(
    install, tmp_path: Path, create: str, message: str
) -> None:
    install("longshore-acme", DRIVERS, "acme", driver(create=create))
    selected = hooks.select(hooks.DRIVERS, "acme")
    async with opened(selected, {}, host(tmp_path), "driver") as runtime:
        with pytest.raises(PluginContractError) as caught:
            await AdaptedDriver(runtime, selected.origin).create(SPEC)
    assert str(caught.value) == f"plugin acme (longshore-acme 1.0): {message}"


async def test_a_crash_while_opening_is_a_crash(install, tmp_path: Path) -> None:
    source = driver().replace(
        "        yield Runtime", "        raise OSError('x')\n        yield Runtime"
    )
    install("longshore-acme", DRIVERS, "acme", source)
    selected = hooks.select(hooks.DRIVERS, "acme")
    with pytest.raises(PluginCrash, match="open raised OSError: x"):
        async with opened(selected, {}, host(tmp_path), "driver"):
            pytest.fail("it opened")


VOTER = "from longshore_core import hookimpl\n@hookimpl\ndef longshore_admit(spec):\n    {}\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return None", None),
        ("return 'no'", "vetoed by plugin v (acme-v 1.0): no"),
        (
            "raise KeyError('x')",
            "vetoed by plugin v (acme-v 1.0):"
            " plugin v (acme-v 1.0): longshore_admit raised KeyError: 'x'",
        ),
    ],
)
async def test_a_reason_and_a_crash_are_vetoes(install, body: str, reason: str | None) -> None:
    install("acme-v", "longshore.admissions", "v", VOTER.format(body))
    assert await hooks.admission(["v"], []).veto(SPEC) == reason


async def test_a_late_answer_is_a_veto(install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "VETO_SECONDS", 0.05)
    install("acme-v", "longshore.admissions", "v", VOTER.format("import time; time.sleep(0.3)"))
    reason = await hooks.admission(["v"], []).veto(SPEC)
    assert reason == "vetoed by plugin v (acme-v 1.0): no answer within 0.05 seconds"


async def test_voters_are_asked_in_the_order_of_the_config(install) -> None:
    install("acme-a", "longshore.admissions", "a", VOTER.format("return 'a'"))
    install("acme-b", "longshore.admissions", "b", VOTER.format("return 'b'"))
    assert await hooks.admission(["b", "a"], []).veto(SPEC) == (
        "vetoed by plugin b (acme-b 1.0): b"
    )


def test_every_built_in_is_found_through_its_entry_point() -> None:
    names = {(item.group, item.name) for item in catalog.installed()}
    assert names >= {
        ("longshore.drivers", "null"),
        ("longshore.guests", "bare"),
        ("longshore.networks", "open"),
        ("longshore.registries", "static"),
        ("longshore.middlewares", "cors"),
        ("longshore.secrets", "none"),
    }
    for seam in hooks.SEAMS:
        for item in catalog.installed([seam.group]):
            if item.distribution == "longshore-core":
                assert hooks.select(seam, item.name).origin == item


def test_a_distribution_twice_on_the_path_is_one_and_the_first(install) -> None:
    install("longshore-acme", DRIVERS, "acme", driver(), version="1.0")
    site = Path(sys.path[0])
    (copy := site.parent / "copy" / "Longshore.Acme-0.9.dist-info").mkdir(parents=True)
    for name in ("METADATA", "entry_points.txt"):
        text = (site / "longshore_acme-1.0.dist-info" / name).read_text()
        changed = text.replace("longshore-acme", "Longshore.Acme").replace("1.0", "0.9")
        (copy / name).write_text(changed)
    (site.parent / "copy" / "~roken-1.0.dist-info").mkdir()
    sys.path.insert(1, str(site.parent / "copy"))
    try:
        assert hooks.select(hooks.DRIVERS, "acme").origin.provenance == "longshore-acme 1.0"
    finally:
        sys.path.pop(1)


@pytest.mark.parametrize(
    ("source", "shown"),
    [("assert False, 'no'", "AssertionError('no')"), ("raise SystemExit(3)", "SystemExit(3)")],
)
def test_whatever_an_import_raises_names_the_distribution(install, source, shown) -> None:
    install("longshore-acme", DRIVERS, "acme", source)
    with pytest.raises(PluginLoadError) as caught:
        hooks.select(hooks.DRIVERS, "acme")
    assert str(caught.value).endswith(f"cannot import longshore_acme.plugin: {shown}")


@pytest.mark.parametrize(
    ("plug", "message"),
    [
        ("config=dict, open=open_acme", "Plug.config is not a pydantic model's class"),
        ("config=Config, open=None", "Plug.open cannot be called"),
        ("config=Config, open=open_acme, api='1.0'", "Plug.api is '1.0', not (major, minor)"),
    ],
)
def test_half_a_plug_is_refused(install, plug: str, message: str) -> None:
    source = driver().replace("config=Config, open=open_acme, api=(1, 0)", plug)
    install("longshore-acme", DRIVERS, "acme", source)
    with pytest.raises(PluginContractError) as caught:
        hooks.select(hooks.DRIVERS, "acme")
    assert str(caught.value) == f"plugin acme (longshore-acme 1.0): {message}"


async def test_an_answer_that_is_no_text_is_a_veto(install) -> None:
    install("acme-v", "longshore.admissions", "v", VOTER.format("return 1"))
    reason = await hooks.admission(["v"], []).veto(SPEC)
    assert reason == "vetoed by plugin v (acme-v 1.0): longshore_admit returned a int, not a text"


async def test_a_voter_that_hangs_is_not_given_more_and_more_threads(
    install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "VOTES", 2)
    install("acme-v", "longshore.admissions", "v", VOTER.format("import time; time.sleep(0.5)"))
    admission = hooks.admission(["v"], [])
    (voter,) = admission.voters
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(admission.veto, SPEC)
        with anyio.fail_after(5):
            while len(voter.asked) < 2:
                await anyio.sleep(0)
        assert await admission.veto(SPEC) == (
            "vetoed by plugin v (acme-v 1.0): it still has not answered 2 earlier questions"
        )
    assert not voter.asked
    assert await admission.veto(SPEC) is None


@pytest.mark.parametrize(
    "fault", [SystemExit(1), KernelBug("not ours"), ExceptionGroup("", [OSError()])]
)
def test_what_would_end_the_worker_is_the_plugin_s_crash(fault) -> None:
    origin = catalog.Installed(group="g", name="n", value="v", distribution="d", version="1")
    with (
        pytest.raises(PluginCrash, match=r"plugin n \(d 1\): work raised "),
        hooks.blame(origin, "work"),
    ):
        raise fault
