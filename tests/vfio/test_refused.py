# SPDX-License-Identifier: Apache-2.0
"""Adapters that the switch cannot have: an operator reads what is wrong and what to do about it.

The kernel is a real one in all cases, so the words are about what it really does.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testbed.vfio_guest import Nested

from .conftest import Lab, Switch

MEBI = 1 << 20
LITTLE = 2 * MEBI
ENOUGH = 256 * MEBI

Case = Callable[[Lab, Switch], "contextlib.AbstractContextManager[tuple[str, tuple[str, ...]]]"]
CASES: dict[str, Case] = {}


def _case(function: Callable[[Lab, Switch], Iterator[tuple[str, tuple[str, ...]]]]) -> None:
    """``function`` brings the host into a state; yields an address, and words of the refusal."""
    CASES[function.__name__] = contextlib.contextmanager(function)


@_case
def no_such_device(lab: Lab, switch: Switch) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "0000:77:00.0", ("PCI device 0000:77:00.0: does not exist", "uswitch-uplink list")


@_case
def no_pci_address(lab: Lab, switch: Switch) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "eth0", ("pci eth0: is malformed", "for example 0000:05:00.0")


@_case
def driven_by_the_kernel(lab: Lab, switch: Switch) -> Iterator[tuple[str, tuple[str, ...]]]:
    address = lab.cards["igb"].address
    yield address, (f"{address} (8086:10c9)", "driven by the kernel's igb, not by vfio-pci",
                    f"uswitch-uplink bind {address}", "AF_XDP: --ifname e")


@_case
def of_an_unknown_kind(lab: Lab, switch: Switch) -> Iterator[tuple[str, tuple[str, ...]]]:
    address = lab.neighbours[1]
    with lab.taken(address):
        yield address, (f"{address} (8086:10d3)", "no driver of this switch knows such a device",
                        "use AF_XDP")


@_case
def of_somebody_else(lab: Lab, switch: Switch) -> Iterator[tuple[str, tuple[str, ...]]]:
    address = lab.cards["igb"].address
    with lab.taken(address):
        node = f"/dev/vfio/{lab.host.group(address)}"
        lab.host.must(f"chown root: {node}")
        yield address, (f"VFIO {node}: belongs to user 0", "uswitchd runs as user uswitch",
                        f"uswitch-uplink bind {address}")


@_case
def in_use(lab: Lab, switch: Switch) -> Iterator[tuple[str, tuple[str, ...]]]:
    address = lab.cards["igb"].address
    with lab.taken(address):
        node = f"/dev/vfio/{lab.host.group(address)}"
        switch.do("hold", path=node)
        try:
            yield address, ("another process uses it", f"fuser -v {node}")
        finally:
            switch.do("let_go")


@_case
def in_a_group_that_is_not_viable(lab: Lab, switch: Switch
                                  ) -> Iterator[tuple[str, tuple[str, ...]]]:  # fmt: skip
    ours, _, other = lab.neighbours
    group = lab.host.group(ours)
    assert lab.host.group(other) == group
    with lab.taken(ours):
        yield ours, (f"shares IOMMU group {group} with devices that the kernel drives",
                     f"{other} (virtio-pci)", "Bind them to vfio-pci as well, if the host can do "
                     f"without them ({other})", "AF_XDP")


@_case
def past_the_iommu(lab: Lab, switch: Switch) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A virtio device without iommu_platform=on: its DMA would not be confined."""
    ours, _, other = lab.neighbours
    with lab.taken(ours), lab.taken(other):
        yield ours, (f"{ours} (1af4:1041)", "AF_XDP")


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_refused(lab: Lab, host: Nested, switch: Switch, case: Case) -> None:
    """Nothing is left of an uplink that was refused, and the reason stands in the answer."""
    with case(lab, switch) as (address, words):
        said = _refusal(switch, address)
        missing = [word for word in words if word not in said]
        assert not missing, f"{missing} not in: {said}"
    assert switch.api("uplink.list")["uplinks"] == []


def test_memory_that_may_be_locked(lab: Lab, host: Nested, switch: Switch) -> None:
    """The answer says how much is needed, and that much is enough."""
    address = lab.cards["igb"].address
    with lab.taken(address):
        try:
            switch.do("allow_memory", size=LITTLE)
            said = _refusal(switch, address)
            assert "RLIMIT_MEMLOCK of uswitchd is 2 MiB" in said
            found = re.search(r"it needs (\d+) MiB of locked memory.*LimitMEMLOCK=(\d+)M", said)
            assert found is not None, said
            assert found[1] == found[2], "there is no other uplink"
            switch.do("allow_memory", size=int(found[2]) * MEBI)
            granted = switch.api("uplink.ensure", uplink=_wanted(address), create_segments=True)
            assert granted["uplink"]["adapter"]["pool_bytes"] <= int(found[1]) * MEBI
        finally:
            switch.do("api", verb="uplink.delete", params={"name": "refused"})
            switch.do("allow_memory", size=ENOUGH)


def _wanted(address: str) -> dict[str, Any]:
    return {"name": "refused", "pci": address, "segment": "red", "mtu": 1500}


def _refusal(switch: Switch, address: str) -> str:
    answer = switch.do("api", verb="uplink.ensure",
                       params={"uplink": _wanted(address), "create_segments": True})
    assert "refused" in answer, f"{address} was granted: {answer}"
    return str(answer["refused"])
