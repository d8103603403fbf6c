# SPDX-License-Identifier: Apache-2.0
"""What a dataplane means when it refuses an adapter: an errno becomes a sentence."""

from __future__ import annotations

import errno
import os

from vif_uswitch.daemon.model import Kind, PortConfig
from vif_uswitch.dataplane.base import DataplaneRefused


class AdapterRefused(DataplaneRefused):
    """A refusal that an operator can do something about."""

    def __init__(self, errno_: int, what: str, value: object, why: str, todo: str) -> None:
        super(DataplaneRefused, self).__init__(what, value, why, todo)
        self.errno = errno_


def explain(error: DataplaneRefused, config: PortConfig, ids: str) -> AdapterRefused:
    """``ids``: vendor and device of a PCI adapter, if they could be read."""
    if isinstance(error, AdapterRefused):
        return error
    what, value = "adapter", f"{config.pci} ({ids})" if ids else config.pci
    if config.kind is Kind.XDP:
        what, value = "network device", config.ifname
    why, todo = _reason(error.errno, config)
    return AdapterRefused(error.errno, what, value, why, todo)


def _reason(number: int, config: PortConfig) -> tuple[str, str]:
    if number == errno.EINVAL:
        rings = f"rings of {config.ring_size}" if config.ring_size else "rings of its default size"
        return (
            f"it cannot do {config.queues} queue pairs, {rings} and an MTU of {config.mtu}"
            " together",
            "Try --queues 1, leave out --ring-size, or take a smaller --mtu.",
        )
    if config.kind is Kind.XDP:
        if number in (errno.ENODEV, errno.ENXIO, errno.ENETDOWN):
            return "it is gone, or down", f"See: ip link show {config.ifname}"
        if number == errno.EBUSY:
            return "a queue of it has a socket already", "Stop the other user of AF_XDP."
        if number in (errno.ENOTSUP, errno.EOPNOTSUPP):
            return _no_zero_copy(config)
        return _other(number)
    if number == errno.ENODEV:
        return (
            "no driver of this switch knows such a device",
            f"The kernel may: give it back (root: uswitch-uplink unbind {config.pci}), and use"
            " AF_XDP: --ifname",
        )
    if number == errno.ENOTSUP and config.zero_copy:
        return "its driver cannot send from guests' memory", "Leave out --zero-copy."
    if number in (errno.EIO, errno.ENOTSUP):
        return (
            "it does not answer as such a device does",
            "Reset the host, or take the adapter for broken; the dataplane's log has the details.",
        )
    return _other(number)


def _no_zero_copy(config: PortConfig) -> tuple[str, str]:
    if config.zero_copy:
        return "its driver has no AF_XDP zero copy", "Leave out --zero-copy."
    return "the kernel has no AF_XDP for it", "See that the kernel has CONFIG_XDP_SOCKETS."


def _other(number: int) -> tuple[str, str]:
    return (
        f"the dataplane cannot start it: {os.strerror(number)}",
        "Its log, and the kernel's, may say why.",
    )
