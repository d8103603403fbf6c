# SPDX-License-Identifier: Apache-2.0
"""The marks that say what is to be done with the blocks of a page (tests/functional/doc_blocks.py),
and that every page that is to be run has them."""

from __future__ import annotations

import pytest

from tests.functional import doc_blocks
from tests.functional.doc_blocks import PageError, missing, read
from tests.functional.test_virt_manager import fragment, ways

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
"""


def test_a_page() -> None:
    page = read("x", PAGE)
    assert page.bed == "session"
    assert [(step.kind, step.words) for step in page.steps] == [
        ("run", ("user",)), ("shows", ("the", "screen")), ("file", ("~/vm1.xml",)),
        ("run", ("guest", "vm1")), ("run", ("root",)), ("run", ("user", "until", "is", "ready")),
    ]  # fmt: skip
    assert page.steps[0].text == (
        "uswitchctl port add vm1 \\\n  --segment blue\n\nuswitchctl show\n")
    assert [step.text for step in page.steps[2:5]] == ["<domain/>\n", "ping 10.0.0.2\n", "true\n"]
    assert (page.steps[0].who, page.steps[5].until()) == ("user", "is ready")
    assert str(page.steps[0]) == "x.rst:6"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (".. bed: b\n\nA block::\n\n   true\n", "x.rst:3: this block has no mark"),
        (".. bed: b\n\n.. code-block:: xml\n\n   <a/>\n", "has no mark"),
        (".. run: user\n\nA block::\n\n   true\n", "has no '.. bed"),
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


@pytest.mark.parametrize("name", [*doc_blocks.RUN, "migration"])
def test_pages_are_marked(name: str) -> None:
    """A block without a mark would be a command that nobody runs."""
    page = read(name)
    assert any(step.kind == "run" for step in page.steps)


def test_what_is_pressed_in_virt_manager() -> None:
    """Who edits the page need not have run make check-virt-manager."""
    assert [way[-1] for way in ways()] == [
        "Enable XML editing", "Apply", "XML", "Finish", "XML", "Apply"]  # fmt: skip
    page = read("libvirt")
    assert all(fragment(page, tag) for tag in ("memoryBacking", "interface", "metadata"))
