# SPDX-License-Identifier: Apache-2.0
"""Options of Nova and Neutron that the documentation tells people to set, against the real ones.

A block of a page that is such a file says in its first line which one, or which two.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator

import pytest
from oslo_config import cfg

from tests.functional import doc_blocks

from .test_devstack import registry

# Name on a page -> name in test_devstack.py.
FILES = {
    "/etc/nova/nova.conf": "nova/nova.conf",
    "/etc/neutron/plugins/ml2/ml2_conf.ini": "neutron/plugins/ml2/ml2_conf.ini",
    "/etc/neutron/plugins/ml2/uswitch_agent.ini": "neutron/plugins/ml2/ml2_conf.ini",
    "dhcp_agent.ini": "neutron/dhcp_agent.ini",
    "l3_agent.ini": "neutron/l3_agent.ini",
}
# A name that an older release has not, said beside it: the name before.
BEFORE = {"project_network_types": "tenant_network_types"}


def blocks() -> Iterator[tuple[str, str, str]]:
    """Page and line, file, content."""
    for name in doc_blocks.names():
        page = doc_blocks.read(name)
        for step in [*page.steps, *page.texts]:
            head = step.text.splitlines()[0].lstrip("# ").replace(" and ", ", ")
            if step.kind in ("text", "file") and set(head.split(", ")) <= set(FILES):
                yield from ((str(step), file, step.text) for file in head.split(", "))


BLOCKS = list(blocks())


def option(file: str, section: str, name: str) -> cfg.Opt | None:
    known = registry(FILES[file])
    return known.get((section, name)) or known.get((section, BEFORE.get(name, "")))


@pytest.mark.parametrize(("where", "file", "text"), BLOCKS, ids=[f"{b[0]}-{b[1]}" for b in BLOCKS])
def test_options_exist_and_take_their_values(where: str, file: str, text: str) -> None:
    parser = configparser.RawConfigParser(default_section="none", comment_prefixes=("#",))
    parser.read_string(text)
    assert parser.sections(), where
    for section in parser.sections():
        for name, value in parser[section].items():
            found = option(file, section, name)
            assert found is not None, f"{where}: no option {name} in [{section}] of {file}"
            found.type(value)  # ValueError if it does not
            assert "#" not in value, f"{where}: a remark on the line of {name} is part of its value"


def test_blocks_are_found() -> None:
    assert {file for _, file, _ in BLOCKS} == set(FILES)
    assert {where.partition(":")[0] for where, _, _ in BLOCKS} == {
        "l3.rst", "neutron.rst", "nova.rst", "tap.rst"}  # fmt: skip


def test_an_option_that_does_not_exist_is_noticed() -> None:
    assert option("/etc/nova/nova.conf", "libvirt", "memfd_backed_memory") is None
