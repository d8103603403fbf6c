# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.ml2 import binding

from .switch_fake import PORT

HOST = {
    "vhostuser_socket_dir": "/run/uswitch/vhost",
    "interface_mappings": {"physnet1": "up0"},
    "uswitchd_problem": "",
}


def segment(**more: Any) -> dict[str, Any]:
    return {"network_type": "vlan", "physical_network": "physnet1", "segmentation_id": 101, **more}


def test_details_pick_nova_s_plugin() -> None:
    path = binding.socket_path("/run/uswitch/vhost", PORT)
    assert path == f"/run/uswitch/vhost/{PORT}.sock"
    common = {"vhostuser_socket": path, "vhostuser_mode": "server"}
    assert binding.vhostuser_details(path, "vrouter") == {**common, "vhostuser_vrouter_plug": True}
    assert binding.vhostuser_details(path, "fp") == {**common, "vhostuser_fp_plug": True}
    assert binding.vhostuser_details(path, "noop") == common


def test_longest_socket_path() -> None:
    longest = "/" + "d" * (107 - 1 - len(f"/{PORT}.sock"))
    assert len(binding.socket_path(longest, PORT)) == 107
    with pytest.raises(InvalidInput, match="has 108 bytes, the kernel takes 107"):
        binding.socket_path(longest + "d", PORT)
    with pytest.raises(InvalidInput, match="has 108 bytes"):
        binding.socket_path(longest[:-1] + "é", PORT)


@pytest.mark.parametrize("directory", [None, "", "vhost", 7])
def test_no_directory(directory: object) -> None:
    with pytest.raises(InvalidInput, match="no absolute path"):
        binding.socket_path(directory, PORT)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, ""),
        ({"network_type": "flat", "segmentation_id": None}, ""),
        ({"network_type": "local", "physical_network": None, "segmentation_id": None}, ""),
        ({"network_type": "vxlan"}, "network type vxlan"),
        ({"segmentation_id": 4095}, "VLAN id 4095 is not in 1..4094"),
        ({"segmentation_id": 0}, "VLAN id 0"),
        ({"physical_network": "physnet2"}, "physnet2 has no uplink there (the agent reports:"
         " physnet1)"),
        ({"network_type": "flat", "physical_network": "physnet2"}, "physnet2 has no uplink"),
    ],
)  # fmt: skip
def test_access_to_a_segment(more: Any, words: str) -> None:
    why = binding.why_no_segment(segment(**more), HOST)
    assert words in why
    assert bool(words) == bool(why)


def test_an_agent_without_uplinks() -> None:
    assert "reports: none" in binding.why_no_segment(segment(), {})


def test_why_an_instance_gets_no_socket() -> None:
    assert binding.why_no_socket(HOST, PORT) == ""
    away = {**HOST, "uswitchd_problem": "nobody listens"}
    assert "does not answer the agent: nobody listens" in binding.why_no_socket(away, PORT)
    assert "absolute path" in binding.why_no_socket({}, PORT)
