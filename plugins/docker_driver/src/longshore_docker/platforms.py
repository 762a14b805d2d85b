"""Which images are for an engine."""

from __future__ import annotations

from pathlib import Path

from longshore_core import ImageError
from longshore_core.platforms import EMULATORS, can_run

from longshore_docker.answers import Image
from longshore_docker.config import Config


def refuse_unrunnable(config: Config, engine: str, emulators: Path = EMULATORS) -> None:
    """Raise ImageError for a platform that is configured and whose programs cannot run. Of an
    engine elsewhere nothing is known."""
    wanted = config.platform or engine
    if config.is_local and not can_run(wanted, engine, emulators):
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
