"""One life of a container, told in JSON: what a worker of another user does with the driver.

python a_life.py ADDRESS STATE_DIR IMAGE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from signal import SIGKILL

import anyio
from longshore_core import ContainerId, ContainerSpec, Limits, UnixReach, UnsupportedCapability
from longshore_core.abc import Runtime
from longshore_core.testing.bench import bare_host
from longshore_podman import longshore_driver

SCRIPT = 'echo hello; id -u > "$LONGSHORE_SOCKETS/said"; exec sleep 1000'


async def live(runtime: Runtime, image: str) -> dict[str, object]:
    driver, told = runtime.driver, dict[str, object]()
    assert runtime.exec is not None
    assert runtime.logs is not None
    spec = ContainerSpec(
        id=ContainerId("one"), image=image, argv=("/bin/sh", "-c", SCRIPT), sockets=True
    )
    handle = await driver.create(spec)
    attachment = await driver.start(handle)
    assert isinstance(attachment.reach, UnixReach)
    async with runtime.exec.run(handle, ["sh", "-c", "cat; exit 7"], env={}) as process:
        await process.send_eof()
        told["code"] = await process.wait()
    async with runtime.exec.run(handle, ["sleep", "2000"], env={}):
        pass
    count = "ps -o args | grep -c '^sleep 2000'"
    async with runtime.exec.run(handle, ["sh", "-c", count], env={}) as counting:
        told["left running"] = b"".join([chunk.data async for chunk in counting.output()]).decode()
    said = Path(attachment.reach.path, "said")
    told["inside"], told["outside"] = said.read_text(), said.stat().st_uid
    said.unlink()
    async with runtime.logs.logs(handle) as chunks:
        told["log"] = b"".join([chunk.data async for chunk in chunks]).decode()
    await driver.signal(handle, SIGKILL)
    exit_ = await driver.wait(handle)
    told["end"] = [exit_.code, exit_.signal, exit_.oom]
    await driver.remove(handle)
    return told


async def refused(runtime: Runtime, image: str) -> bool:
    spec = ContainerSpec(
        id=ContainerId("two"), image=image, argv=("true",), limits=Limits(memory_bytes=64 << 20)
    )
    try:
        await runtime.driver.remove(await runtime.driver.create(spec))
    except UnsupportedCapability:
        return True
    return False


async def main(address: str, place: str, image: str) -> None:
    plug = longshore_driver()
    host = bare_host("podman", "w-rootless/driver", Path(place))
    async with plug.open(plug.config.model_validate({"address": address}), host) as runtime:
        with anyio.fail_after(60):
            told = await live(runtime, image)
            told["limits"] = sorted(runtime.facts.limits)
            told["refused"] = await refused(runtime, image)
            told["left"] = len(await runtime.driver.survey())
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
