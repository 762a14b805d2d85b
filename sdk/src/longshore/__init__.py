"""Sandboxes from Python, and the `longshore` command.

`Sandbox` is for code that blocks, `AsyncSandbox` for code that awaits; the two are otherwise the
same. Whatever can go wrong with them is a `SandboxError`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore._async_inside import AsyncFiles, AsyncFileStream, AsyncOutput, AsyncProcess
    from longshore._async_sandbox import AsyncSandbox
    from longshore._deadline import deadline
    from longshore._errors import (
        CommandError,
        CommandTimeoutError,
        ProcessNotFoundError,
        SandboxConnectionError,
        SandboxError,
        SandboxFileNotFoundError,
        SandboxIsADirectoryError,
        SandboxNotADirectoryError,
        SandboxNotFoundError,
        SandboxPermissionError,
        SandboxTerminatedError,
        SandboxTimeoutError,
        StdinClosedError,
    )
    from longshore._inside import Files, FileStream, Output, Process
    from longshore._model import (
        Chunk,
        Command,
        CreateOptions,
        Endpoint,
        FileInfo,
        GuestInfo,
        ProcessInfo,
        Reply,
        Result,
        SandboxInfo,
    )
    from longshore._opening import Opening
    from longshore._sandbox import Sandbox

__version__ = "0.1.0"
__all__ = [
    "AsyncFileStream",
    "AsyncFiles",
    "AsyncOutput",
    "AsyncProcess",
    "AsyncSandbox",
    "Chunk",
    "Command",
    "CommandError",
    "CommandTimeoutError",
    "CreateOptions",
    "Endpoint",
    "FileInfo",
    "FileStream",
    "Files",
    "GuestInfo",
    "Opening",
    "Output",
    "Process",
    "ProcessInfo",
    "ProcessNotFoundError",
    "Reply",
    "Result",
    "Sandbox",
    "SandboxConnectionError",
    "SandboxError",
    "SandboxFileNotFoundError",
    "SandboxInfo",
    "SandboxIsADirectoryError",
    "SandboxNotADirectoryError",
    "SandboxNotFoundError",
    "SandboxPermissionError",
    "SandboxTerminatedError",
    "SandboxTimeoutError",
    "StdinClosedError",
    "deadline",
]
# Imported when asked for: the command, above all `--version`, must not wait for an HTTP client.
_MODULES = {
    "AsyncFileStream": "_async_inside",
    "AsyncFiles": "_async_inside",
    "AsyncOutput": "_async_inside",
    "AsyncProcess": "_async_inside",
    "AsyncSandbox": "_async_sandbox",
    "Chunk": "_model",
    "Command": "_model",
    "CommandError": "_errors",
    "CommandTimeoutError": "_errors",
    "CreateOptions": "_model",
    "Endpoint": "_model",
    "FileInfo": "_model",
    "FileStream": "_inside",
    "Files": "_inside",
    "GuestInfo": "_model",
    "Opening": "_opening",
    "Output": "_inside",
    "Process": "_inside",
    "ProcessInfo": "_model",
    "ProcessNotFoundError": "_errors",
    "Reply": "_model",
    "Result": "_model",
    "Sandbox": "_sandbox",
    "SandboxConnectionError": "_errors",
    "SandboxError": "_errors",
    "SandboxFileNotFoundError": "_errors",
    "SandboxInfo": "_model",
    "SandboxIsADirectoryError": "_errors",
    "SandboxNotADirectoryError": "_errors",
    "SandboxNotFoundError": "_errors",
    "SandboxPermissionError": "_errors",
    "SandboxTerminatedError": "_errors",
    "SandboxTimeoutError": "_errors",
    "StdinClosedError": "_errors",
    "deadline": "_deadline",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"longshore.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
