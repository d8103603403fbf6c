# SPDX-License-Identifier: Apache-2.0
"""Tells when devices appear or change hands, so that no uplink waits longer than it must.

udev speaks after its rules have run: by then the device's file has the group
that uswitchd is in.  A host without udev, or without its library, loses speed
only: the reconciler tries waiting uplinks now and then anyway.  Nothing here
blocks; the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LOG = logging.getLogger(__name__)

SUBSYSTEMS = ("pci", "vfio", "vfio-dev", "net")
COMING = ("add", "bind", "change", "move", "online")
EVENTS_A_TURN = 64  # others of the loop have their turn, too


@dataclass(frozen=True, slots=True)
class DeviceNews:
    """One event of udev."""

    action: str
    subsystem: str
    name: str  # in its subsystem: PCI address, IOMMU group, vfioN, network device

    def concerns(self, device: str) -> bool:
        """Whether an uplink that waits for ``device`` (PCI address or network device) may look.

        A file of VFIO does not say which adapter it opens; a needless look is cheap.
        """
        if self.action not in COMING:
            return False
        return self.subsystem in ("vfio", "vfio-dev") or self.name == device


class DeviceWatcher:
    """Owns the monitor of udev.  ``source``: what makes one; tests have their own."""

    def __init__(
        self, tell: Callable[[DeviceNews], None], source: Callable[[], Any] | None = None
    ) -> None:
        self._tell = tell
        self._source = source or _udev_monitor
        self._monitor: Any = None

    def start(self) -> None:
        try:
            self._monitor = self._source()
        except (ImportError, OSError, ValueError) as error:
            LOG.warning("udev cannot be heard, new adapters are noticed later: %s", error)
            return
        asyncio.get_running_loop().add_reader(self._monitor.fileno(), self._on_readable)

    def stop(self) -> None:
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.fileno())
            self._monitor = None

    def _on_readable(self) -> None:
        for _ in range(EVENTS_A_TURN):
            try:
                device = self._monitor.poll(timeout=0)
            except OSError as error:  # ENOBUFS: more than the socket could hold
                LOG.warning("news of devices were lost: %s", error)
                return
            if device is None:
                return
            self._tell(
                DeviceNews(device.action or "", device.subsystem or "", device.sys_name or "")
            )


def _udev_monitor() -> Any:
    import pyudev  # its import looks for libudev: not before it is needed

    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
    for subsystem in SUBSYSTEMS:
        monitor.filter_by(subsystem)
    monitor.start()
    return monitor
