# SPDX-License-Identifier: Apache-2.0
"""The private libvirtd's parts that need no libvirtd: what it is told, and what a domain gets."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from testbed import libvirt
from testbed.libvirt import Domain, Libvirt

DOMAIN = (
    "<domain type='qemu'><name>vm1</name><devices><interface type='vhostuser'/></devices></domain>"
)


def test_a_domain_gets_the_serial_ports_that_its_guest_talks_through(tmp_path: Path) -> None:
    made = Libvirt(tmp_path / "lv")
    tree = ET.fromstring(made.with_consoles(DOMAIN))
    devices = [device.tag for device in tree.findall("devices/*")]
    assert devices == ["interface", "serial", "serial", "serial"]
    log, commands, person = tree.findall("devices/serial")
    domain = Domain(made, "vm1")
    assert log.find("source").get("path") == str(domain.log)  # type: ignore[union-attr]
    source = commands.find("source")
    assert source is not None
    assert source.attrib == {"mode": "bind", "path": str(domain.commands.path)}
    assert person.get("type") == "null"
    ports = [serial.find("target").get("port")  # type: ignore[union-attr]
             for serial in (log, commands, person)]  # fmt: skip
    assert ports == ["0", "1", "2"]


def test_a_domain_without_devices(tmp_path: Path) -> None:
    tree = ET.fromstring(Libvirt(tmp_path).with_consoles("<domain><name>x</name></domain>"))
    assert len(tree.findall("devices/serial")) == 3


def test_whoever_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in str(libvirt.available())


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert str(libvirt.available()).startswith("libvirtd is missing")
