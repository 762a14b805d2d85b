"""What a driver says of itself."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any, Final

from anyio import to_thread
from pydantic import BaseModel, SecretBytes, SecretStr

from longshore_core._errors import ConfigError, PluginContractError
from longshore_core._model import PLUGIN_API
from longshore_core._plugins.hooks import accept
from longshore_core.process import config
from longshore_core.testing.bench import HANDLE, Bench, SeamBench
from longshore_core.testing.expect import Broken, equal, expect
from longshore_core.testing.law import Group, Law, laws_in

INFO: Final[Group[SeamBench[Any]]] = Group("info")

_QUICK_SECONDS: Final = 0.05
_SECRET: Final = ("password", "secret", "token", "credential")


@INFO.law("I1")
async def describing_itself_is_quick_and_always_the_same(bench: SeamBench[Any]) -> None:
    schemas = list[object]()
    quickest = 1e9
    for _ in range(3):
        began = time.perf_counter()
        schemas.append(bench.subject.describe())
        # Others use this machine too.
        quickest = min(quickest, time.perf_counter() - began)
    expect(schemas[0] == schemas[1] == schemas[2], "its config has another schema each time")
    expect(quickest < _QUICK_SECONDS, f"describing itself takes {quickest * 1000:.0f} ms")


@INFO.law("I1.2")
async def its_config_has_a_schema_that_json_can_hold(bench: SeamBench[Any]) -> None:
    model = bench.subject.plug.config
    expect(issubclass(model, BaseModel), "config is no pydantic model")
    schema = json.loads(json.dumps(model.model_json_schema()))
    equal(schema.get("type"), "object", "the type of its config")
    expect(
        "type" not in model.model_fields, "its config has a field `type`, which never reaches it"
    )


@INFO.law("I2")
async def an_unknown_key_is_refused_by_its_name(bench: SeamBench[Any]) -> None:
    model: type[BaseModel] = bench.subject.plug.config
    for name in [*list(model.model_fields)[:1], "colour_of_the_hull"]:
        wrong = name if name not in model.model_fields else f"{name}x"
        try:
            config.validate(model, {**bench.subject.options, wrong: 1}, at=("plugin",))
        except ConfigError as exc:
            expect(wrong in str(exc), f"the error does not name the key {wrong!r}: {exc}")
            hint = name == wrong or f"did you mean {name!r}" in str(exc)
            expect(hint, f"the error does not name {name!r}, which is near: {exc}")
        else:
            raise Broken(f"the key {wrong!r} is taken, and means nothing")


@INFO.law("I2.2")
async def a_secret_in_its_config_has_no_repr(bench: SeamBench[Any]) -> None:
    model: type[BaseModel] = bench.subject.plug.config
    for name, field in model.model_fields.items():
        if any(word in name.lower() for word in _SECRET):
            shown = str(field.annotation)
            hidden = any(kind.__name__ in shown for kind in (SecretStr, SecretBytes))
            harmless = "bool" in shown or "int" in shown or "Path" in shown
            expect(hidden or harmless, f"{name} smells of a secret, and is not a SecretStr")


@INFO.law("I3")
async def an_api_that_the_kernel_does_not_offer_is_refused_with_both_versions(
    bench: SeamBench[Any],
) -> None:
    plug, origin = bench.subject.plug, bench.subject.origin
    accept(bench.subject.seam, origin, plug)
    major, minor = PLUGIN_API
    for wanted in ((major + 1, 0), (major, minor + 1)):
        try:
            accept(bench.subject.seam, origin, replace(plug, api=wanted))
        except PluginContractError as exc:
            for version in (wanted, PLUGIN_API):
                shown = ".".join(map(str, version))
                expect(shown in str(exc), f"the error does not name version {shown}: {exc}")
        else:
            raise Broken(f"a plugin that needs API {wanted} was taken")


@INFO.law("I4")
async def opening_and_closing_leaves_nothing_on_the_host(bench: SeamBench[Any]) -> None:
    host = bench.host("worker-2/driver", state="scratch/second")
    async with bench.subject.open(host):
        pass  # the first time, it may furnish its state directory
    before = await to_thread.run_sync(bench.view.look)
    async with bench.subject.open(host):
        pass
    left = await bench.left_since(before)
    expect(not left, f"left by an open and a close: {', '.join(left)}")


FACTS: Final[Group[Bench]] = Group("info")


@FACTS.law("I5")
async def its_facts_do_not_change(bench: Bench) -> None:
    first = bench.facts
    await bench.running("c", "exit 0")
    equal(bench.facts, first, "its facts after a start")
    await bench.reopen()
    equal(bench.facts, first, "its facts after it was opened again")


@FACTS.law("I6")
async def a_handle_is_small_and_json(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", "exit 0", labels={"a": "b"}))
    equal(bench.stored(handle), handle, "the handle, read back from JSON")
    size = len(HANDLE.dump_json(handle))
    expect(size <= 16 << 10, f"the handle has {size} bytes; 16 KiB is the most")


@FACTS.law("I7")
async def a_fact_that_needs_an_ability_has_it(bench: Bench) -> None:
    paused = not bench.facts.pause_with_memory or bench.thing.pause is not None
    expect(paused, "its facts say that it pauses with memory, and its runtime has no `pause`")


LAWS: Final[tuple[Law[Any], ...]] = laws_in(globals())
SEAM_LAWS: Final[tuple[Law[Any], ...]] = LAWS[: LAWS.index(its_facts_do_not_change)]
"""Of every kind of plugin; those after it are about containers."""
