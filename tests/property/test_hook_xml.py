# SPDX-License-Identifier: Apache-2.0
"""The hook reads XML as ElementTree does: the same elements, attributes and text, or none."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.hooks import xml_tree as tree

NAMES = st.sampled_from(["a", "domain", "u:ports", "u:port", "n:a", "uuid"])
SPACES = ' xmlns:u="urn:vif-uswitch:domain:1" xmlns:n="http://a.example/b/c"'
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"],
                              exclude_characters="<>&\ufffe\uffff"), max_size=5)  # fmt: skip
BETWEEN = st.one_of(TEXTS, st.sampled_from(["<!-- x -->", "<?x y?>", "&lt;", "&#65;",
                                            "<![CDATA[<&]]>"]))  # fmt: skip


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> str:
    name = draw(NAMES)
    keys = draw(st.lists(NAMES, unique=True, max_size=2))
    attributes = "".join(f' {key}="{draw(TEXTS)}"'.replace('""', '"x"') for key in keys)
    inner = draw(st.lists(BETWEEN if not depth else st.one_of(BETWEEN, elements(depth - 1)),
                          max_size=4))  # fmt: skip
    return f"<{name}{attributes}>{''.join(inner)}</{name}>"


def ours(element: tree.Element) -> Any:
    return element.tag, element.attrib, element.text, [ours(child) for child in element]


def theirs(element: ET.Element) -> Any:
    return (element.tag, element.attrib, element.text or "", [theirs(child) for child in element])


@given(elements())
def test_the_same_tree(text: str) -> None:
    text = f"<root{SPACES}>{text}</root>"
    try:
        wanted = theirs(ET.fromstring(text))
    except ET.ParseError:
        wanted = None
    try:
        got = ours(tree.parse(text))
    except InvalidInput:
        got = None
    assert got == wanted
    if got is not None:
        assert ours(tree.parse(text.encode())) == got


@given(st.one_of(st.text(max_size=40), st.binary(max_size=40)))
def test_whatever_else_it_is(text: str | bytes) -> None:
    try:
        wanted = theirs(ET.fromstring(text))
    except (ET.ParseError, ValueError, LookupError):
        wanted = None
    try:
        assert ours(tree.parse(text)) == wanted
    except InvalidInput:
        assert wanted is None
