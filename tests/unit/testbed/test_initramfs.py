# SPDX-License-Identifier: Apache-2.0
"""The initramfs writer: what the guest's kernel would unpack, and in which order modules load."""

from __future__ import annotations

import stat
from dataclasses import dataclass

import pytest

from testbed import TestbedError
from testbed.initramfs import Archive, closure, module_name, parse_dependencies


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    mode: int
    data: bytes
    rdev: tuple[int, int]


def unpack(archive: bytes) -> list[Entry]:
    """A reader written from the format's description, independent of the writer."""
    entries: list[Entry] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        assert at % 4 == 0
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        start = (at + 110 + name_size + 3) & ~3
        entry = Entry(name[:-1].decode(), fields[1], archive[start : start + size],
                      (fields[9], fields[10]))
        if entry.name == "TRAILER!!!":
            return entries
        entries.append(entry)
        at = (start + size + 3) & ~3


def test_names_modes_and_contents_survive() -> None:
    archive = Archive()
    archive.file("/usr/bin/tool", b"12345", 0o755)
    archive.link("bin/sh", "/usr/bin/tool")
    archive.character_device("dev/console", 5, 1)
    entries = {entry.name: entry for entry in unpack(archive.finish())}
    assert entries["usr/bin/tool"] == Entry("usr/bin/tool", stat.S_IFREG | 0o755, b"12345", (0, 0))
    assert entries["bin/sh"].data == b"/usr/bin/tool"
    assert stat.S_ISLNK(entries["bin/sh"].mode)
    assert entries["dev/console"] == Entry("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1))


def test_parents_come_first_and_once() -> None:
    archive = Archive()
    archive.file("a/b/one", b"1")
    archive.file("a/b/two", b"2")
    archive.directory("a/b")
    assert [e.name for e in unpack(archive.finish())] == ["a", "a/b", "a/b/one", "a/b/two"]


def test_first_of_two_equal_names_wins() -> None:
    archive = Archive()
    archive.file("x", b"first")
    archive.file("/x", b"second")
    assert [e.data for e in unpack(archive.finish())] == [b"first"]


@pytest.mark.parametrize("length", range(9))
def test_every_length_is_padded(length: int) -> None:
    archive = Archive()
    archive.file("f" * (length + 1), b"d" * length)
    archive.file("next", b"n")
    data = archive.finish()
    assert len(data) % 512 == 0
    assert [len(e.data) for e in unpack(data)] == [length, 1]


def test_inode_numbers_differ() -> None:
    """The kernel takes equal inode numbers with several links for one file."""
    archive = Archive()
    archive.file("a", b"1")
    archive.file("b", b"2")
    data = archive.finish()
    first = data.index(b"070701")
    second = data.index(b"070701", first + 1)
    assert data[first + 6 : first + 14] != data[second + 6 : second + 14]


DEPENDENCIES = parse_dependencies(
    "kernel/drivers/net/virtio_net.ko: kernel/net/net_failover.ko kernel/net/failover.ko\n"
    "kernel/net/net_failover.ko: kernel/net/failover.ko\n"
    "kernel/net/failover.ko:\n"
    "kernel/net/8021q/8021q.ko.xz: kernel/net/garp.ko\n"
    "kernel/net/garp.ko:\n"
)


def test_modules_are_loaded_after_what_they_need() -> None:
    order = [module_name(path) for path in closure(("virtio-net", "8021q"), DEPENDENCIES, set())]
    assert order == ["failover", "net_failover", "virtio_net", "garp", "8021q"]


def test_built_in_module_needs_no_file() -> None:
    assert closure(("virtio_pci",), DEPENDENCIES, {"virtio_pci"}) == []


def test_unknown_module_is_named() -> None:
    with pytest.raises(TestbedError, match="no module igb"):
        closure(("igb",), DEPENDENCIES, set())
