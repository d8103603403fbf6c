# SPDX-License-Identifier: Apache-2.0
"""Options of a command as metadata, which the hook reads again."""

from __future__ import annotations

import pytest

from tests.unit.domain.domain_rig import MAC, OTHER, domain, entry
from vif_uswitch.domain import settings, tree
from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.hooks.domain_xml import Allowed, PortSettings, TrunkRow, parse_domain

CHANGES = {
    "segment": "blue", "trunk": [{"vid": 7, "segment": "red"}], "mtu": 9000, "flood_rate": 1,
    "flood_burst": 2, "fdb_quota": 3, "max_kbps": 4, "max_burst_kbps": 5, "max_kpps": 6,
    "max_burst_kpps": 7, "description": "a 'b' <c>", "admin_up": False,
    "guard": {"pairs": [{"mac": MAC.upper(), "ip": "10.0.0.5"}, {"mac": OTHER, "ip": None}]},
}  # fmt: skip


def test_everything_that_can_be_said_is_read_again() -> None:
    made = settings.from_changes(MAC, CHANGES)
    assert made == PortSettings(
        MAC, "blue", 9000, 1, 2, 3, 4, 5, 6, 7, False, "a 'b' <c>", (TrunkRow(7, "red"),),
        (Allowed(MAC, "10.0.0.5"), Allowed(OTHER)),
    )  # fmt: skip
    root = tree.parse(domain(metadata="<x:other xmlns:x='urn:x'/>"))
    settings.put(root, {MAC: made, OTHER: PortSettings(OTHER)})
    read = parse_domain(tree.written(root))
    assert read.ports == {MAC: made, OTHER: PortSettings(OTHER)} and not read.refused
    assert "<x:other" in tree.written(root)


def test_the_element_is_replaced_removed_and_made() -> None:
    root = tree.parse(domain(metadata=entry(OTHER, segment="red") + "<x:y xmlns:x='urn:x'/>"))
    settings.put(root, {MAC: PortSettings(MAC, "blue")})
    assert set(parse_domain(tree.written(root)).ports) == {MAC}
    settings.put(root, {})
    assert "uswitch" not in tree.written(root) and "<x:y" in tree.written(root)
    bare = tree.parse(domain())
    before = tree.written(bare)
    settings.put(bare, {})
    assert tree.written(bare) == before
    settings.put(bare, {MAC: PortSettings(MAC)})
    assert [one.tagName for one in tree.children(bare)][:3] == ["name", "uuid", "metadata"]


def test_libvirts_call_gets_no_namespace() -> None:
    text = settings.ports_text({MAC: settings.from_changes(MAC, {"segment": "blue"})})
    assert text == f"<ports>\n  <port mac='{MAC}' segment='blue'/>\n</ports>\n"
    assert settings.ports_text({}) is None


def test_an_entry_that_cannot_be_read_is_not_written_over() -> None:
    broken = parse_domain(domain(metadata=entry(OTHER, speed="fast")))
    with pytest.raises(InvalidInput, match="speed"):
        settings.all_settings(broken)
