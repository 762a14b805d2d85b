"""A third party's veto: no image may be called `forbidden`."""

from longshore_core import ContainerSpec, hookimpl


@hookimpl
def longshore_admit(spec: ContainerSpec) -> str | None:
    return "that image is forbidden" if spec.image == "forbidden" else None
