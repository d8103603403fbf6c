# SPDX-License-Identifier: Apache-2.0
"""The section "virt-manager" of doc/source/libvirt.rst, done in one: make check-virt-manager.

What the section has in italics are names of things on the screen, and pressed
in the page's order; what is pasted are the page's own fragments.  The guest is
one as virt-manager makes it, so its <metadata> are not empty.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from . import desktop, doc_blocks
from .desktop import Desktop
from .doc_bed import Bed
from .doc_bed_libvirt import KINDS, SYSTEM_URI
from .doc_blocks import Page
from .doc_typist import do
from .systemd_host import wait

PAGE, SECTION = "libvirt", "virt-manager"
BED = KINDS["system"]
_WHY = desktop.why_not("virt-manager") or BED.why_not()
pytestmark = [
    pytest.mark.guest, pytest.mark.slow, pytest.mark.spare, pytest.mark.timeout(900),
    pytest.mark.skipif(bool(_WHY), reason=_WHY),
]  # fmt: skip

LOGS = "USWITCH_DESKTOP_LOGS"  # a directory for what a failure leaves
CHANGE_SECONDS = 60.0
BOOT_SECONDS = 240.0
NAMESPACE = "{urn:vif-uswitch:domain:1}"
# Two buttons have other names for who does not see them.
HEARD = {"Add Hardware": "add-hardware", "Apply": "config-apply"}
EDITOR = "XML editor"
# As the page's fragments need it: a socket called web, two vCPUs.
GUEST = """
export HOME=/run
virt-install --name web --memory 256 --vcpus 2 --osinfo linux2022 --graphics none --network none \\
  --import --disk /var/lib/libvirt/images/vm1.qcow2 --print-xml > /run/web.xml
virsh define /run/web.xml
"""


def ways() -> list[list[str]]:
    """Names that are pressed one after the other, in the section's order."""
    text = (doc_blocks.PAGES / f"{PAGE}.rst").read_text(encoding="utf-8")
    found = re.search(rf"^{SECTION}\n=+\n(.*?)\n[^\n]+\n=+\n", text, re.DOTALL | re.MULTILINE)
    assert found
    return [" ".join(way.split()).split(" → ") for way in re.findall(r"\*([^*]+)\*", found[1])]


def fragment(page: Page, tag: str) -> str:
    """An element that stands in one of the page's fragments, as it stands there."""
    for step in page.texts:
        found = re.search(rf"<{tag}[ >].*</{tag}>", step.text, re.DOTALL)
        if found:
            return found[0]
    raise AssertionError(f"{PAGE}.rst shows no <{tag}>")


def element(page: Page, tag: str) -> ET.Element:
    return ET.fromstring(fragment(page, tag))


def inner(text: str) -> str:
    """What stands in an element."""
    return text[text.index(">") + 1 : text.rindex("</")]


def lacks(there: ET.Element | None, wanted: ET.Element) -> str:
    """What libvirt's element does not have of the page's, "" if nothing; it may have more."""
    if there is None:
        return f"<{wanted.tag}>"
    if not wanted.attrib.items() <= there.attrib.items():
        return f"<{wanted.tag}> {wanted.attrib}, it is {there.attrib}"
    for child in wanted:
        lacking = [lacks(one, child) for one in there.findall(child.tag)] or [f"<{child.tag}>"]
        if all(lacking):
            return lacking[0]
    return ""


class Reader:
    """Of the page, who sits at virt-manager."""

    def __init__(self, bed: Bed, page: Page, screen: Desktop) -> None:
        self.bed = bed
        self.page = page
        self.screen = screen

    def goes(self, way: list[str]) -> None:
        self.screen.press(*(HEARD.get(name, name) for name in way))

    def domain(self) -> ET.Element:
        """As libvirt will start it the next time."""
        return ET.fromstring(self.bed.run("root", "virsh dumpxml web --inactive").stdout)

    def has_got(self, path: str, wanted: ET.Element) -> None:
        """Wait until libvirt has that element in the domain."""
        deadline = time.monotonic() + CHANGE_SECONDS
        while missing := lacks(self.domain().find(path), wanted):
            there = ET.tostring(self.domain(), "unicode")
            assert time.monotonic() < deadline, f"{missing} is not in\n{there}"
            time.sleep(0.2)

    def port(self) -> dict[str, Any]:
        """The guest's only one."""
        done = self.bed.run("root", "uswitchctl port list --external-id domain=web -f json")
        [port] = json.loads(done.stdout)
        return dict(port)


