"""What comes with the kernel keeps the contracts of its seams."""

from __future__ import annotations

from signal import Signals

import anyio
import pytest
from longshore_core import (
    Attachment,
    BackendError,
    ContainerId,
    ContainerSpec,
    Exit,
    Facts,
    Handle,
    NetworkPolicy,
    NetworkPolicyError,
    Phase,
    UnixReach,
    UnsupportedCapability,
)
from longshore_core._builtin.bare_guest import BareGuest
from longshore_core._builtin.no_secrets import NoSecrets
from longshore_core._builtin.null_driver import NullDriver
from longshore_core._builtin.open_network import OpenNetwork
from longshore_core._builtin.static_registry import Config as RegistryConfig
from longshore_core._builtin.static_registry import StaticRegistry
from longshore_core.abc import Credentials
from pydantic import ValidationError

C1 = ContainerId("c1")
SPEC = ContainerSpec(id=C1, argv=("sleep", "1"))


class TestNullDriver:
    async def test_the_same_id_is_the_same_container(self) -> None:
        driver = NullDriver()
        handle = await driver.create(SPEC)
        attachment = await driver.start(handle)
        assert await driver.create(SPEC) == handle
        assert await driver.start(handle) == attachment
        (found,) = await driver.survey()
        assert (found.phase, found.attachment) == (Phase.RUNNING, attachment)

    async def test_any_number_may_wait_and_a_cancelled_one_disturbs_nobody(self) -> None:
        driver = NullDriver()
        handle = await driver.create(SPEC)
        await driver.start(handle)
        exits: list[Exit] = []

        async def wait() -> None:
            exits.append(await driver.wait(handle))

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(wait)
            with anyio.move_on_after(0.01):
                await driver.wait(handle)
            await driver.signal(handle, Signals.SIGTERM)
        assert exits == [Exit(signal=15)] * 50
        assert await driver.wait(handle) == Exit(signal=15)

    async def test_an_ended_one_is_found_with_its_exit_and_not_started_again(self) -> None:
        driver = NullDriver()
        handle = await driver.create(SPEC)
        await driver.start(handle)
        await driver.signal(handle, Signals.SIGKILL)
        await driver.signal(handle, Signals.SIGTERM)
        (found,) = await driver.survey()
        assert (found.phase, found.attachment, found.exit) == (Phase.EXITED, None, Exit(signal=9))
        with pytest.raises(BackendError, match="it is gone"):
            await driver.start(handle)

    async def test_a_removal_leaves_nothing_and_may_be_asked_for_again(self) -> None:
        driver = NullDriver()
        for phase in ("created", "running", "absent"):
            handle = Handle(id=C1)
            if phase != "absent":
                handle = await driver.create(SPEC)
            if phase == "running":
                await driver.start(handle)
            await driver.remove(handle)
            await driver.remove(handle)
            await driver.signal(handle, Signals.SIGTERM)
            assert await driver.survey() == []
            assert await driver.wait(handle) == Exit()


class TestOpenNetwork:
    async def test_it_admits_whoever_asks_for_nothing(self) -> None:
        await OpenNetwork().admit(C1, Attachment(), NetworkPolicy())
        await OpenNetwork().revoke(C1)

    @pytest.mark.parametrize(
        "policy",
        [
            NetworkPolicy(allow_internet_access=False),
            NetworkPolicy(deny_out=("10.0.0.0/8",)),
            NetworkPolicy(allow_out=("1.1.1.1",)),
        ],
    )
    async def test_it_refuses_whoever_asks_for_enforcement(self, policy) -> None:
        with pytest.raises(NetworkPolicyError, match="the network `open` enforces none"):
            await OpenNetwork().admit(C1, Attachment(), policy)


class TestNoSecrets:
    async def test_it_has_none_and_says_which_were_asked_for(self) -> None:
        assert await NoSecrets().fetch("ns", []) == {}
        with pytest.raises(BackendError, match=r"namespace 'ns' asks for secrets \(A, B\)"):
            await NoSecrets().fetch("ns", ["A", "B"])


class TestBareGuest:
    async def test_it_changes_nothing_and_cannot_be_spoken_to(self) -> None:
        assert BareGuest().launch(SPEC, Facts()) == SPEC
        with pytest.raises(UnsupportedCapability):
            await BareGuest().connect(UnixReach("/nowhere"))


class TestStaticRegistry:
    def registry(self, **options: object) -> StaticRegistry:
        url = "https://r.example.com/"
        return StaticRegistry(RegistryConfig(url=url, repository="/a/b/", **options))

    async def test_it_names_what_it_owns(self) -> None:
        registry = self.registry()
        reference = registry.reference("s1", "n1")
        assert reference == "r.example.com/a/b:sb-s1-snap-n1"
        assert registry.owns(reference)
        assert registry.owns("r.example.com/a/b@sha256:00")
        assert not registry.owns("r.example.com/a/bc:x")
        assert not registry.owns("example.com/a/b:x")

    async def test_a_password_is_handed_out_and_never_shown(self) -> None:
        registry = self.registry(username="u", password="hush")
        credentials = await registry.credentials()
        assert credentials == Credentials(username="u", password="hush")
        assert "hush" not in repr(credentials)
        assert await self.registry().credentials() is None

    @pytest.mark.parametrize("half", [{"username": "u"}, {"password": "hush"}])
    def test_half_a_login_is_refused(self, half) -> None:
        with pytest.raises(ValidationError, match="username and password belong together"):
            self.registry(**half)
