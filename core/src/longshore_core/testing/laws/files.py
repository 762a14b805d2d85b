"""Moving files into a container and out of it."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Final

import anyio
from anyio import to_thread

from longshore_core._errors import GuestError
from longshore_core.testing.bench import Bench, every
from longshore_core.testing.expect import equal, eventually, expect, refused
from longshore_core.testing.law import SOCKETS, Group, Law, laws_in
from longshore_core.testing.session import Answer

FILES: Final[Group[Bench]] = Group("files", requires=(SOCKETS,))

_MIB: Final = 1 << 20
_ODD: Final = (
    b"plain",
    b"two words",
    b"line\nbreak",
    "ünï-😀".encode(),
    b"not-utf8-\xff\xfe",
    b"%2e%2e&x=1?#+",
    b"-rf",
    b"x" * 200,
)


@FILES.law("P1", traced=True)
async def what_was_written_is_read_back_byte_for_byte(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    for name, data in (("empty", b""), ("bytes", bytes(range(256)) * 40), ("text", b"a\r\nb\n")):
        path = f"{bench.inside}/new/deep/{name}"
        equal((await sandbox.write(path, data)).status, 204, f"the status of writing {name}")
        answer = await sandbox.read(path)
        equal((answer.status, answer.body == data), (200, True), f"status and bytes of {name}")


@FILES.law("P2")
async def odd_names_are_names_like_any_other(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    for name in _ODD:
        path = f"{bench.inside}/odd/".encode() + name
        equal((await sandbox.write(path, name)).status, 204, f"the status of writing {name!r}")
        equal((await sandbox.read(path)).body, name, f"what is in {name!r}")
    listed = await sandbox.run("sh", "-c", f"ls -A {bench.inside}/odd | wc -c")
    equal(int(listed.stdout), sum(len(name) + 1 for name in _ODD), "the length of all names")
    for name in _ODD:
        path = f"{bench.inside}/odd/".encode() + name
        equal((await sandbox.delete(path)).status, 204, f"the status of deleting {name!r}")
        equal((await sandbox.read(path)).status, 404, f"the status of reading {name!r} after that")


@FILES.law("P3", traced=True)
async def a_path_that_climbs_is_refused(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    for path in ("../x", "/tmp/../etc/passwd", "a/../../b", ".."):
        answer = await sandbox.read(path)
        equal((answer.status, answer.code), (403, "PATH_TRAVERSAL"), f"the answer to {path}")
        equal((await sandbox.write(path, b"x")).status, 403, f"the status of writing {path}")
    escaped = await sandbox.ask("GET", "files?path=%2e%2e%2fetc%2fpasswd")
    equal(escaped.status, 403, "the status of a path that climbs in disguise")


@FILES.law("P4", seconds=150)
async def a_large_file_streams_and_is_never_held_whole(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    size = bench.many(24, 256) * _MIB
    data = await to_thread.run_sync(bench.random.randbytes, size)
    path = f"{bench.inside}/large"
    equal((await sandbox.write(path, data)).status, 204, "the status of writing it")
    digest, length = hashlib.sha256(), 0
    async with sandbox.call("GET", f"files?path={path}") as call:
        await call.begin()
        async for piece in call.pieces():
            digest.update(piece)
            length += len(piece)
    wanted = hashlib.sha256(data).hexdigest()
    equal((length, digest.hexdigest()), (size, wanted), "length and hash of what came back")
    peak = await sandbox.run("sh", "-c", "grep VmHWM /proc/$PPID/status")
    expect(peak.stdout, "the guest's memory cannot be read")
    held = int(peak.stdout.split()[1]) << 10
    expect(held < 64 * _MIB, f"the guest held {held >> 20} MiB for a file of {size >> 20} MiB")


@FILES.law("P5")
async def a_file_is_replaced_whole_or_not_at_all(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    path = f"{bench.inside}/file"
    versions = [bytes([65 + n]) * (_MIB // 2) for n in range(6)]
    await sandbox.write(path, versions[0])
    seen = list[Answer]()

    async def watch(scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                seen.append(await sandbox.read(path))

    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        tasks.start_soon(watch, scope)
        for version in versions:
            await sandbox.write(path, version)
        scope.cancel()
    torn = [each for each in seen if each.body not in versions]
    expect(not torn, f"{len(torn)} of {len(seen)} reads saw what nobody has written")
    expect(seen, "nothing was read")


@FILES.law("P6")
async def of_many_who_write_one_file_one_wins_whole(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    path = f"{bench.inside}/file"
    versions = [bytes([65 + n]) * (_MIB // 4) for n in range(8)]
    answers = await every([partial(sandbox.write, path, version) for version in versions])
    statuses = [each.status if isinstance(each, Answer) else each for each in answers]
    equal(statuses, [204] * 8, "the statuses of eight writers")
    expect((await sandbox.read(path)).body in versions, "the file is a mixture")
    left = await sandbox.list(bench.inside)
    equal([e["name"] for e in left.data["entries"]], ["file"], "what is in its directory")


@FILES.law("P7", traced=True)
async def what_is_not_there_or_is_a_directory_is_refused_by_its_code(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    await sandbox.write(f"{bench.inside}/something", b"")
    nothing, directory = f"{bench.inside}/nothing", bench.inside
    found = {
        "read nothing": await sandbox.read(nothing),
        "delete nothing": await sandbox.delete(nothing),
        "list nothing": await sandbox.list(nothing),
        "read a directory": await sandbox.read(directory),
        "write a directory": await sandbox.write(directory, b""),
        "delete a directory": await sandbox.delete(directory),
    }
    wanted = dict.fromkeys(list(found)[:3], (404, "NOT_FOUND"))
    wanted |= dict.fromkeys(list(found)[3:], (400, "IS_DIRECTORY"))
    equal({name: (a.status, a.code) for name, a in found.items()}, wanted, "the answers")


@FILES.law("P8")
async def a_part_of_a_file_can_be_asked_for(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    path, data = f"{bench.inside}/file", bytes(range(256)) * 4
    await sandbox.write(path, data)
    for asked, part in (("0-9", data[:10]), ("1000-", data[1000:]), ("-24", data[-24:])):
        headers = [("Range", f"bytes={asked}")]
        answer = await sandbox.ask("GET", f"files?path={path}", headers=headers)
        equal((answer.status, answer.body), (206, part), f"the part {asked}")
    answer = await sandbox.ask("GET", f"files?path={path}", headers=[("Range", "bytes=5000-")])
    equal(answer.status, 416, "the status of a part that is not there")


@FILES.law("P9")
async def a_list_tells_names_kinds_and_sizes(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    for name in ("one", "folder/two"):
        await sandbox.write(f"{bench.inside}/{name}", b"12345")
    entries = (await sandbox.list(bench.inside)).data["entries"]
    found = [(each["name"], each["is_dir"]) for each in entries]
    equal(found, [("folder", True), ("one", False)], "the entries, directories first")
    equal(entries[1]["size"], 5, "the size of a file")


@FILES.law("P10")
async def an_upload_that_breaks_off_leaves_the_file_as_it_was(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    path = f"{bench.inside}/file"
    await sandbox.write(path, b"before")
    await sandbox.break_off("PUT", f"files?path={path}", b"x" * 100_000, claimed=200_000)
    for _ in range(5):
        equal((await sandbox.read(path)).body, b"before", "the file after an upload broke off")

    async def tidied() -> bool:
        return len((await sandbox.list(bench.inside)).data["entries"]) == 1

    await eventually(tidied, "what was begun is tidied away")


@FILES.law("P11")
async def files_of_a_container_that_is_gone_cannot_be_reached(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    await bench.driver.remove(sandbox.handle)
    await refused(sandbox.read("/etc/hostname"), "reading from what is gone", GuestError)


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
