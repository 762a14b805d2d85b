"""What is made of an end."""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV

import pytest
from longshore_core import Exit, Phase
from longshore_podman.answers import Container
from longshore_podman.endings import Ending, exit_of


def ended(code: int | None, *, oom: bool = False) -> Container:
    return Container(id="i", name="n", labels={}, phase=Phase.EXITED, exit_code=code, oom=oom)


@pytest.mark.parametrize(
    ("code", "seen", "exit_"),
    [
        (0, None, Exit(code=0)),
        (43, None, Exit(code=43)),
        (None, None, Exit()),
        (137, None, Exit(signal=SIGKILL)),
        (139, None, Exit(signal=SIGSEGV)),
        (255, None, Exit(code=255)),
        (137, Ending(137 << 8, oom=False), Exit(code=137)),
        (137, Ending(9, oom=False), Exit(signal=SIGKILL)),
        (137, Ending(9, oom=True), Exit(signal=SIGKILL, oom=True)),
        (137, Ending(None, oom=True), Exit(signal=SIGKILL, oom=True)),
        (139, Ending(11, oom=True), Exit(signal=SIGSEGV)),
        (1, Ending(1 << 8, oom=True), Exit(code=1)),
        (0, Ending(0, oom=True), Exit(code=0)),
    ],
)
def test_the_kernel_is_believed_before_the_engine(
    code: int | None, seen: Ending | None, exit_: Exit
) -> None:
    assert exit_of(ended(code), seen) == exit_


def test_an_engine_that_noticed_is_believed() -> None:
    assert exit_of(ended(137, oom=True), None) == Exit(signal=SIGKILL, oom=True)
