"""The images that a driver's engine keeps, where the driver has a store of them."""

from __future__ import annotations

from functools import partial
from typing import Final

import anyio

from longshore_core._errors import BackendError, ImageError
from longshore_core._model import PullProgress
from longshore_core.testing.bench import Bench, every
from longshore_core.testing.expect import equal, expect, refused
from longshore_core.testing.law import HEALTH, IMAGE_STORE, Group, Law, Missing, laws_in

IMAGE: Final[Group[Bench]] = Group("images", requires=(IMAGE_STORE,))

_NO_REFERENCE: Final = "UPPER case/is no:reference:at all"
_UNREACHABLE: Final = "127.0.0.1:1/nobody/listens:1"
_PULL_SECONDS: Final = 100.0
_AT_ONCE_SECONDS: Final = 5.0


@IMAGE.law("IM1", seconds=_PULL_SECONDS)
async def an_image_is_there_when_it_was_asked_for(bench: Bench) -> None:
    await bench.driver.ensure(image(bench), _ignore)
    with anyio.fail_after(_AT_ONCE_SECONDS):
        await bench.driver.ensure(image(bench), _ignore)


@IMAGE.law("IM1.2", seconds=_PULL_SECONDS)
async def any_number_may_ask_for_an_image_at_once(bench: Bench) -> None:
    told = list[PullProgress]()
    answers = await every([partial(bench.driver.ensure, image(bench), told.append)] * 8)
    equal(answers, [None] * 8, "what eight who asked at once were answered")
    others = [each.reference for each in told if each.reference != image(bench)]
    equal(others, [], "other images that it told of")


@IMAGE.law("IM1.3", seconds=_PULL_SECONDS)
async def progress_never_goes_beyond_the_whole(bench: Bench) -> None:
    told = list[PullProgress]()
    await bench.driver.ensure(image(bench), told.append)
    for each in told:
        whole = each.total_bytes
        expect(each.done_bytes >= 0, f"{each.done_bytes} bytes are done")
        expect(whole is None or each.done_bytes <= whole, f"{each.done_bytes} of {whole} bytes")


@IMAGE.law("IM1.4", requires=(HEALTH,), seconds=_PULL_SECONDS)
async def an_image_that_is_there_shows_in_the_fingerprint(bench: Bench) -> None:
    await bench.driver.ensure(image(bench), _ignore)
    async with bench.driver.fingerprints() as fingerprints:
        images = (await anext(fingerprints)).images
    expect(images, "the fingerprint names no image")
    equal(list(images), sorted(images), "the images in the fingerprint, sorted")
    name = image(bench)
    there = any(each in (name, f"{name}:latest") or each.endswith(f"/{name}") for each in images)
    expect(there, f"{name} is not among {', '.join(images)}")


@IMAGE.law("IM2")
async def what_is_no_reference_is_refused_for_good(bench: Bench) -> None:
    exc = await refused(bench.driver.ensure(_NO_REFERENCE, _ignore), _NO_REFERENCE, ImageError)
    expect(_NO_REFERENCE in str(exc), f"the error does not name the image: {exc}")
    expect(not exc.retryable, "it claims that asking again may help")


@IMAGE.law("IM2.2", seconds=60)
async def a_registry_that_cannot_be_reached_is_an_error_that_names_the_image(bench: Bench) -> None:
    exc = await refused(bench.driver.ensure(_UNREACHABLE, _ignore), _UNREACHABLE, BackendError)
    expect(_UNREACHABLE in str(exc), f"the error does not name the image: {exc}")


@IMAGE.law("IM3", seconds=_PULL_SECONDS)
async def who_asks_no_longer_disturbs_no_other(bench: Bench) -> None:
    answered = list[int]()
    scopes = [anyio.CancelScope() for _ in range(4)]

    async def ask(number: int) -> None:
        with scopes[number]:
            await bench.driver.ensure(image(bench), _ignore)
            answered.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(len(scopes)):
            tasks.start_soon(ask, number)
        # The first was the first to ask, and may be the one that pulls.
        scopes[0].cancel()
        scopes[2].cancel()
    expect({1, 3} <= set(answered), f"of four, of whom two left, only {answered} were answered")


def image(bench: Bench) -> str:
    """The image of the settings, to be had from the driver."""
    if bench.settings.image is None:
        raise Missing("the name of an image that the driver can have, in --image NAME")
    return bench.settings.image


def _ignore(_progress: PullProgress) -> None:
    """Whoever only wants the image."""


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
