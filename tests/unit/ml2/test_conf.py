# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from oslo_config import cfg

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.ml2 import binding, conf


def config(**values: object) -> cfg.ConfigOpts:
    made = cfg.ConfigOpts()
    conf.register_server_opts(made)
    conf.register_agent_opts(made)
    for name, value in values.items():
        made.set_override(name, value, conf.AGENT_GROUP)
    made([])
    return made


def test_defaults() -> None:
    made = config()
    assert made.ml2_uswitch.nova_plug == "vrouter"
    assert made.uswitch.control_socket == "/run/uswitch/control.sock"
    assert made.uswitch.vhost_socket_dir == ""
    assert made.uswitch.physical_interface_mappings == []


def test_every_choice_of_nova_plug_has_its_keys() -> None:
    (option,) = (option for option in conf.SERVER_OPTS if option.name == "nova_plug")
    choices = getattr(option.type, "choices")  # noqa: B009  (unknown to the stubs)
    assert set(choices) == set(binding.NOVA_PLUG)


def test_registering_twice_is_no_error() -> None:
    conf.register_agent_opts(config())


def test_mappings() -> None:
    assert conf.parse_mappings([]) == {}
    assert conf.parse_mappings(["physnet1:up0", " physnet2 : up1 "]) == {
        "physnet1": "up0", "physnet2": "up1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["physnet1"], "is not PHYSICAL_NETWORK:UPLINK"),
        ([":up0"], "is not PHYSICAL_NETWORK:UPLINK"),
        (["physnet1:"], "is not PHYSICAL_NETWORK:UPLINK"),
        (["physnet1:0000:05:00.0"], "is not PHYSICAL_NETWORK:UPLINK"),
        (["physnet1:up0", "physnet1:up1"], "physnet1:up1: names .* again"),
        (["physnet1:up0", "physnet2:up0"], "physnet2:up0: names .* again"),
    ],
)
def test_mappings_refused(items: list[str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        conf.parse_mappings(items)


def test_generator_namespaces() -> None:
    assert [group for group, _ in conf.list_server_opts()] == ["ml2_uswitch"]
    assert [group for group, _ in conf.list_agent_opts()] == ["uswitch"]
