# SPDX-License-Identifier: Apache-2.0
"""Opens the kernel side of a TAP port: an existing, persistent device that is ours.

Making one takes CAP_NET_ADMIN, which uswitchd does not have and shall not
need; the administrator makes it once and gives it to our user.

A device that was opened may move to another network namespace; one that is
there already is opened by root's helper (``tap_helper.py``).  One in our own
namespace may be on its way there, or be the host's, with the same name: it is
the port's only if its alias is the port's name.
"""

from __future__ import annotations

import errno
import os
import socket

from vif_uswitch.daemon.instance import user_name
from vif_uswitch.daemon.tap_helper import TapHelper
from vif_uswitch.exceptions import (
    Busy,
    Forbidden,
    InvalidInput,
    NotFound,
    Unavailable,
    USwitchError,
)
from vif_uswitch.uplink.tap_device import NAME_MAX, alias_of, attach


class TapOpener:
    """Callable: names of a device, of its network namespace, "" for our own, and of its port.

    May block for as long as the helper takes; callable in any thread.
    """

    def __init__(self, helper: TapHelper | None = None) -> None:
        self._helper = helper or TapHelper()

    def __call__(self, ifname: str, netns: str, port: str) -> int:
        """A non-blocking file descriptor of the device; the caller owns it."""
        if not netns:
            return open_tap(ifname)
        alias = _alias(ifname)
        if alias == port:
            return open_tap(ifname)  # about to be moved
        try:
            return self._helper.open(netns, ifname)
        except Unavailable as error:
            raise Unavailable(
                "the TAP device", ifname, f"is not in our network namespace{_unless(alias)}, and"
                f" {error.what} {error.value}, which opens it in {netns}, {error.why}",
                f"{error.todo}{_claim(ifname, port, alias)}",
            ) from error  # fmt: skip
        except NotFound as error:
            raise NotFound(
                "the TAP device", ifname,
                f"is neither in our network namespace{_unless(alias)} nor in {netns}",
                f"See: ip -n {netns} link; and {_advice(ifname)}{_claim(ifname, port, alias)}",
            ) from error  # fmt: skip


def _alias(ifname: str) -> str | None:
    """Of the device of that name in our own namespace; None: there is none."""
    try:
        return alias_of(ifname)
    except NotFound:
        return None
    except OSError as error:
        raise Unavailable(
            "the TAP device", ifname, f"its alias cannot be read: {error.strerror}", ""
        ) from error


def _unless(alias: str | None) -> str:
    return "" if alias is None else f" (one there has alias {alias!r}, not the port's name)"


def _claim(ifname: str, port: str, alias: str | None) -> str:
    return "" if alias is None else f". If that is it: ip link set dev {ifname} alias {port}"


def open_tap(ifname: str) -> int:
    """A non-blocking file descriptor of the device; the caller owns it."""
    name = os.fsencode(ifname)
    if not 1 <= len(name) <= NAME_MAX or b"/" in name or b"%" in name or name in (b".", b".."):
        raise InvalidInput("the TAP device", ifname, "not a device name", "see ip link")
    try:
        socket.if_nametoindex(ifname)
    except OSError:
        # Asked first: with the right to do so, TUNSETIFF would make a short-lived one.
        raise NotFound("the TAP device", ifname, "it does not exist", _advice(ifname)) from None
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            "/dev/net/tun", None, error.strerror or "", "load the module tun, let uswitchd open it"
        ) from error
    try:
        attach(fd, name)
    except OSError as error:
        os.close(fd)
        raise _explain(ifname, error) from error
    return fd


def _explain(ifname: str, error: OSError) -> USwitchError:
    what = "the TAP device"
    if error.errno == errno.EPERM:
        return Forbidden(what, ifname, "it does not belong to our user", _advice(ifname))
    if error.errno == errno.EBUSY:
        return Busy(what, ifname, "another process uses it", "stop that process")
    if error.errno == errno.EINVAL:
        return InvalidInput(
            what, ifname, "it is no TAP device, or was made with other flags",
            f"delete it or take another name, and {_advice(ifname)}",
        )  # fmt: skip
    return Unavailable(what, ifname, error.strerror or "", "")


def _advice(ifname: str) -> str:
    return f"make it, as root: ip tuntap add dev {ifname} mode tap user {user_name()} vnet_hdr"
