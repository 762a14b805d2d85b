"""`longshore sandbox cp`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import click
from click.shell_completion import CompletionItem

from longshore._errors import SandboxError
from longshore._inside_files import Files
from longshore._refusal import Refusal
from longshore._sandbox import Sandbox
from longshore._sandboxes.options import Place, complete_sandbox, place_options
from longshore._sandboxes.plain import plain
from longshore._sandboxes.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a copy."""

    sandbox: str | None
    """None: here."""
    path: str

    @classmethod
    def of(cls, text: str) -> End:
        """`SANDBOX:PATH`; a path of ours that has a colon begins with `/` or `.`."""
        sandbox, colon, path = text.partition(":")
        if not colon or sandbox.startswith((".", "/")) or "/" in sandbox:
            return cls(sandbox=None, path=text)
        return cls(sandbox=sandbox, path=path or ".")


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """A file of ours, or a sandbox."""
    if incomplete.startswith((".", "/")):
        return [CompletionItem(incomplete, type="file")]
    found = complete_sandbox(context, parameter, incomplete)
    return [CompletionItem(f"{item.value}:", help=item.help) for item in found] or [
        CompletionItem(incomplete, type="file")
    ]


@click.command()
@click.argument("source", shell_complete=_complete)
@click.argument("target", shell_complete=_complete)
@click.option("-q", "--quiet", is_flag=True, help="No progress, also on a terminal.")
@place_options
def command(place: Place, source: str, target: str, quiet: bool) -> None:
    """Copy files and directories into a sandbox, or out of it.

    One end is SANDBOX:PATH. What is copied into a directory that there is keeps its name, unless it
    ends with /. as in `cp -r`. Permission bits are kept, links stay links.

    \b
    Examples:
      longshore sandbox cp data.csv SANDBOX:
      longshore sandbox cp ./project SANDBOX:/srv
      longshore sandbox cp SANDBOX:result.json .
      longshore sandbox cp SANDBOX:/var/log/. ./logs
    """
    there, here = End.of(source), End.of(target)
    ends = [end.sandbox for end in (there, here) if end.sandbox is not None]
    if len(ends) != 1:
        raise Refusal("one of the two must be SANDBOX:PATH, and the other a path of this machine")
    with Sandbox.attach(ends[0], **place.endpoint) as sandbox:
        try:
            if there.sandbox is None:
                _upload(sandbox.files, Path(source), here.path, source, quiet=quiet)
            else:
                _download(sandbox.files, there.path, Path(target), target, quiet=quiet)
        except SandboxError:
            raise
        except OSError as exc:
            name = os.fsdecode(exc.filename or source)
            raise Refusal(plain(f"cannot copy {name}: {exc.strerror}")) from exc


def _upload(files: Files, local: Path, path: str, text: str, *, quiet: bool) -> None:
    """Raises OSError, SandboxError."""
    is_dir = local.stat() and local.is_dir()
    total = sum(_sizes(local)) if is_dir else local.stat().st_size
    if not text.endswith("/.") and (path.endswith("/") or _is_dir(files, path)):
        path = os.path.join(path, local.resolve().name)
    with Progress(local.name, total, quiet=quiet) as progress:
        files.upload(local, path, progress=progress.advance)


def _sizes(directory: Path) -> list[int]:
    found = [Path(top, name) for top, _, names in os.walk(directory) for name in names]
    return [path.lstat().st_size for path in found if path.is_file() and not path.is_symlink()]


def _is_dir(files: Files, path: str) -> bool:
    return files.exists(path) and files.stat(path).is_dir


def _download(files: Files, path: str, local: Path, text: str, *, quiet: bool) -> None:
    """Raises OSError, SandboxError."""
    found = files.stat(path)
    name = PurePosixPath(path).name
    if text.endswith("/") and not local.is_dir():
        raise NotADirectoryError(0, "is no directory", text)
    if not path.endswith("/.") and name not in ("", "..") and local.is_dir():
        local /= name
    with Progress(name, None if found.is_dir else found.size, quiet=quiet) as progress:
        files.download(path, local, progress=progress.advance)
