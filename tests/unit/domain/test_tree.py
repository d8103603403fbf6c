# SPDX-License-Identifier: Apache-2.0
"""XML that is edited and written back: nothing but the edit may show."""

from __future__ import annotations

import pytest

from tests.unit.domain.domain_rig import UUID, domain
from vif_uswitch.domain import tree
from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.hooks.domain_xml import parse_domain

# As libvirt prints it: two blanks, single quotes; foreign namespaces and escapes.
TEXT = f"""<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>a &lt;b&gt; &amp; c</name>
  <uuid>{UUID}</uuid>
  <title>two
lines</title>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>
      <!--somebody's-->
      <libosinfo:os id='http://debian.org/12'/>
    </libosinfo:libosinfo>
  </metadata>
  <memory unit='KiB'>1024</memory>
  <os>
    <cmdline>a=&apos;b&apos;</cmdline>
  </os>
  <devices>
    <graphics type='vnc' passwd='&apos;&quot;&amp;&lt;'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-foo'/>
  </qemu:commandline>
</domain>
"""


def test_what_libvirt_prints_comes_back_as_it_was() -> None:
    text = TEXT.replace("&apos;b&apos;", "'b'")  # in text, libvirt escapes no quotes
    assert tree.written(tree.parse(text)) == text


def test_white_space_between_elements_is_nobodys() -> None:
    squeezed = "".join(line.strip() for line in TEXT.splitlines() if line != "lines</title>")
    squeezed = squeezed.replace("<title>two", "<title>two\nlines</title>")
    assert tree.written(tree.parse(squeezed)) == tree.written(tree.parse(TEXT))


@pytest.mark.parametrize("text", [
    "<domain", "<network/>", f"<!DOCTYPE domain><domain><uuid>{UUID}</uuid></domain>",
    f"<domain><uuid>{UUID}</uuid>" + "<a>" * 2000 + "</a>" * 2000 + "</domain>",
])  # fmt: skip
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(InvalidInput):
        tree.parse(text)


@pytest.mark.parametrize(("memory", "kept"), [
    ("", "<source type='memfd'/>"),
    ("<memoryBacking/>", "<source type='memfd'/>"),
    ("<memoryBacking><source type='file'/></memoryBacking>", "<source type='file'/>"),
    ("<memoryBacking><source type='anonymous'/><access mode='private'/></memoryBacking>",
     "<source type='memfd'/>"),
    ("<memoryBacking><hugepages><page size='2' unit='M'/></hugepages><locked/></memoryBacking>",
     "<page size='2' unit='M'/>"),
    ("<cpu><numa><cell id='0' memAccess='private'/></numa></cpu>", "memAccess='shared'"),
])  # fmt: skip
def test_memory_is_shared_and_its_backing_stays(memory: str, kept: str) -> None:
    text = domain(memory=memory)
    assert not parse_domain(text).shared_memory
    root = tree.parse(text)
    tree.share_memory(root)
    after = tree.written(root)
    assert parse_domain(after).shared_memory and kept in after
    assert after.count("<source") <= 1 and after.count("<access mode='shared'/>") == 1
    assert ("<source" in after) == ("hugepages" not in after)
    tree.restore_memory(root, tree.parse(text))
    assert tree.written(root) == tree.written(tree.parse(text))


def test_memory_backing_stands_behind_the_memory() -> None:
    root = tree.parse(domain(memory=""))
    tree.share_memory(root)
    assert [one.tagName for one in tree.children(root)] == [
        "name", "uuid", "memory", "memoryBacking", "vcpu", "devices"]  # fmt: skip


def test_small_helpers() -> None:
    root = tree.parse(domain())
    assert tree.attribute(root, "memory", "unit") == "KiB"
    assert tree.attribute(root, "memory/none", "unit") == tree.attribute(root, "x", "y") == ""
    assert tree.interfaces(tree.parse(f"<domain><uuid>{UUID}</uuid></domain>")) == []