def test_the_section(tmp_path: Path) -> None:
    page = doc_blocks.read(PAGE)
    preferences, memory, hardware, finish, overview, apply = ways()
    assert page.stories[0].bed == "system"
    with BED.make(tmp_path) as bed:
        prepare(bed, page, tmp_path)
        logs = Path(os.environ.get(LOGS, tmp_path))
        with Desktop(bed, ["virt-manager", "--debug", "-c", SYSTEM_URI], logs) as screen:
            reader = Reader(bed, page, screen)
            reader.goes(preferences)
            screen.press("Close", "web", "Open", "Details")
            reader.goes(memory)
            reader.has_got("memoryBacking", element(page, "memoryBacking"))
            add(reader, hardware, finish)
            describe(reader, overview, apply)
            screen.press("Run")
            connected(reader)


def prepare(bed: Bed, page: Page, scratch: Path) -> None:
    """What the page has a host do before there are guests, and a guest without an interface."""
    for step in itertools.takewhile(lambda step: "virt-install" not in step.text, page.steps):
        do(bed, step, "", scratch)
    done = bed.run("root", GUEST)
    assert done.returncode == 0, done.stdout


def add(reader: Reader, hardware: list[str], finish: list[str]) -> None:
    reader.goes(hardware)
    assert reader.screen.text(EDITOR).startswith("<interface "), "this is what is replaced"
    reader.screen.write(EDITOR, fragment(reader.page, "interface"))
    reader.goes(finish)
    reader.has_got("devices/interface", element(reader.page, "interface"))
    mac = element(reader.page, "interface").findall("mac")[0].attrib["address"]
    reader.screen.sees(f"NIC {mac[-9:]}")  # by now virt-manager has read the guest anew


def describe(reader: Reader, overview: list[str], apply: list[str]) -> None:
    reader.goes(overview)
    before = reader.screen.text(EDITOR)
    own = ET.fromstring(before).find("metadata")
    assert own is not None, "the page says that it is there already"
    added = inner(fragment(reader.page, "metadata"))
    reader.screen.write(EDITOR, before.replace("</metadata>", f"{added}</metadata>"))
    reader.goes(apply)
    reader.has_got("metadata", element(reader.page, "metadata"))
    reader.has_got("metadata", own)


def connected(reader: Reader) -> None:
    """The switch has the port that the page's fragments ask for, and the guest drives it."""
    wait(lambda: "running" in reader.bed.run("root", "virsh domstate web").stdout, "it runs")
    wait(lambda: reader.port()["link"] == "up", "the guest's port is up", BOOT_SECONDS)
    port, said = reader.port(), element(reader.page, "metadata")[0][0]
    asked = {child.tag: child.attrib for child in element(reader.page, "interface")}
    assert port["path"] == asked["source"]["path"]
    assert str(port["queues"]) == asked["driver"]["queues"]
    assert (port["segment"], str(port["max_kbps"])) == (
        said.attrib["segment"], said.attrib["max-kbps"])  # fmt: skip
    assert [{name: str(value) for name, value in row.items()} for row in port["trunk"]] == [
        one.attrib for one in said.findall(f"{NAMESPACE}trunk")]  # fmt: skip
    assert port["guard"]["pairs"] == [one.attrib for one in said.findall(f"{NAMESPACE}allow")]
    seen = reader.bed.guest("web", "cat /sys/class/net/eth0/address").stdout
    assert asked["mac"]["address"] in seen
