# SPDX-License-Identifier: Apache-2.0
"""uswitch-uplink on a real kernel: it takes an adapter from its driver, and gives it back."""

from __future__ import annotations

import json
from typing import Any

from testbed.vfio_guest import USER, Nested

from .conftest import Lab


def _helper(host: Nested, *words: str) -> str:
    done: dict[str, Any] = host.call("tests.vfio.steps", "uplink_helper", words=list(words))
    assert done["rc"] == 0, done
    return str(done["out"])


def _state(host: Nested, address: str) -> tuple[str, str]:
    rows = json.loads(_helper(host, "list", "-f", "json"))
    return next((row["kernel_driver"], row["state"]) for row in rows if row["address"] == address)


def test_bind_and_unbind(lab: Lab, host: Nested) -> None:
    """The group's device belongs to the switch's group while the adapter is bound."""
    card = lab.cards["spare"]
    host.bind(card.address, "igb")
    assert _state(host, card.address) == ("igb", "free")
    _helper(host, "bind", card.address)
    assert _state(host, card.address) == ("vfio-pci", "bound")
    node = f"/dev/vfio/{host.group(card.address)}"
    assert host.must(f"stat -c %G {node}").strip() == USER
    _helper(host, "unbind", card.address)
    assert _state(host, card.address) == ("igb", "free")
