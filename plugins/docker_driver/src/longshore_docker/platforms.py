"""Whose programs the engine's host can run. Pure but for the list of its emulators.

Platforms are as images have them: `linux/arm64`, sometimes with a variant behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from longshore_core import ImageError

from longshore_docker.answers import Image
from longshore_docker.config import Config

EMULATORS: Final = Path("/proc/sys/fs/binfmt_misc")
_BY_EMULATORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "386": "i386",
        "amd64": "x86_64",
        "arm64": "aarch64",
        "loong64": "loongarch64",
        "mips64le": "mips64el",
    }
)
"""What QEMU calls a processor otherwise than images do."""


def refuse_unrunnable(config: Config, engine: str, emulators: Path = EMULATORS) -> None:
    """Raise ImageError for a platform that is configured and whose programs cannot run. Of an
    engine elsewhere nothing is known."""
    wanted = config.platform or engine
    own, other = engine.split("/")[1], wanted.split("/")[1]
    if not config.is_local or own == other or (own, other) == ("amd64", "386"):
        return
    if not (emulators / f"qemu-{_BY_EMULATORS.get(other, other)}").exists():
        raise ImageError(
            f"this host runs no programs of {wanted} (driver.platform): install "
            f"qemu-user-static, or use images for {engine}"
        )


def sound_platform(reference: str, image: Image, engine: str, config: Config) -> None:
    """Raise ImageError for an image that is for another platform than containers are."""
    wanted = config.platform or engine
    if _is_part(wanted, image.platform):
        return
    if config.platform:
        raise ImageError(
            f"image {reference} is for {image.platform}, and driver.platform is {wanted}: remove "
            "it, so that it is pulled for that, or use another image"
        )
    raise ImageError(
        f"image {reference} is for {image.platform}, and this engine runs {engine}: use an "
        f"image for {engine}; or install qemu-user-static on the engine's host and set "
        f"driver.platform to {image.platform}"
    )


def _is_part(wanted: str, there: str) -> bool:
    """Whether `linux/arm64` is meant by `linux/arm64/v8`, and the other way round."""
    return all(one == two for one, two in zip(wanted.split("/"), there.split("/"), strict=False))
