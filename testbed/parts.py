# SPDX-License-Identifier: Apache-2.0
"""All that has to exist before the first guest can run, in one call.

Tests and the demo ask here; what is cached comes back in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed import TestbedError, accel, initramfs, kernel, qemu, snapshot
from testbed.cache import Cache
from testbed.guest import Guest
from testbed.qemu import Machine, Network


@dataclass(frozen=True, slots=True)
class Parts:
    """A machine to make guests of, and the cache it came from."""

    cache: Cache
    kernel: kernel.Kernel
    machine: Machine

    def restored(self, name: str, directory: Path, progress: Callable[[str], None], *,
                 network: Network | None = None, outlive: bool = False) -> Guest:
        """A running guest without NICs; a saved state that QEMU rejects is made anew once."""
        guest = Guest(name, self.machine, directory, network=network, outlive=outlive)
        state = snapshot.get(self.cache, self.machine, progress)
        try:
            guest.restore(state)
        except TestbedError:
            guest.kill()
            snapshot.forget(self.cache, self.machine)
            guest.restore(snapshot.get(self.cache, self.machine, progress))
        return guest


def prepare(cache: Cache, progress: Callable[[str], None]) -> Parts:
    """Kernel, initramfs and the choice between KVM and emulation."""
    qemu.version()
    chosen = kernel.fetch(cache, progress)
    progress("composing the guests' initramfs")
    image = initramfs.build(cache, chosen)
    progress("trying whether a guest boots on KVM")
    how = accel.choose(cache, chosen.vmlinux, image)
    return Parts(cache, chosen, Machine(chosen.vmlinux, image, how))
