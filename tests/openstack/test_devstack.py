# SPDX-License-Identifier: Apache-2.0
"""What devstack's plugin writes, against the options that Nova and Neutron really have.

The plugin runs under its shim (tests/unit/devstack), once as it is and once with every variable
that makes it write more.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tests.unit.devstack.bed import TOP, Cloud
from vif_uswitch import plugin_opts
from vif_uswitch.ml2 import conf as ml2_options

# Namespaces of oslo-config-generator, and lists of ours, for each file that devstack makes.
NAMESPACES: dict[str, tuple[str, ...]] = {
    "nova/nova.conf": ("nova.conf",),
    "neutron/plugins/ml2/ml2_conf.ini": ("neutron.ml2", "neutron.base.agent", "neutron.agent"),
    "neutron/dhcp_agent.ini": ("neutron.base.agent", "neutron.dhcp.agent"),
    "neutron/l3_agent.ini": ("neutron.base.agent", "neutron.l3.agent"),
}
OURS = {
    "nova/nova.conf": plugin_opts.list_opts(),
    "neutron/plugins/ml2/ml2_conf.ini": [*ml2_options.list_server_opts(),
                                         *ml2_options.list_agent_opts()],
    "neutron/dhcp_agent.ini": ml2_options.list_agent_opts(),
    "neutron/l3_agent.ini": ml2_options.list_agent_opts(),
}  # fmt: skip
EVERYTHING = """\
USWITCH_NOVA_PLUG=noop
USWITCH_PHYSICAL_INTERFACE_MAPPINGS=public:wire,physnet2:other
"""


def registry(file: str) -> dict[tuple[str, str], cfg.Opt]:
    """(section, option) -> its definition, for one file."""
    known: dict[tuple[str, str], cfg.Opt] = {}
    listed: list[Any] = list(OURS[file])
    for point in entry_points(group="oslo.config.opts"):
        if point.name in NAMESPACES[file]:
            listed += point.load()()
    for group, options in listed:
        for option in options:
            known[str(group or "DEFAULT"), option.dest] = option
    return known


def written(directory: Path, localrc: str, pages: int = 0) -> set[tuple[str, str, str, str]]:
    cloud = Cloud(directory, localrc)
    if pages:
        size = cloud.root / "sys/kernel/mm/hugepages/hugepages-2048kB"
        size.mkdir()
        (size / "nr_hugepages").write_text(f"{pages}\n", encoding="utf-8")
    cloud.stack()
    return {one for one in cloud.written() if one[0] in NAMESPACES}


@pytest.mark.parametrize(("localrc", "pages"), [("", 0), (EVERYTHING, 0), ("", 512)])
def test_every_option_exists_and_takes_its_value(
    tmp_path: Path, localrc: str, pages: int
) -> None:
    found = written(tmp_path, localrc, pages)
    assert {file for file, *_ in found} == set(NAMESPACES)
    for file, section, name, value in sorted(found):
        option = registry(file).get((section, name))
        assert option is not None, f"{file}: no option {name} in [{section}]"
        assert not option.deprecated_for_removal, f"{file}: [{section}] {name} is deprecated"
        option.type(value)  # ValueError if it does not


def test_an_option_that_does_not_exist_is_noticed() -> None:
    assert ("libvirt", "memfd_backed_memory") not in registry("nova/nova.conf")
    with pytest.raises(ValueError):
        registry("nova/nova.conf")["libvirt", "file_backed_memory"].type("half")


@pytest.mark.parametrize(("group", "seen"), [
    ("os_vif", True), ("neutron.ml2.mechanism_drivers", True), ("neutron.interface_drivers", True),
    ("neutron.core_plugins", False),
])
def test_where_the_entry_points_are(tmp_path: Path, group: str, seen: bool) -> None:
    """As the plugin asks after the installation: this interpreter is OpenStack's."""
    program = tmp_path / "nova-compute"
    program.write_text(f"#!{sys.executable} -s\n", encoding="utf-8")
    script = (f"function die {{ exit 7; }}; source {TOP}/devstack/lib/host.sh;"
              f" _uswitch_seen_by {program} {group}")
    assert subprocess.run(["bash", "-c", script], check=False).returncode == (0 if seen else 7)
