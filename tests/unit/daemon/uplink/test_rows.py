# SPDX-License-Identifier: Apache-2.0
"""``uplink.map``: single rows, of uplinks of the API and of those of the configuration."""

from __future__ import annotations

import pathlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.daemon.control_rig import Control
from vif_uswitch.api.types import TRUNK_ROWS_MAX, TrunkRow, UplinkSpec
from vif_uswitch.daemon import ports, state
from vif_uswitch.daemon.model import VID_UNTAGGED, Kind, TagRow
from vif_uswitch.daemon.ports import Desired, Port
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.daemon.uplink import rows, static
from vif_uswitch.exceptions import Busy, Conflict, InvalidInput, NotFound, ResourceExhausted

NIC = "0000:05:00.0"
UP = Port(0, "up0", Kind.NIC, pci=NIC, trunk=((100, "blue"),))
CONF = replace(UP, static=True)


def test_a_row_is_set_changed_and_removed() -> None:
    port = rows.with_row(UP, 200, "red")
    assert port.trunk == ((100, "blue"), (200, "red")) and port.mapped == ()
    assert rows.with_row(port, 200, "red") is port
    port = rows.with_row(port, VID_UNTAGGED, "mgmt")
    assert port.segment == "mgmt"
    port = rows.with_row(rows.with_row(port, 100, "green"), 200, None)
    assert (port.segment, port.trunk) == ("mgmt", ((100, "green"),))
    assert rows.with_row(port, VID_UNTAGGED, None).segment is None
    assert rows.with_row(port, 4094, None) is port


def test_rows_of_the_configuration_are_its_own() -> None:
    assert rows.with_row(CONF, 100, "blue") is CONF
    for segment in ("red", None):
        with pytest.raises(Conflict, match=r"VLAN id 100: is in segment blue on uplink up0, as the"
                           r" configuration says\. Change section \[uplink:up0\]"):  # fmt: skip
            rows.with_row(CONF, 100, segment)
    with pytest.raises(Conflict, match="untagged frames: is in segment mgmt"):
        rows.with_row(replace(CONF, segment="mgmt"), VID_UNTAGGED, "red")
    port = rows.with_row(rows.with_row(CONF, 200, "red"), VID_UNTAGGED, "mgmt")
    assert port.mapped == (200, VID_UNTAGGED)
    port = rows.with_row(rows.with_row(port, 200, "green"), VID_UNTAGGED, None)
    assert (port.mapped, port.trunk) == ((200,), ((100, "blue"), (200, "green")))


def test_a_segment_has_one_row() -> None:
    with pytest.raises(Conflict, match=r"blue: has a row on uplink up0 already: VLAN id 100\..*"
                       r"uswitchctl uplink map up0 --vid 100 --none"):  # fmt: skip
        rows.with_row(UP, 200, "blue")
    plain = rows.with_row(UP, VID_UNTAGGED, "mgmt")
    with pytest.raises(Conflict, match=r"untagged frames.*up0 --untagged --none"):
        rows.with_row(plain, 200, "mgmt")


def test_rows_run_out() -> None:
    full = replace(UP, trunk=tuple((vid, f"s{vid}") for vid in range(1, TRUNK_ROWS_MAX + 1)))
    with pytest.raises(ResourceExhausted, match="up0: has 512 rows"):
        rows.with_row(full, 4000, "more")
    assert rows.with_row(full, VID_UNTAGGED, "more").segment == "more"
    assert dict(rows.with_row(full, 1, "more").trunk)[1] == "more"


VIDS = st.sampled_from([1, 2, 3, VID_UNTAGGED])
ROWS = st.dictionaries(VIDS, st.sampled_from("abcd"), max_size=4)
TABLES = ROWS.filter(lambda table: len(set(table.values())) == len(table))


@given(TABLES, TABLES, st.sets(VIDS), st.booleans())
def test_the_configuration_wins_and_the_rest_stays(
    old: dict[int, str], new: dict[int, str], mapped: set[int], was_static: bool
) -> None:
    def port(table: dict[int, str]) -> Port:
        tagged = tuple(sorted((v, s) for v, s in table.items() if v != VID_UNTAGGED))
        return replace(UP, static=True, segment=table.get(VID_UNTAGGED), trunk=tagged)

    former = replace(port(old), static=was_static, mapped=tuple(mapped & old.keys()))
    kept, gone = rows.keep_rows(port(new), former)
    ports.check_port(kept)
    table = dict(kept.tags())
    assert new.items() <= table.items()
    ours = {vid: old[vid] for vid in (former.mapped if was_static else old)}
    free = {v: s for v, s in ours.items() if v not in new and s not in new.values()}
    assert table == {**free, **new}
    assert set(kept.mapped) == free.keys()
    assert len(gone) == len(ours) - len(free) - len(ours.items() & new.items())


