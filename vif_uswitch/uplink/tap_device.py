# SPDX-License-Identifier: Apache-2.0
"""TAP devices of the network namespace that this process is in: opens one that has an owner.

The part of ``uswitch-tap`` that runs as the user who asked, and what uswitchd
asks about its own: nothing here has, or needs, a privilege.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from vif_uswitch.exceptions import Busy, Forbidden, InvalidInput, NotFound

NAME_MAX = 15
WHAT = "the TAP device"
TUNSETIFF = 0x400454CA
TAP_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
RTM_GETLINK, NLM_F_REQUEST, NLMSG_ERROR = 18, 1, 2
IFLA_IFNAME, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_INFO_DATA = 3, 18, 20, 2
IFLA_TUN_OWNER, IFLA_TUN_GROUP = 1, 2
NESTED = 0x8000  # NLA_F_NESTED
ANSWER_MAX = 1 << 16
_HEAD = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK_SIZE = 16  # struct ifinfomsg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_ERROR = struct.Struct("=i")


def open_owned(ifname: str) -> int:
    """A non-blocking file descriptor of the device; the caller owns it."""
    if not has_owner(ifname):
        raise Forbidden(
            WHAT, ifname, "belongs to nobody, or is no TAP device",
            "Give it to the user of uswitchd when it is made.",
        )  # fmt: skip
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        attach(fd, ifname.encode())
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EPERM:
            raise Forbidden(
                WHAT, ifname, "does not belong to the user of uswitchd",
                "Give it to that user when it is made.",
            ) from error  # fmt: skip
        if error.errno == errno.EBUSY:
            raise Busy(WHAT, ifname, "another process uses it", "Stop that process.") from error
        raise InvalidInput(WHAT, ifname, f"cannot be used: {error.strerror}") from error
    return fd


def attach(fd: int, name: bytes) -> None:
    """Makes ``fd``, of /dev/net/tun, the device of that name as the switch uses it; ``OSError``."""
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name, TAP_FLAGS))  # struct ifreq


def has_owner(ifname: str) -> bool:
    """Whether a user or a group owns it: the kernel lets anybody open one that nobody does."""
    info = attributes(_link(ifname).get(IFLA_LINKINFO, b""))
    tun = attributes(info.get(IFLA_INFO_DATA, b""))
    return IFLA_TUN_OWNER in tun or IFLA_TUN_GROUP in tun


def alias_of(ifname: str) -> str:
    """What the administrator has noted at the device, "": nothing; ``NotFound``, ``OSError``."""
    return _link(ifname).get(IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace")


def _link(ifname: str) -> dict[int, bytes]:
    """What rtnetlink tells about a device of this namespace."""
    name = ifname.encode() + b"\0"
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(name), IFLA_IFNAME) + name
    body = bytes(_LINK_SIZE) + attribute.ljust(len(attribute) + 3 & ~3, b"\0")
    head = _HEAD.pack(_HEAD.size + len(body), RTM_GETLINK, NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as netlink:
        netlink.send(head + body)
        answer = netlink.recv(ANSWER_MAX)
    if _HEAD.unpack_from(answer)[1] != NLMSG_ERROR:
        return attributes(answer[_HEAD.size + _LINK_SIZE :])
    number = -_ERROR.unpack_from(answer, _HEAD.size)[0]
    if number == errno.ENODEV:
        raise NotFound(
            WHAT, ifname, "is not in that network namespace", "See: ip -n NAMESPACE link"
        )
    raise OSError(number, os.strerror(number), ifname)


def attributes(data: bytes) -> dict[int, bytes]:
    """Of an rtnetlink message: payload by type, as far as they are whole."""
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            break
        found[kind & ~NESTED] = data[_ATTRIBUTE.size : length]
        data = data[length + 3 & ~3 :]
    return found
