# SPDX-License-Identifier: Apache-2.0
"""The marks that say what is to be done with the blocks of a page (tests/functional/doc_blocks.py),
and that every block of every page has one."""

from __future__ import annotations

import docutils.core
import docutils.nodes
import pytest

from tests.functional import doc_bed_host, doc_bed_libvirt, doc_blocks
from tests.functional.doc_blocks import PageError, missing, read
from tests.functional.test_virt_manager import fragment, ways

ELSEWHERE = {
    "two hosts": "functional/test_libvirt_migration.py",
    "adapter": "vfio/test_pages.py",
}
BEDS = {*doc_bed_host.QUICK, *doc_bed_host.SLOW, *doc_bed_libvirt.KINDS, *ELSEWHERE}

PAGE = """
.. bed: session

.. run: user

Make a port::

   uswitchctl port add vm1 \\
     --segment blue

   uswitchctl show

Text that says it is one:: no.

.. shows: the screen

It says::

   ports      1 in …

.. file: ~/vm1.xml

.. code-block:: xml
   :caption: a domain

   <domain/>

* in a list

  .. run: guest vm1

  ::

     ping 10.0.0.2

.. hidden: root

   true

The end.

.. run: user until is ready

::

   uswitchd --user

.. text: because

::

   a picture

.. bed: two hosts

.. run: host1 fails

::

   false
"""


def test_a_page() -> None:
    page = read("x", PAGE)
    assert [(story.bed, len(story.steps)) for story in page.stories] == [
        ("session", 6), ("two hosts", 1)]  # fmt: skip
    assert [(step.words, step.text) for step in page.texts] == [(("because",), "a picture\n")]
    assert [(step.kind, step.words) for step in page.steps] == [
        ("run", ("user",)), ("shows", ("the", "screen")), ("file", ("~/vm1.xml",)),
        ("run", ("guest", "vm1")), ("run", ("root",)), ("run", ("user", "until", "is", "ready")),
        ("run", ("host1", "fails")),
    ]  # fmt: skip
    assert page.steps[0].text == (
        "uswitchctl port add vm1 \\\n  --segment blue\n\nuswitchctl show\n"
    )
    assert [step.text for step in page.steps[2:5]] == ["<domain/>\n", "ping 10.0.0.2\n", "true\n"]
    assert (page.steps[0].who, page.steps[5].until()) == ("user", "is ready")
    assert str(page.steps[0]) == "x.rst:6"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (".. bed: b\n\nA block::\n\n   true\n", "x.rst:3: this block has no mark"),
        (".. bed: b\n\n.. code-block:: xml\n\n   <a/>\n", "has no mark"),
        (".. run: user\n\nA block::\n\n   true\n", "x.rst:3: no '.. bed: NAME' before it"),
        (".. bed: b\n\n.. file: x\n\n::\n\n   true\n", "on bed 'b' nothing is done"),
        (".. bed: b\n\n.. bed: c\n\n.. run: user\n\n::\n\n   a\n", "on bed 'b' nothing"),
        (".. bed: b\n\n.. run: user\n\n::\n\n   a && b\n", "left side of &&"),
        (".. bed: b\n\n.. run: user\n\n.. run: user\n\n::\n\n   true\n", "has no block"),
        (".. bed: b\n\n.. run: user\n", "its last mark has no block"),
        (".. bed: b\n\n.. run: user sometimes\n\n::\n\n   true\n", "is not understood"),
        (".. bed: b\n\n.. run:\n\n::\n\n   true\n", "is not understood"),
        (".. bed: b\n\n.. run: guest\n\n::\n\n   true\n", "is not understood"),
        (".. bed: b\n\n.. text:\n\n::\n\n   true\n", "is not understood"),
        (".. bed: b\n\n.. hidden: user\n\nNothing.\n", "or empty"),
    ],
)
def test_pages_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(PageError, match=why.replace("(", r"\(")):
        read("x", text)


@pytest.mark.parametrize(
    ("expected", "said", "lacks"),
    [
        ("a  b\n…\nc 1 …\n", "a b\nx\nc  1 2\n", ""),
        ("a\nb\n", "b\na\n", "b"),
        ("a…\n", "b\n", "a…"),
        ("3 of 3\n", "13 of 3\n", "3 of 3"),
        ("a(.*)\n", "ab\n", "a(.*)"),
    ],
)
def test_what_a_block_shows(expected: str, said: str, lacks: str) -> None:
    assert missing(expected, said) == lacks


@pytest.mark.parametrize("name", doc_blocks.names())
def test_every_block_is_marked(name: str) -> None:
    """One without a mark would be a command that nobody runs; likewise a bed that nobody has."""
    page = read(name)
    assert {story.bed for story in page.stories} <= BEDS


def test_what_is_pressed_in_virt_manager() -> None:
    """Who edits the page need not have run make check-virt-manager."""
    assert [way[-1] for way in ways()] == [
        "Enable XML editing", "Apply", "XML", "Finish", "XML", "Apply"]  # fmt: skip
    page = read("libvirt")
    assert all(fragment(page, tag) for tag in ("memoryBacking", "interface", "metadata"))


def test_every_story_is_told_to_a_test() -> None:
    """And a bed is of one kind, or its pages would be typed twice."""
    assert len(doc_bed_host.QUICK) + len(doc_bed_host.SLOW) + len(doc_bed_libvirt.KINDS) + len(
        ELSEWHERE) == len(BEDS)  # fmt: skip
    told = doc_blocks.stories(BEDS)
    assert ("install", 0) in told and ("install", 1) in told and ("uplink", 1) in told
    assert [name for name, number in doc_blocks.stories(["two hosts"])] == ["migration"]


def test_pages_are_found() -> None:
    found = doc_blocks.names()
    assert {"README", "index", "tap", "tests/README"} <= set(found)
    assert not [name for name in found if name.rpartition("/")[2].startswith("_")]


def parsed(text: str) -> tuple[list[str], list[str]]:
    """Literal blocks, and complaints, as docutils has them; Sphinx's own words it does not know."""
    quiet = {"report_level": 5, "halt_level": 5, "file_insertion_enabled": False}
    tree = docutils.core.publish_doctree(text, settings_overrides=quiet)
    complaints = [str(one.astext()) for one in tree.findall(docutils.nodes.system_message)]
    blocks = [str(block.astext()).strip() for block in tree.findall(docutils.nodes.literal_block)
              if not isinstance(block.parent, docutils.nodes.system_message)]  # fmt: skip
    return blocks, complaints


@pytest.mark.parametrize("name", doc_blocks.names())
def test_a_reader_sees_the_same_blocks(name: str) -> None:
    text = "\n".join(doc_blocks.lines(name))
    assert parsed(text)[0] == [block.strip() for block in doc_blocks.blocks(text.splitlines())]


@pytest.mark.parametrize("name", doc_blocks.BESIDE)
def test_pages_beside_the_code_are_well_formed(name: str) -> None:
    """The others Sphinx reads, to which warnings are errors."""
    assert parsed("\n".join(doc_blocks.lines(name)))[1] == []


def test_what_docutils_would_find() -> None:
    blocks, complaints = parsed("A::\n\n   b\n\n==  ==\nlong  c\n==  ==\n")
    assert blocks == ["b"] and "Malformed table" in complaints[0]
