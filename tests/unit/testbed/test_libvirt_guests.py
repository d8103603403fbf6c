# SPDX-License-Identifier: Apache-2.0
"""Domains as somebody without a cloud writes them: what libvirt needs to know stands in the XML."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from testbed import accel
from testbed.libvirt import Libvirt
from testbed.libvirt_guests import Device, Disk, Guests, Interface, Tap
from testbed.qemu import Machine, Network

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
MAC = "52:54:00:00:00:01"
METADATA = '<u:ports xmlns:u="urn:vif-uswitch:domain:1"/>'


@pytest.fixture
def guests(tmp_path: Path) -> Guests:
    for name in ("vmlinux", "initramfs"):
        (tmp_path / name).touch()
    made = Libvirt(tmp_path / "lv")
    made.guests.mkdir(parents=True)
    machine = Machine(tmp_path / "vmlinux", tmp_path / "initramfs", accel.tcg("a test"))
    return Guests(made, machine)


def test_who_listens_stands_in_the_interface() -> None:
    server = ET.fromstring(Interface(Path("/x.sock"), MAC).xml())
    client = ET.fromstring(Interface(Path("/x.sock"), MAC, "client", queues=2).xml())
    assert [each.find("source").get("mode")  # type: ignore[union-attr]
            for each in (server, client)] == ["server", "client"]  # fmt: skip
    assert server.find("source/reconnect") is None, "libvirt refuses it"
    assert client.find("source/reconnect") is not None
    assert server.find("driver") is None
    assert client.find("driver").get("queues") == "2"  # type: ignore[union-attr]


def test_memory_is_shared_and_metadata_are_there(guests: Guests) -> None:
    tree = ET.fromstring(guests.xml("vm1", [], metadata=METADATA))
    access = tree.find("memoryBacking/access")
    assert access is not None and access.get("mode") == "shared"
    assert tree.find("metadata/{urn:vif-uswitch:domain:1}ports") is not None
    assert ET.fromstring(guests.xml("vm2", [])).find("metadata") is None


@pytest.mark.skipif(not (SCHEMA.exists() and shutil.which("xmllint")),
                    reason="libvirt's schema or xmllint is missing")  # fmt: skip
def test_libvirts_schema_takes_it(guests: Guests, tmp_path: Path) -> None:
    devices: list[Device] = [
        Interface(Path("/x.sock"), MAC, "client"), Interface(Path("/y.sock"), MAC),
        Tap("tap0", MAC), Disk(Path("/a.qcow2"))]  # fmt: skip
    (tmp_path / "a.xml").write_text(guests.xml("vm1", devices, Network(ip="10.0.0.1/24"), METADATA))
    done = subprocess.run(["xmllint", "--noout", "--relaxng", str(SCHEMA), str(tmp_path / "a.xml")],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
