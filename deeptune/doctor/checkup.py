"""All checks, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deeptune.doctor import libraries, machine, network, storage, terminal
from deeptune.doctor.finding import Finding, warn

Check = Callable[[], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    libraries.versions,
    libraries.torch_and_gpus,
    machine.processor_and_memory,
    machine.address_space,
    machine.shared_memory,
    machine.open_files,
    machine.logout,
    storage.folders,
    terminal.language,
    terminal.abilities,
    terminal.session,
    network.weights,
    network.hubs,
)


def checkup(checks: tuple[Check, ...] = CHECKS) -> Iterator[Finding]:
    """Yield the findings of each check as soon as it is done. A check that breaks is a finding itself."""
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            name = check.__name__.replace("_", " ")
            yield warn(name, f"could not be checked: {type(error).__name__}: {error}", "Please report this.")
