# SPDX-License-Identifier: Apache-2.0
"""VER-01..05: versions beside the table, which is also what the documentation shows."""

from __future__ import annotations

import pathlib

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import VENV, FakeRoot
from vif_uswitch.cmd.doctor import versions
from vif_uswitch.cmd.doctor.versions import Range

QEMU, LIBVIRT = "/usr/bin/qemu-system-x86_64", "/usr/sbin/libvirtd"


def test_versions_are_read_from_what_people_write() -> None:
    assert versions.parse("6.18.44-fc-v782") == (6, 18, 44)
    assert versions.parse("34.0.0.0rc1") == (34, 0, 0, 0)
    assert versions.parse("unknown") == ()


@pytest.mark.parametrize(("word", "status"), [
    ("5.8.0", "FAIL"), ("5.9", "WARN"), ("6.0.9", "WARN"), ("6.1", "PASS"), ("6.1.0-40", "PASS"),
    ("6.18.99", "PASS"), ("6.19", "WARN"), ("7.0", "WARN"), ("x", "WARN"), ("", "WARN"),
])
def test_below_within_beyond(
    monkeypatch: pytest.MonkeyPatch, word: str, status: str
) -> None:
    monkeypatch.setitem(versions.TESTED, "Linux", Range((6, 1), (6, 18), (5, 9), "something"))
    assert versions.judge("Linux", word).status.value == status


def test_our_own(host: FakeRoot, expect: Expect) -> None:
    expect("VER-01", "PASS")
    host.client.daemon["version"] = "0.0.1\x1b"
    found = expect("VER-01", "WARN")
    assert "\x1b" not in found.text and "restart" in found.todo
    del host.client.daemon["version"]
    expect("VER-01", "SKIP")


@pytest.mark.parametrize(("ident", "program", "good", "old"), [
    ("VER-03", QEMU, "QEMU emulator version 10.0.2", "QEMU emulator version 2.5.0"),
    ("VER-04", LIBVIRT, "libvirtd (libvirt) 11.3.0", "libvirtd (libvirt) 5.0.0"),
])
def test_programs(host: FakeRoot, expect: Expect, ident: str, program: str, good: str, old: str
                  ) -> None:  # fmt: skip
    expect(ident, "PASS")
    host.programs[program] = f"{old}\n"
    expect(ident, "WARN")
    for garbage in ("", "\0\xff", "version \n"):
        host.programs[program] = garbage
        expect(ident, "WARN")
    host.programs[program] = good
    host.at(program).chmod(0o644)
    expect(ident, "SKIP")
    host.at(program).unlink()
    expect(ident, "SKIP")


def test_openstack(host: FakeRoot, expect: Expect) -> None:
    assert expect("VER-05", "PASS").text == "os-vif 5.3.0, nova 34.0.0, neutron 29.0.0"
    host.distribution("nova", "10.0.0")
    site = host.at(f"{VENV}/lib/python3.11/site-packages")
    (site / "nova-34.0.0.dist-info/METADATA").unlink()
    assert "nova 10.0.0" in expect("VER-05", "WARN").text


def test_nothing_there(empty: FakeRoot, expect: Expect) -> None:
    for ident in ("VER-03", "VER-04", "VER-05"):
        expect(ident, "SKIP")


def test_the_documentation_has_the_same_table() -> None:
    top = pathlib.Path(__file__).resolve().parents[4]
    text = (top / "doc/source/doctor.rst").read_text(encoding="utf-8")
    for name, known in versions.TESTED.items():
        row = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert row.split(maxsplit=1)[1].startswith(versions.tested(known)), row
