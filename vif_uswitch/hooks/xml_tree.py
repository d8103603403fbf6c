# SPDX-License-Identifier: Apache-2.0
"""XML as a tree of plain elements: bounded, and there in a moment.

As much of ElementTree's notation as the hook needs, on the same parser.
Importing ElementTree would take longer than all that is done with it here,
and libvirt waits.  Comments and processing instructions are passed over.

Standard library only.  Functions without I/O; any thread.
"""

from __future__ import annotations

from xml.parsers import expat

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

XML_MAX = 4 * 2**20  # bytes; no longer string passes libvirt's own protocol
DEPTH_MAX = 64


class Element:
    """``tag`` and names of attributes as in ``{namespace}name``; an iterator has the children."""

    __slots__ = ("_children", "_texts", "attrib", "tag")

    def __init__(self, tag: str, attrib: dict[str, str]) -> None:
        self.tag = tag
        self.attrib = attrib
        self._texts: list[str] = []
        self._children: list[Element] = []

    def __iter__(self) -> Iterator[Element]:
        return iter(self._children)

    def __len__(self) -> int:
        return len(self._children)

    @property
    def text(self) -> str:
        """What stands before the first child."""
        return "".join(self._texts)

    def append(self, child: Element) -> None:
        self._children.append(child)

    def append_text(self, data: str) -> None:
        if not self._children:
            self._texts.append(data)

    def get(self, name: str) -> str | None:
        return self.attrib.get(name)

    def findall(self, *tags: str) -> list[Element]:
        """All elements below this one that are reached by these tags, one a level."""
        found = [self]
        for tag in tags:
            found = [child for each in found for child in each if child.tag == tag]
        return found

    def find(self, *tags: str) -> Element | None:
        """The first of ``findall()``."""
        return next(iter(self.findall(*tags)), None)


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) == DEPTH_MAX:
            raise InvalidInput("domain XML", None, f"is nested deeper than {DEPTH_MAX} elements")
        element = Element(_tag(name), {_tag(key): value for key, value in attributes.items()})
        if self._open:
            self._open[-1].append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        self._open[-1].append_text(data)

    def doctype(self, *_: object) -> NoReturn:
        raise InvalidInput("domain XML", None, "has a document type", "Remove the DOCTYPE.")


def _tag(name: str) -> str:
    return "{" + name if "}" in name else name


def parse(text: bytes | str) -> Element:
    """The root.  Raises InvalidInput for what is no XML, and for what libvirt never writes: a
    document type (entities), deep nesting, more than XML_MAX."""
    if len(text) > XML_MAX:
        raise InvalidInput("domain XML", None, f"is longer than {XML_MAX} bytes")
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise InvalidInput("domain XML", None, f"cannot be read: {error}") from None
    assert builder.root is not None  # expat wants one
    return builder.root