def merged(before: Desired, *specs: UplinkSpec) -> Desired:
    return static.merge(before, specs)


def test_rows_of_the_api_outlive_the_section_that_is_read_again(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = TrunkRow(vid=100, segment="blue")
    StateStore(str(tmp_path)).save(merged(Desired(), UplinkSpec(name="up0", pci=NIC, trunk=(row,))))
    with Control(tmp_path).serving() as control, control.client() as client:
        answer = client.uplink_map("up0", 200, "red", create_segments=True)
        assert answer["changed"] and not answer["created"]
        assert answer["uplink"]["origin"] == "config"
        assert not client.uplink_map("up0", 200, "red")["changed"]
        assert not client.uplink_map("up0", 100, "blue")["changed"]
        client.uplink_map("up0", None, "mgmt", create_segments=True)
        assert [tag.vid for tag in control.fabric.ports[0].tags] == [VID_UNTAGGED, 100, 200]
        with pytest.raises(Conflict, match="as the configuration says"):
            client.uplink_map("up0", 100, None)
        with pytest.raises(Conflict, match="comes from the configuration"):
            client.port_set("up0", {"trunk": []})
        with pytest.raises(Busy, match=r"in use by port up0.*uplink map UPLINK --vid N --none"):
            client.segment_delete("red")
    again = merged(StateStore(str(tmp_path)).load(), UplinkSpec(name="up0", pci=NIC, trunk=(row,)))
    assert again == StateStore(str(tmp_path)).load()
    other = UplinkSpec(name="up0", pci=NIC, trunk=(TrunkRow(vid=300, segment="red"),), mtu=9000)
    port = merged(again, other).ports["up0"]
    assert (port.segment, port.trunk, port.mapped) == ("mgmt", ((300, "red"),), (VID_UNTAGGED,))
    assert "leaves no place for VLAN id 200 in segment red" in caplog.text
    assert merged(again).ports == {}


def test_an_uplink_of_the_api(control: Control) -> None:
    with control.client() as client:
        client.uplink_ensure({"name": "up0", "ifname": "eth7"})
        with pytest.raises(NotFound, match=r"segment blue.*--create-segment"):
            client.uplink_map("up0", 100, "blue")
        client.uplink_map("up0", 100, "blue", create_segments=True)
        tags = [control.fabric.ports[0].tags]
        client.uplink_map("up0", 100, None)
        tags.append(control.fabric.ports[0].tags)
        assert tags == [(TagRow(100, 1),), ()]
        client.segment_delete("blue")
        client.port_add({"name": "vm1"})
        with pytest.raises(NotFound, match="uplink vm1: is no uplink"):
            client.uplink_map("vm1", 100, "blue", create_segments=True)
        with pytest.raises(NotFound, match="uplink nobody: does not exist"):
            client.uplink_map("nobody", None, None)
        for vid in (0, 4095):
            with pytest.raises(InvalidInput, match=f"vid {vid}"):
                client.uplink_map("up0", vid, "blue")
        with pytest.raises(InvalidInput, match="parameter segment: is missing"):
            client.call("uplink.map", name="up0", vid=None)


def test_a_row_of_an_uplink_whose_adapter_is_away(control: Control) -> None:
    async def lose() -> None:
        control.rec.port_lost(0, "eth7 is gone")

    async def heal() -> None:
        control.rec._not_before.clear()
        await control.rec.heal()

    with control.client() as client:
        client.uplink_ensure({"name": "up0", "ifname": "eth7"})
        control.fabric.fail["up0"] = Conflict("device", "eth7", "is not there")
        control.on_loop(lose)
        answer = client.uplink_map("up0", 100, "blue", create_segments=True)
        assert answer["changed"] and "eth7" in answer["uplink"]["port"]["reason"]
        assert control.store.load().port("up0").trunk == ((100, "blue"),)
        control.fabric.fail.clear()
        control.on_loop(heal)
        assert control.fabric.ports[0].tags == (TagRow(100, 1),)


def test_marks_that_no_uplink_can_have_are_damage() -> None:
    good = rows.with_row(CONF, 200, "red")
    desired = ports.put_port(Desired(), good, create_segments=True)
    assert state.decode(state.encode(desired), "x") == desired
    for bad in (replace(good, mapped=(300,)), replace(good, static=False)):
        data = state.encode(Desired({"up0": bad}, desired.segments))
        with pytest.raises(Exception, match="are none that uplink up0 was given"):
            state.decode(data, "x")
