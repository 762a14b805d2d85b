"""Errors, results and frames, without anybody to talk to."""

from __future__ import annotations

import copy
import errno
import pickle
import time
from collections.abc import Callable

import longshore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore import CommandError, CommandTimeoutError, Result, SandboxError, deadline
from longshore._deadline import check_deadline, remaining
from longshore._frames import FrameReader, MalformedFrame
from longshore._line import address_of_port

KINDS: list[type[SandboxError]] = sorted(
    (
        value
        for name in longshore.__all__
        if name.endswith("Error") and issubclass(value := getattr(longshore, name), SandboxError)
    ),
    key=lambda kind: kind.__name__,
)


def result(**fields: object) -> Result:
    known = {"command": "x", "pid": 7, "exit_code": 1, "stdout": b"", "stderr": b"", **fields}
    return Result(**known)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_pickling_with_all_it_knows(
    kind: type[SandboxError], duplicate: Callable[[SandboxError], SandboxError]
) -> None:
    error = kind(
        "CODE", "it broke", retryable=True, request_id="r", sandbox_id="s", phase="files.read"
    )
    again = duplicate(error)
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert str(again) == str(error) == "it broke (CODE, sandbox s, request r)"
    assert again.args == error.args


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_can_be_hashed_and_is_itself_alone(kind: type[SandboxError]) -> None:
    one, other = kind("CODE", "it broke"), kind("CODE", "it broke")
    assert len({one, other}) == 2


@pytest.mark.parametrize(
    ("name", "builtin", "number"),
    [
        ("SandboxTimeoutError", TimeoutError, errno.ETIMEDOUT),
        ("SandboxConnectionError", ConnectionError, errno.ECONNABORTED),
        ("SandboxFileNotFoundError", FileNotFoundError, errno.ENOENT),
        ("SandboxPermissionError", PermissionError, errno.EACCES),
        ("SandboxIsADirectoryError", IsADirectoryError, errno.EISDIR),
        ("SandboxNotADirectoryError", NotADirectoryError, errno.ENOTDIR),
        ("ProcessNotFoundError", ProcessLookupError, errno.ESRCH),
        ("StdinClosedError", BrokenPipeError, errno.EPIPE),
        ("CommandTimeoutError", TimeoutError, errno.ETIMEDOUT),
    ],
)
def test_an_error_is_the_builtin_that_one_expects(
    name: str, builtin: type[OSError], number: int
) -> None:
    error = getattr(longshore, name)("CODE", "it broke")
    assert isinstance(error, builtin)
    assert isinstance(error, SandboxError)
    assert error.errno == number


def test_a_failed_command_has_its_result_also_after_pickling() -> None:
    with pytest.raises(CommandError) as caught:
        result(stderr=b"first\nno such thing\n").check()
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.result == caught.value.result
    assert str(again) == "'x' ended with 1: no such thing (COMMAND_FAILED)"


def test_a_command_that_timed_out_has_an_error_of_its_own() -> None:
    with pytest.raises(CommandTimeoutError, match="timed out") as caught:
        result(exit_code=-9, timed_out=True).check()
    assert caught.value.code == "COMMAND_TIMED_OUT"


def test_a_command_that_went_well_is_its_own_check() -> None:
    fine = result(exit_code=0, stdout=b"\xff!")
    assert fine.check() is fine
    assert fine.text == "\ufffd!"


def test_of_nested_deadlines_the_earliest_holds() -> None:
    with deadline(0.01):
        with deadline(60):
            assert remaining() < 1
            time.sleep(remaining())
            with pytest.raises(TimeoutError, match="the deadline has passed during run"):
                check_deadline("run")
        assert remaining() == 0
    check_deadline("run")


frames = st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=300)), max_size=8)


@given(frames, st.data())
def test_frames_are_put_together_from_pieces_of_any_size(
    wanted: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    sent = b"".join(bytes([k, 0, 0, 0]) + len(d).to_bytes(4) + d for k, d in wanted)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=20)))
    reader = FrameReader()
    found = [
        (frame.kind, frame.data)
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)
        for frame in reader.feed(sent[start:end])
    ]
    assert found == wanted
    assert reader.is_between


@given(st.binary(min_size=8, max_size=8))
def test_what_is_no_frame_is_said_to_be_none(head: bytes) -> None:
    fine = head[0] in (0, 1, 2) and head[1:4] == b"\0\0\0" and int.from_bytes(head[4:]) <= 16 << 20
    try:
        assert [frame.data for frame in FrameReader().feed(head)] in ([], [b""])
    except MalformedFrame:
        assert not fine
    else:
        assert fine


@pytest.mark.parametrize(
    ("sandbox_url", "url"),
    [
        ("http://127.0.0.1:8095", "http://8080-abc.localhost:8095"),
        ("http://localhost:8095", "http://8080-abc.localhost:8095"),
        ("https://abc.sandboxes.example:9443", "https://8080-abc.sandboxes.example:9443"),
        ("https://abc.sandboxes.example", "https://8080-abc.sandboxes.example"),
        ("http://proxy.internal:8095", "http://8080-abc.proxy.internal:8095"),
    ],
)
def test_a_port_is_known_by_the_name_of_its_host(sandbox_url: str, url: str) -> None:
    assert address_of_port(sandbox_url, "abc", 8080) == url
