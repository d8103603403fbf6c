# SPDX-License-Identifier: Apache-2.0
"""A port whose peer is the kernel: a TAP device (``tap.py``)."""

from __future__ import annotations

import os

from vif_uswitch.daemon.fabric_port import FabricPort, Surroundings
from vif_uswitch.daemon.model import PortConfig
from vif_uswitch.daemon.tap import open_tap
from vif_uswitch.dataplane.statepage import StatePage


class TapPort(FabricPort):
    """Owns the device's file descriptor; a new dataplane gets the same device."""

    def __init__(
        self, config: PortConfig, page: StatePage, around: Surroundings, tap_fd: int
    ) -> None:
        super().__init__(config, page, around)
        self._tap_fd = tap_fd

    @classmethod
    def make(cls, config: PortConfig, around: Surroundings) -> TapPort:
        tap_fd = open_tap(config.ifname)
        try:
            return cls(config, StatePage.make(config.port_id), around, tap_fd)
        except BaseException:
            os.close(tap_fd)
            raise

    @property
    def device_fds(self) -> tuple[int, ...]:
        return (self._tap_fd,)

    def _let_go_of_peer(self) -> None:
        self._forget_peer()

    def _forget_peer(self) -> None:
        if self._tap_fd >= 0:
            os.close(self._tap_fd)
            self._tap_fd = -1
