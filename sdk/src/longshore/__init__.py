"""Sandboxes from Python, and the `longshore` command.

`Sandbox` is for code that blocks, `AsyncSandbox` for code that awaits; the two are otherwise the
same. Whatever can go wrong with them is a `SandboxError`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore._async_inside import AsyncOutput, AsyncProcess
    from longshore._async_inside_channels import AsyncTerminal, AsyncTunnel
    from longshore._async_inside_files import AsyncChanges, AsyncFiles, AsyncFileStream
    from longshore._async_sandbox import AsyncSandbox
    from longshore._deadline import deadline
    from longshore._errors import (
        CommandError,
        CommandTimeoutError,
        ProcessNotFoundError,
        SandboxConnectionError,
        SandboxError,
        SandboxFileExistsError,
        SandboxFileNotFoundError,
        SandboxIsADirectoryError,
        SandboxNotADirectoryError,
        SandboxNotFoundError,
        SandboxPermissionError,
        SandboxTerminatedError,
        SandboxTimeoutError,
        StdinClosedError,
    )
    from longshore._inside import Output, Process
    from longshore._inside_channels import Terminal, Tunnel
    from longshore._inside_files import Changes, Files, FileStream
    from longshore._model import (
        Change,
        Chunk,
        Command,
        CreateOptions,
        Endpoint,
        FileInfo,
        FileStat,
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
    "AsyncChanges",
    "AsyncFileStream",
    "AsyncFiles",
    "AsyncOutput",
    "AsyncProcess",
    "AsyncSandbox",
    "AsyncTerminal",
    "AsyncTunnel",
    "Change",
    "Changes",
    "Chunk",
    "Command",
    "CommandError",
    "CommandTimeoutError",
    "CreateOptions",
    "Endpoint",
    "FileInfo",
    "FileStat",
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
    "SandboxFileExistsError",
    "SandboxFileNotFoundError",
    "SandboxInfo",
    "SandboxIsADirectoryError",
    "SandboxNotADirectoryError",
    "SandboxNotFoundError",
    "SandboxPermissionError",
    "SandboxTerminatedError",
    "SandboxTimeoutError",
    "StdinClosedError",
    "Terminal",
    "Tunnel",
    "deadline",
]
# Imported when asked for: the command, above all `--version`, must not wait for an HTTP client.
_MODULES = {
    "AsyncChanges": "_async_inside_files",
    "AsyncFileStream": "_async_inside_files",
    "AsyncFiles": "_async_inside_files",
    "AsyncOutput": "_async_inside",
    "AsyncProcess": "_async_inside",
    "AsyncSandbox": "_async_sandbox",
    "AsyncTerminal": "_async_inside_channels",
    "AsyncTunnel": "_async_inside_channels",
    "Change": "_model",
    "Changes": "_inside_files",
    "Chunk": "_model",
    "Command": "_model",
    "CommandError": "_errors",
    "CommandTimeoutError": "_errors",
    "CreateOptions": "_model",
    "Endpoint": "_model",
    "FileInfo": "_model",
    "FileStat": "_model",
    "FileStream": "_inside_files",
    "Files": "_inside_files",
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
    "SandboxFileExistsError": "_errors",
    "SandboxFileNotFoundError": "_errors",
    "SandboxInfo": "_model",
    "SandboxIsADirectoryError": "_errors",
    "SandboxNotADirectoryError": "_errors",
    "SandboxNotFoundError": "_errors",
    "SandboxPermissionError": "_errors",
    "SandboxTerminatedError": "_errors",
    "SandboxTimeoutError": "_errors",
    "StdinClosedError": "_errors",
    "Terminal": "_inside_channels",
    "Tunnel": "_inside_channels",
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
