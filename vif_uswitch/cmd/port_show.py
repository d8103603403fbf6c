# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl port show``: one port, its vhost-user session, rings, counters and drops."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from vif_uswitch.api import names
from vif_uswitch.client import Client
from vif_uswitch.cmd import output, text
from vif_uswitch.cmd.output import Column
from vif_uswitch.cmd.parsing import Commands
from vif_uswitch.cmd.port import COLUMNS


def register(commands: Commands) -> None:
    show = commands.add("port", "show", show_port, "show one port, its session and its counters")
    show.add_argument("name")
    output.add_options(show, sort=False)


def _features(table: dict[int, str]) -> Callable[[str], str]:
    return lambda mask: f"{mask}\n{' '.join(names.bits(int(mask, 16), table))}".strip()


def counters(value: dict[str, int]) -> str:
    extra = ", ".join(
        f"{key} {value[key]}"
        for key in ("flooded", "gso", "csum_fixed", "gso_fixed", "bursts", "signals")
        if value[key]
    )
    head = f"{value['frames']} frames, {value['bytes']} bytes, {value['dropped']} dropped"
    return f"{head}; {extra}" if extra else head


def _rings(rings: list[dict[str, Any]]) -> str:
    lines = []
    for ring in rings:
        role = "receives" if ring["index"] % 2 == 0 else "transmits"
        state = "enabled" if ring["enabled"] else "disabled"
        state = state if ring["active"] else "not started"
        lines.append(
            f"{ring['index']} (guest {role}): {state}, size {ring['size']},"
            f" avail {ring['last_avail']}, used {ring['used_idx']},"
            f" {ring['frames']} frames, {ring['dropped']} dropped"
        )
    return "\n".join(lines)


def drops(rows: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{row['frames']} {row['reason']} ({row['direction']}): {row['text']}" for row in rows
    )


SHOW_COLUMNS: tuple[Column, ...] = (
    *(
        Column(c.key, c.title, c.text if c.key != "macs" else None)
        for c in COLUMNS
        if c.key != "where"
    ),
    Column("sessions", "Sessions"),
    Column("virtio_features", "Virtio features", _features(names.VIRTIO_FEATURES)),
    Column("protocol_features", "Protocol features", _features(names.PROTOCOL_FEATURES)),
    Column("memory_regions", "Memory regions"),
    Column("memory_bytes", "Memory", text.size),
    Column("rings", "Rings", _rings),
    Column("incoming", "Into the switch", counters),
    Column("outgoing", "Out of the switch", counters),
    Column("drops", "Drops", drops),
)


HIDDEN = {
    "vhost-user": ("ifname", "netns", "pci", "physnet"),
    "tap": ("path", "mode", "pci", "physnet"),
    "xdp": ("path", "mode", "netns", "pci"),
    "nic": ("path", "mode", "ifname", "netns"),
}
"""What a port of that type does not have."""


def show_port(client: Client, args: argparse.Namespace) -> int:
    detail = client.port_show(args.name)
    row = {**detail.pop("port"), **detail}
    if args.format == "json":
        row["virtio_feature_names"] = names.bits(
            int(row["virtio_features"], 16), names.VIRTIO_FEATURES
        )
        row["protocol_feature_names"] = names.bits(
            int(row["protocol_features"], 16), names.PROTOCOL_FEATURES
        )
        if not args.column:
            print(json.dumps(row, indent=2))
            return 0
    columns = SHOW_COLUMNS
    if args.format == "table" and not args.column:
        skip = HIDDEN[row["type"]]
        columns = tuple(column for column in SHOW_COLUMNS if column.key not in skip)
    print(output.render_one(row, columns, args))
    return 0
