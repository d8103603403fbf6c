# SPDX-License-Identifier: Apache-2.0
"""When the segment is told that a guest has arrived by live migration, and of which address.

Other switches send to the guest's old place until they see a frame from the
new one.  Two know its address before it says anything: QEMU, which asks for
an announcement (SEND_RARP) before the rings run, though not for a guest whose
driver has GUEST_ANNOUNCE; and whoever made the port.  Waiting for the guest
itself costs what its driver and its kernel need to get going again.

A guest has arrived if the first rings of a session go on where others
stopped: a guest that boots starts them at 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WAITING_MAX = 4  # addresses; QEMU's is the same one each time
_INDEX = 0x7FFF  # of a packed ring's position (virtio 1.2 §2.8.1); its top bit is set at first


@dataclass(slots=True)
class Arrival:
    """Of one session.  ``address`` is what who made the port says of its guest, or b""."""

    address: bytes = b""
    settled: bool = False  # frames could flow before: nothing that happens now is an arrival
    _waiting: list[bytes] = field(default_factory=list)

    def ask(self, mac: bytes) -> None:
        """QEMU wants ``mac`` announced, and nothing can come from the port yet."""
        if mac not in self._waiting and len(self._waiting) < WAITING_MAX:
            self._waiting.append(mac)

    def ring_starts(self, base: int, packed: bool) -> None:
        """A ring starts at ``base``."""
        if not self.settled and self.address and (base & _INDEX if packed else base):
            self.ask(self.address)

    def take(self) -> list[bytes]:
        """Frames can flow: what to announce now."""
        waiting, self._waiting = self._waiting, []
        self.settled = True
        return waiting
