# SPDX-License-Identifier: Apache-2.0
"""A domain's XML as a tree that can be edited and written back as libvirt writes it.

A diff that people are asked to agree to shows what changes and nothing else, so
namespace prefixes, attribute order and quotes survive: libvirt's text, read and
written here, is the same text.  ElementTree renames prefixes; minidom does not.

Input is what libvirt printed, checked and bounded by ``hooks.domain_xml``.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.dom import minidom

from vif_uswitch.hooks.domain_xml import parse_domain

_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_ATTRIBUTE = str.maketrans({
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;",
    "\n": "&#10;", "\r": "&#13;", "\t": "&#9;",
})  # fmt: skip

Element = minidom.Element


def parse(text: str) -> Element:
    """The ``<domain>``, for editing in place; raises InvalidInput for what is none."""
    parse_domain(text)  # no document type, bounded depth and size
    root = minidom.parseString(text).documentElement
    assert root is not None
    _strip(root)
    return root


def _strip(element: Element) -> None:
    """Forget the white space between elements: it comes back when the tree is written."""
    for node in list(element.childNodes):
        if isinstance(node, Element):
            _strip(node)
        elif blank(node) and any(isinstance(other, Element) for other in element.childNodes):
            element.removeChild(node)


def blank(node: minidom.Node) -> bool:
    return node.nodeType == node.TEXT_NODE and not (node.nodeValue or "").strip()


def written(element: Element, indent: str = "") -> str:
    """Two blanks a level, single quotes, a line for each element; ends with a line feed."""
    # The parser puts namespaces first, libvirt last.
    pairs = sorted(element.attributes.items(), key=lambda pair: pair[0].startswith("xmlns"))
    head = f"{indent}<{element.tagName}" + "".join(
        f" {name}='{value.translate(_ATTRIBUTE)}'" for name, value in pairs
    )
    if not element.childNodes:
        return f"{head}/>\n"
    if all(node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE)
           for node in element.childNodes):  # fmt: skip
        text = "".join(node.nodeValue or "" for node in element.childNodes)
        return f"{head}>{text.translate(_TEXT)}</{element.tagName}>\n"
    inner = [_line(node, indent + "  ") for node in element.childNodes if not blank(node)]
    return f"{head}>\n{''.join(inner)}{indent}</{element.tagName}>\n"


def _line(node: minidom.Node, indent: str) -> str:
    """A node among elements; others than libvirt's own come from other programs' metadata."""
    if isinstance(node, Element):
        return written(node, indent)
    if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE):
        return f"{indent}{(node.nodeValue or '').strip().translate(_TEXT)}\n"
    return f"{indent}{node.toxml()}\n"


def children(element: Element, tag: str | None = None) -> Iterator[Element]:
    for node in element.childNodes:
        if isinstance(node, Element) and tag in (None, node.tagName):
            yield node


def child(element: Element | None, path: str) -> Element | None:
    """The first element at a path of tags, ``devices/interface``; None if there is none."""
    for tag in path.split("/"):
        if element is None:
            return None
        element = next(children(element, tag), None)
    return element


def attribute(element: Element | None, path: str, name: str) -> str:
    """An attribute below ``element``; "" where the element or the attribute is missing."""
    found = child(element, path) if path else element
    return found.getAttribute(name) if found is not None else ""


def make(tag: str, attributes: dict[str, str] | None = None, *inner: Element,
         space: str | None = None) -> Element:  # fmt: skip
    """``space``: the namespace that the tag's prefix stands for."""
    element = minidom.Document().createElementNS(space, tag)
    for name, value in (attributes or {}).items():
        element.setAttribute(name, value)
    for node in inner:
        element.appendChild(node)
    return element


def interfaces(domain: Element) -> list[Element]:
    devices = child(domain, "devices")
    return list(children(devices, "interface")) if devices is not None else []


def share_memory(domain: Element) -> None:
    """Memory that can be mapped: as it is backed already, or else by memfd, which needs no set-up.

    Where huge pages or a source are asked for they stay, and only the access changes.
    """
    backing = child(domain, "memoryBacking")
    if backing is None:
        backing = make("memoryBacking")
        insert_after(domain, child(domain, "currentMemory") or child(domain, "memory"), backing)
    if child(backing, "source") is None and child(backing, "hugepages") is None:
        backing.appendChild(make("source", {"type": "memfd"}))
    elif attribute(backing, "source", "type") == "anonymous":
        source = child(backing, "source")
        assert source is not None
        source.setAttribute("type", "memfd")
    access = child(backing, "access")
    if access is None:
        insert_after(backing, child(backing, "source") or child(backing, "hugepages"),
                     make("access", {"mode": "shared"}))  # fmt: skip
    else:
        access.setAttribute("mode", "shared")
    numa = child(domain, "cpu/numa")
    for cell in children(numa, "cell") if numa is not None else ():
        if cell.hasAttribute("memAccess"):
            cell.setAttribute("memAccess", "shared")


def restore_memory(domain: Element, before: Element) -> None:
    """Takes ``share_memory()`` back; ``before``: the domain as it was, which loses the element."""
    backing, old = child(domain, "memoryBacking"), child(before, "memoryBacking")
    if backing is not None and old is not None:
        domain.replaceChild(old, backing)
    elif backing is not None:
        domain.removeChild(backing)
    numa, numa_before = child(domain, "cpu/numa"), child(before, "cpu/numa")
    if numa is not None and numa_before is not None:
        for cell, former in zip(children(numa, "cell"), children(numa_before, "cell"),
                                strict=False):  # fmt: skip
            if former.hasAttribute("memAccess"):
                cell.setAttribute("memAccess", former.getAttribute("memAccess"))


def insert_after(parent: Element, before: Element | None, new: Element) -> None:
    """Behind one of the parent's children, or at its end."""
    nodes = list(parent.childNodes)
    place = nodes.index(before) + 1 if before is not None else len(nodes)
    if place < len(nodes):
        parent.insertBefore(new, nodes[place])
    else:
        parent.appendChild(new)
