# SPDX-License-Identifier: Apache-2.0
"""A port whose peer is the kernel: a TAP device (``tap.py``).

A device that was deleted is given up, as adapters are: the reconciler takes the
port away, and makes it again as soon as there is such a device.
"""

from __future__ import annotations

import asyncio
import os

from vif_uswitch.daemon.fabric_port import FabricPort, Surroundings
from vif_uswitch.daemon.model import PortConfig
from vif_uswitch.daemon.uplink.port import GONE, Adapters
from vif_uswitch.dataplane.base import Event
from vif_uswitch.dataplane.statepage import StatePage


class TapPort(FabricPort):
    """Owns the device's file descriptor; a new dataplane gets the same device."""

    def __init__(
        self, config: PortConfig, page: StatePage, around: Surroundings, tap_fd: int
    ) -> None:
        super().__init__(config, page, around)
        self._tap_fd = tap_fd

    @classmethod
    async def make(cls, config: PortConfig, around: Surroundings, adapters: Adapters) -> TapPort:
        tap_fd = await asyncio.to_thread(
            adapters.open_tap, config.ifname, config.netns, config.name
        )
        try:
            return cls(config, StatePage.make(config.port_id), around, tap_fd)
        except BaseException:
            os.close(tap_fd)
            raise

    @property
    def device_fds(self) -> tuple[int, ...]:
        return (self._tap_fd,)

    def fenced(self, event: Event) -> None:
        super().fenced(event)
        self._give_up_if_gone()

    async def heal(self) -> None:
        """One whose device went away while there was no uswitchd."""
        self._give_up_if_gone()

    def _give_up_if_gone(self) -> None:
        broken = self.page.broken()
        if broken is not None and broken.reason == GONE:
            self.around.lost(self.port_id, broken.text)

    def _let_go_of_peer(self) -> None:
        self._forget_peer()

    def _forget_peer(self) -> None:
        if self._tap_fd >= 0:
            os.close(self._tap_fd)
            self._tap_fd = -1
