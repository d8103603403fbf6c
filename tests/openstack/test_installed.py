# SPDX-License-Identifier: Apache-2.0
"""What an installation of this project brings beside OpenStack: names that Nova finds."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import os_vif
import pytest
from nova.network import os_vif_util
from oslo_config import cfg

from vif_uswitch.plugin import UswitchPlugin

NAMES = ("uswitch", "contrail_vrouter", "vhostuser_fp")


@pytest.mark.parametrize("name", NAMES)
def test_the_plugin_is_found_by_each_of_its_names(name: str) -> None:
    points = metadata.entry_points(group="os_vif", name=name)
    assert [point.load() for point in points] == [UswitchPlugin]


def test_all_names_have_one_group_of_options() -> None:
    os_vif.initialize()
    plugins = [os_vif._EXT_MANAGER[name].obj for name in NAMES]
    assert all(type(plugin) is UswitchPlugin for plugin in plugins)
    cfg.CONF([], project="nova", default_config_files=[])
    cfg.CONF.set_override("timeout", 7, "os_vif_uswitch")
    assert [plugin.config.timeout for plugin in plugins] == [7, 7, 7]
    cfg.CONF.clear_override("timeout", "os_vif_uswitch")
    assert not [group for group in cfg.CONF if group.startswith("os_vif_contrail")]


def test_os_vif_lists_it_with_the_others() -> None:
    os_vif.initialize()
    mine = [info for info in os_vif.host_info().plugin_info if info.plugin_name == "uswitch"]
    assert {vif.vif_object_name for info in mine for vif in info.vif_info} == {"VIFVHostUser"}
    assert all(vif.get_common_version() for info in mine for vif in info.vif_info)


def test_this_nova_knows_nothing_of_us() -> None:
    """All of this is about an unmodified Nova."""
    assert "uswitch" not in Path(os_vif_util.__file__).read_text(encoding="utf-8")
