# SPDX-License-Identifier: Apache-2.0
"""Links of the kernel: what is read from its messages, and who is told of what."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from typing import Any

import pytest

from tests.unit.daemon.fabric_rig import until
from vif_uswitch.daemon.uplink import links
from vif_uswitch.daemon.uplink.links import RTM_DELLINK, RTM_NEWLINK, LinkWatcher, messages
from vif_uswitch.uplink import tap_device


def attribute(kind: int, data: bytes) -> bytes:
    return (struct.pack("=HH", 4 + len(data), kind) + data).ljust(4 + len(data) + 3 & ~3, b"\0")


def message(name: str, *, kind: int = RTM_NEWLINK, index: int = 7, up: bool = True,
            xdp: bytes = b"", family: int = 0) -> bytes:  # fmt: skip
    body = struct.pack("=BxHiII", family, 1, index, 0x1002 | up, 0)
    body += attribute(links.IFLA_IFNAME, name.encode() + b"\0") + attribute(13, b"pfifo\0")
    if xdp:
        body += attribute(links.IFLA_XDP | tap_device.NESTED, xdp)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_what_a_message_says() -> None:
    data = (message("eth1") + message("eth22", index=8, up=False, xdp=b"\x05\0\x02\0\1\0\0\0")
            + message("eth1", kind=RTM_DELLINK))  # fmt: skip
    assert list(messages(data)) == [
        (RTM_NEWLINK, 7, ("eth1", True, b"")),
        (RTM_NEWLINK, 8, ("eth22", False, b"\x05\0\x02\0\1\0\0\0")),
        (RTM_DELLINK, 7, ("eth1", True, b"")),
    ]


def test_other_messages_say_nothing() -> None:
    assert list(messages(message("eth1", family=7))) == []  # AF_BRIDGE: a port of a bridge
    assert list(messages(message("eth1", kind=20))) == []  # an address
    assert [one[2][0] for one in messages(message("eth1", kind=20) + message("eth2"))] == ["eth2"]


@pytest.mark.parametrize("size", range(60))
def test_torn_messages(size: int) -> None:
    whole = message("eth1")
    assert list(messages(whole[:size])) == ([] if size < len(whole) else list(messages(whole)))


def test_lengths_that_lie() -> None:
    for length in (0, 15, 17, 31, 1 << 31):
        assert list(messages(struct.pack("=I", length) + message("eth1")[4:])) == []
    whole = bytearray(message("eth1"))
    for length in (0, 3, 200, 65535):  # of the attribute with the name
        whole[32:34] = struct.pack("=H", length)
        assert list(messages(bytes(whole))) == [(RTM_NEWLINK, 7, ("", True, b""))]


class Source:
    """A socket of the kernel: has a pipe that is readable while there are datagrams."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.queue: list[Any] = []

    def fileno(self) -> int:
        return self.read_end

    def put(self, what: bytes | OSError, sender: int = 0) -> None:
        self.queue.append((what, sender))
        os.write(self.write_end, b"x")

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[int, int]]:
        if not self.queue:
            raise BlockingIOError
        os.read(self.read_end, 1)
        what, sender = self.queue.pop(0)
        if isinstance(what, OSError):
            raise what
        return what, (sender, 1)

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


def heard(*datagrams: bytes | OSError | tuple[bytes, int]) -> tuple[list[str], list[str]]:
    """Who changed, and who came."""
    changed: list[str] = []
    came: list[str] = []

    async def main() -> None:
        source = Source()
        watcher = LinkWatcher(changed.append, lambda news: came.append(news.name),
                              lambda: source)  # type: ignore[arg-type, return-value]
        watcher.start()
        for one in datagrams:
            source.put(*one) if isinstance(one, tuple) else source.put(one)
        source.put(message("last", index=99))
        await until(lambda: "last" in changed)
        watcher.stop()

    asyncio.run(main())
    return [name for name in changed if name != "last"], [name for name in came if name != "last"]


def test_only_what_is_new_is_told() -> None:
    up, down = message("eth1"), message("eth1", up=False)
    assert heard(up, up, down, down, up) == (["eth1"] * 3, ["eth1"] * 3)
    assert heard(up, message("eth1", xdp=b"\1")) == (["eth1"] * 2, ["eth1"] * 2)


def test_gone_and_back() -> None:
    there, gone = message("eth1"), message("eth1", kind=RTM_DELLINK)
    assert heard(there, gone, there) == (["eth1"] * 3, ["eth1"] * 2)
    assert heard(gone) == (["eth1"], [])  # one that was there before us


def test_renamed() -> None:
    changed, came = heard(message("eth1"), message("wan"))
    assert sorted(changed) == ["eth1", "eth1", "wan"] and came == ["eth1", "wan"]


def test_lost_news_may_be_of_anybody() -> None:
    lost = OSError(errno.ENOBUFS, "no buffer space")
    assert heard(message("eth1"), lost, message("eth1"))[0] == ["eth1", "", "eth1"]


def test_only_the_kernel_is_believed() -> None:
    assert heard((message("eth1"), 4711)) == ([], [])


def test_without_netlink(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> Any:
        raise OSError(errno.EAFNOSUPPORT, "no netlink")

    watcher = LinkWatcher(lambda _: None, lambda _: None, refuse)
    watcher.start()
    watcher.stop()
    assert "noticed late" in caplog.text


def test_the_real_socket() -> None:
    links.open_netlink().close()
