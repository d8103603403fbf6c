# SPDX-License-Identifier: Apache-2.0
"""Uplinks of the configuration: a section [uplink:NAME] for each.

``main.py`` brings them into the desired state at start, before anything acts on
it.  They are kept in the state file as well, marked: so that an uplink has the
same id after a restart, by which a dataplane that runs on knows it, and so that
one whose section is gone can be taken away.  A mistake in a section, or one that
contradicts what the API has made, keeps uswitchd from starting, and says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import msgspec
from oslo_config import cfg

from vif_uswitch import conf as options
from vif_uswitch.api import types as api
from vif_uswitch.api.values import Vid
from vif_uswitch.daemon import ports
from vif_uswitch.daemon.ports import Desired, Port
from vif_uswitch.daemon.state import StateStore
from vif_uswitch.daemon.uplink import rows
from vif_uswitch.exceptions import Conflict, InvalidInput, USwitchError

LOG = logging.getLogger(__name__)
_TYPES = {field.name: field.type for field in msgspec.structs.fields(api.UplinkSpec)}


def specs(conf: cfg.ConfigOpts) -> list[api.UplinkSpec]:
    """What the sections say, each value checked as the API checks it."""
    names = options.static_uplinks(conf)
    return [_spec(name, conf[options.UPLINK_PREFIX + name]) for name in names]


def _spec(name: str, section: cfg.ConfigOpts.GroupAttr) -> api.UplinkSpec:
    where = f"[{options.UPLINK_PREFIX}{name}]"
    found: dict[str, Any] = {"name": _checked(f"section {where}: name", "name", name)}
    for option in options.STATIC_UPLINK_OPTS:
        what, value = f"option {option.dest} in {where}", section[option.dest]
        if option.dest == "vlans":
            found["trunk"] = tuple(_row(what, text) for text in value)
        elif value is not None:
            found[option.dest] = _checked(what, option.dest, value)
    return api.UplinkSpec(**found)


def _row(what: str, text: str) -> api.TrunkRow:
    """100=blue"""
    vid, _, segment = text.partition("=")
    try:
        return msgspec.convert({"vid": int(vid), "segment": segment.strip()}, api.TrunkRow)
    except (ValueError, msgspec.ValidationError):
        raise InvalidInput(
            what, text, "is malformed",
            "Each item is VLAN=SEGMENT, for example 100=blue. " + _about(Vid),
        ) from None  # fmt: skip


def _checked(what: str, member: str, value: object) -> object:
    try:
        return msgspec.convert(value, _TYPES[member])
    except msgspec.ValidationError:
        raise InvalidInput(what, value, "is not allowed", _about(_TYPES[member])) from None


def _about(kind: Any) -> str:
    """The sentence that the API has about a type."""
    for part in (kind, *get_args(kind)):
        for note in getattr(part, "__metadata__", ()):
            if note.description:
                return str(note.description)
    return ""


def bring_in(store: StateStore, found: Sequence[api.UplinkSpec]) -> Desired:
    """The stored state with these uplinks of the configuration, and no others; stored again."""
    before = store.load()
    desired = merge(before, found, time.time_ns() // 1000)
    if desired != before:
        store.save(desired)
    return desired


def merge(before: Desired, found: Sequence[api.UplinkSpec], now_us: int = 0) -> Desired:
    """Policy without I/O: the next state, or InvalidInput that names the section."""
    former = {name: port for name, port in before.ports.items() if port.static}
    desired = replace(
        before, ports={name: port for name, port in before.ports.items() if name not in former}
    )
    reserved = [port.port_id for port in former.values()]
    for spec in found:
        try:
            port = _port(desired, spec, former.get(spec.name), reserved, now_us)
            desired = ports.put_port(desired, replace(port, static=True), create_segments=True)
        except USwitchError as error:
            raise InvalidInput(
                f"section [{options.UPLINK_PREFIX}{spec.name}]", None,
                f"cannot be had: {error}",
                "For a change by uswitchctl, take the section out and start uswitchd first."
                if spec.name in before.ports or isinstance(error, Conflict) else "",
            ) from None  # fmt: skip
    return desired


def _port(
    desired: Desired, spec: api.UplinkSpec, former: Port | None, reserved: Sequence[int],
    now_us: int,
) -> Port:
    """One that the API made is taken over, if it is the same adapter's."""
    if spec.name in desired.ports:
        former = desired.ports[spec.name]
        ports.refuse_other(former, spec, "")
    if former is None:
        return ports.new_port(desired, spec, "", reserved, now_us)
    bare = replace(ports.bare_port(former.port_id, spec, ""), created_us=former.created_us)
    port, gone = rows.keep_rows(ports.changed(bare, spec), former)
    for row in gone:
        LOG.warning("uplink %s: its section in the configuration leaves no place for %s",
                    spec.name, row)  # fmt: skip
    return port
