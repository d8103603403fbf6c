# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl port``: whose a port is and what it may claim to be; ``uplink map``."""

from __future__ import annotations

import json
import re

from tests.unit.cmd.ctl_rig import Ctl
from tests.unit.daemon.control_rig import Control
from vif_uswitch.cmd import text

MAC = "fa:16:3e:00:00:01"


def shown(ctl: Ctl, name: str) -> dict[str, object]:
    assert ctl(f"port show {name} -f json") == 0
    found: dict[str, object] = json.loads(ctl.out)
    return found


def test_a_guard(control: Control, ctl: Ctl) -> None:
    assert ctl(f"port add vm1 --allow {MAC}=10.0.0.5 --allow {MAC}=fd00::1/64 --allow {MAC}") == 0
    assert shown(ctl, "vm1")["guard"] == {"pairs": [
        {"mac": MAC, "ip": None}, {"mac": MAC, "ip": "10.0.0.5"}, {"mac": MAC, "ip": "fd00::/64"},
    ]}  # fmt: skip
    assert ctl("port show vm1") == 0
    assert re.search(rf"\nGuard +{MAC}\n +{MAC}=10\.0\.0\.5\n +{MAC}=fd00::/64\n", ctl.out)
    assert ctl(f"port set vm1 --allow {MAC}=10.0.0.6") == 0
    assert shown(ctl, "vm1")["guard"] == {"pairs": [{"mac": MAC, "ip": "10.0.0.6"}]}
    assert ctl("port set vm1 --mtu 1400") == 0 and shown(ctl, "vm1")["guard"] is not None
    assert ctl("port set vm1 --no-guard") == 0 and shown(ctl, "vm1")["guard"] is None
    assert ctl("port show vm1") == 0 and re.search(r"\nGuard +-\n", ctl.out)
    assert ctl(f"port set vm1 --no-guard --allow {MAC}") == 2
    assert "--allow and --no-guard exclude each other" in ctl.err
    for bad in ("=10.0.0.5", f"{MAC}="):
        assert ctl(f"port set vm1 --allow {bad}") == 2
        assert "is not MAC or MAC=IP, for example fa:16" in ctl.err
    assert ctl(f"port set vm1 --allow {MAC}=10.0.0.555") == 1
    assert "IP address 10.0.0.555: is malformed. Give an address or a prefix" in ctl.err
    assert text.guard({"pairs": []}) == "may send nothing"


def test_external_ids(control: Control, ctl: Ctl) -> None:
    assert ctl("port add vm1 --external-id owner=me --external-id a.b=x=y") == 0
    assert ctl("port add vm2 --external-id owner=you") == 0
    assert shown(ctl, "vm1")["external_ids"] == {"owner": "me", "a.b": "x=y"}
    assert ctl("port show vm1") == 0 and re.search(r"\nExternal ids +a\.b=x=y\n +owner=me", ctl.out)
    assert ctl("port list --external-id owner=you -f value -c name") == 0 and ctl.out == "vm2\n"
    assert ctl("port list --external-id owner=nobody -f json") == 0 and json.loads(ctl.out) == []
    assert ctl("port list -f json") == 0
    assert [row["external_ids"]["owner"] for row in json.loads(ctl.out)] == ["me", "you"]
    assert ctl("port set vm1 --external-id owner=us --no-external-id a.b --no-external-id z") == 0
    assert shown(ctl, "vm1")["external_ids"] == {"owner": "us"}
    assert ctl("port set vm1 --no-external-id owner") == 0
    assert shown(ctl, "vm1")["external_ids"] == {}
    assert ctl("port set vm1 --external-id a=b --no-external-id a") == 2
    assert "exclude each other" in ctl.err
    assert ctl("port set vm1 --external-id a") == 2
    assert "'a' is not KEY=VALUE, for example owner=me" in ctl.err
    assert ctl("port set nobody --external-id a=b") == 4


def test_when_it_was_made(control: Control, ctl: Ctl) -> None:
    ctl("port add vm1")
    created = shown(ctl, "vm1")["created_us"]
    assert isinstance(created, int)
    assert ctl("port show vm1") == 0
    assert re.search(rf"\nCreated +{text.moment(created)}\n", ctl.out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", text.moment(created))
    assert text.moment(0) == "not known"


def test_uplink_map(control: Control, ctl: Ctl) -> None:
    assert ctl("uplink add up0 --ifname eth7") == 0
    assert ctl("uplink map up0 --vid 100 --segment blue") == 4
    assert "segment blue: does not exist" in ctl.err
    assert ctl("uplink map up0 --vid 100 --segment blue --create-segment") == 0
    assert ctl.out == "uplink up0 changed: 100=blue\n"
    assert ctl("uplink map up0 --vid 100 --segment blue") == 0
    assert ctl.out == "uplink up0 is so already: 100=blue\n"
    assert ctl("uplink map up0 --untagged --segment mgmt --create-segment -f json") == 0
    assert json.loads(ctl.out)["port"]["segment"] == "mgmt"
    assert ctl("uplink map up0 --vid 200 --segment mgmt") == 1
    assert "Remove that row first: uswitchctl uplink map up0 --untagged --none" in ctl.err
    assert ctl("uplink map up0 --untagged --none") == 0
    assert ctl("uplink map up0 --vid 100 --none") == 0
    assert ctl.out == "uplink up0 changed: no rows\n"
    for line in ("--vid 1", "--none", "--vid 1 --untagged --none", "--vid 1 --none --segment a",
                 "--vid x --none"):  # fmt: skip
        assert ctl(f"uplink map up0 {line}") == 2


def test_show_names_the_directory_of_sockets(control: Control, ctl: Ctl) -> None:
    assert ctl("show") == 0 and f"sockets    {control.vhost}\n" in ctl.out


def test_uplinks_take_no_option_that_would_be_ignored(control: Control, ctl: Ctl) -> None:
    for option in ("--external-id owner=me", f"--allow {MAC}"):
        assert ctl(f"uplink add up0 --ifname eth7 {option}") == 2
        assert "unrecognized arguments" in ctl.err
