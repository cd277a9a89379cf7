"""Messages of a rank where training does not use the devices of its pod as they are. Pure."""

from __future__ import annotations


def messages(*, accelerators: bool, seen: int, ranks: int) -> tuple[str, ...]:
    """Return messages for a pod that sees `seen` devices and has `ranks` ranks. `accelerators`: whether the job asks for any."""
    count = f"{seen} CUDA device{'s' if seen > 1 else ''}"
    if not accelerators and seen:
        return (
            f"The pod sees {count}, and training runs on the CPU: the job asks for no accelerator that the operator knows. Ask for "
            "one in spec.resources.limits (nvidia.com/gpu: 1); a device under another name must be in the operator's setting "
            "acceleratorResources.",
        )
    if accelerators and seen > ranks:
        return (
            f"The pod sees {count}, and training uses {ranks} of them: set spec.processesPerNode to {seen} for a rank on each.",
        )
    return ()


def too_few(*, seen: int, ranks: int) -> str | None:
    """Return why ranks can't have a device each; None where they can."""
    if seen >= ranks:
        return None
    return (
        f"The pod has {ranks} ranks, and torch sees {seen} CUDA device{'s' if seen > 1 else ''}. Where the cluster gives out "
        "parts of devices (time slices, MIG) under the name of whole ones, set spec.processesPerNode to the number that is "
        "seen; else a device of the machine has failed."
    )
