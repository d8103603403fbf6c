# SPDX-License-Identifier: Apache-2.0
"""The desired state on disk: ``state_dir/state.json``.

Called by ``service.py`` before an API call is answered, in a thread, one call
at a time; and by ``main.py`` at start.  What this file promises:

* After ``save()`` returned, the new state survives a power cut: temporary
  file, fsync, rename, fsync of the directory.
* When ``save()`` raised, or the process died inside it, the file holds one
  whole state, the old or the new one, never a mixture.
* A file that is damaged, or written by a newer release, is refused and left
  as it is.  Only a file that does not exist means "nothing desired yet".
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any

import msgspec

from vif_uswitch.api import types as api
from vif_uswitch.api import values
from vif_uswitch.daemon import guard, ports
from vif_uswitch.daemon.addresses import format_mac
from vif_uswitch.daemon.model import VID_UNTAGGED
from vif_uswitch.daemon.ports import Desired, Port, Segment
from vif_uswitch.exceptions import InvalidInput, ResourceExhausted, StateDamaged, Unavailable

# 1 had no uplinks, 2 none of the configuration, 3 neither external ids nor guards nor network
# namespaces nor the time at which a port was made.  A state that needs less is still written so,
# for earlier releases.
FORMAT = 4
FILE = "state.json"
SIZE_MAX = 64 * 2**20  # 1024 ports with full trunk tables stay below


CreatedUs = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One port in the file: what the API knows about it, and its id."""

    id: int
    port: api.PortSpec
    created_us: CreatedUs = 0


class _UplinkRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: int
    uplink: api.UplinkSpec
    created_us: CreatedUs = 0
    static: bool = False  # the configuration has it: kept for the sake of its id
    mapped: tuple[Annotated[int, msgspec.Meta(ge=1, le=VID_UNTAGGED)], ...] = ()


class _Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: int
    name: values.SegmentName
    description: values.Description = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    segments: tuple[_Segment, ...]
    ports: tuple[_Row, ...]
    uplinks: tuple[_UplinkRow, ...] = ()


class _Lines:
    """Lines of ports that are as they were: a change of one port does not encode them all."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Port, str]] = {}

    def of(self, ports_: Iterable[Port], row: Callable[[Port], dict[str, Any]]) -> list[str]:
        return [self._line(port, row) for port in ports_]

    def _line(self, port: Port, row: Callable[[Port], dict[str, Any]]) -> str:
        found, line = self._known.get(port.name, (None, ""))
        if found is not port:
            line = _line(row(port))
            self._known[port.name] = (port, line)
        return line

    def forget(self, desired: Desired) -> None:
        """Those of ports that are gone."""
        for name in self._known.keys() - desired.ports.keys():
            del self._known[name]


def encode(desired: Desired, lines: _Lines | None = None) -> bytes:
    """The file's contents: JSON, a line for each segment and port.

    Line by line also because this runs in a thread: one long call of the JSON
    encoder would keep the event loop waiting for the interpreter's lock.
    ``lines`` remembers those of the ports.
    """
    lines = lines or _Lines()
    segments = [
        _line({"id": segment.segment_id, "name": segment.name, "description": segment.description})
        for segment in desired.segments.values()
    ]
    every = desired.ports.values()
    rows = lines.of((port for port in every if not port.kind.is_uplink), _port_row)
    parts = [_list("segments", segments), _list("ports", rows)]
    uplinks = [port for port in every if port.kind.is_uplink]
    if uplinks:
        parts.append(_list("uplinks", lines.of(uplinks, _uplink_row)))
    lines.forget(desired)
    parts.insert(0, f'"format": {max((_format(port) for port in every), default=1)}')
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode("ascii")


def _format(port: Port) -> int:
    """The first one that can say all about the port."""
    new = (port.created_us, port.external_ids, port.guard is not None, port.mapped, port.netns)
    if any(new):
        return 4
    return 3 if port.static else 2 if port.kind.is_uplink else 1


def _port_row(port: Port) -> dict[str, Any]:
    row = {"id": port.port_id, "port": _spec(port)}
    return {**row, "created_us": port.created_us} if port.created_us else row


def _uplink_row(port: Port) -> dict[str, Any]:
    row: dict[str, Any] = {"id": port.port_id, "uplink": _spec(port)}
    marks = {"created_us": port.created_us, "static": port.static, "mapped": port.mapped}
    return row | {key: value for key, value in marks.items() if value}


def _line(row: dict[str, Any]) -> str:
    return "  " + json.dumps(row, ensure_ascii=True)


def _list(name: str, lines: list[str]) -> str:
    text = ",\n".join(lines)
    return f'"{name}": [\n{text}\n]' if text else f'"{name}": []'


def _spec(port: Port) -> dict[str, Any]:
    own: dict[str, Any] = {
        "type": port.kind.value,
        "path": port.path,
        "mode": port.mode.value,
        "ifname": port.ifname,
    }
    if port.kind.is_uplink:
        own = {
            "pci": port.pci,
            "ifname": port.ifname,
            "physnet": port.physnet,
            "ring_size": port.ring_size,
            "irq_us": port.irq_us,
            "zero_copy": port.zero_copy,
            "lro": port.lro,
        }
    elif port.netns:
        own["netns"] = port.netns
    if port.external_ids:
        own["external_ids"] = dict(port.external_ids)
    if port.guard is not None:
        own["guard"] = msgspec.to_builtins(guard.view(port.guard))
    return {
        "name": port.name,
        **own,
        "segment": port.segment,
        "trunk": [{"vid": vid, "segment": segment} for vid, segment in port.trunk],
        "macs": [format_mac(mac) for mac in port.macs],
        "mtu": port.mtu,
        "flood_rate": port.flood_rate,
        "flood_burst": port.flood_burst,
        "fdb_quota": port.fdb_quota,
        "queues": port.queues,
        "max_kbps": port.max_kbps,
        "max_burst_kbps": port.max_burst_kbps,
        "max_kpps": port.max_kpps,
        "max_burst_kpps": port.max_burst_kpps,
        "admin_up": port.admin_up,
        "description": port.description,
    }


def decode(data: bytes, path: str) -> Desired:
    """The state in a file's contents, or StateDamaged."""

    def damaged(why: str) -> StateDamaged:
        return StateDamaged(
            "state file", path, f"is damaged: {why}",
            "uswitchd does not touch it. Repair it or put a copy back; or move it away to start"
            " with no ports.",
        )  # fmt: skip

    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(str(error)) from None
    found = value.get("format") if isinstance(value, dict) else None
    if isinstance(found, int) and not isinstance(found, bool) and found > FORMAT:
        raise StateDamaged(
            "state file", path, f"has format {found}; this uswitchd knows up to {FORMAT}",
            "It was written by a newer release: start that one, or move the file away.",
        )  # fmt: skip
    if found not in range(1, FORMAT + 1):
        raise damaged(f"its format is {found!r}, not 1 to {FORMAT}")
    try:
        content = msgspec.convert(value, _File)
        every = [_port(row.id, row.port, row.created_us) for row in content.ports]
        every += [_uplink(row) for row in content.uplinks]
        desired = Desired(
            {port.name: port for port in every},
            {row.name: Segment(row.id, row.name, row.description) for row in content.segments},
        )
    except (msgspec.ValidationError, InvalidInput) as error:
        raise damaged(str(error)) from None
    if len(desired.ports) != len(every) or len(desired.segments) != len(content.segments):
        raise damaged("a name is used twice")
    ports.check_whole(desired, damaged)
    return desired


def _port(port_id: int, spec: ports.Spec, created_us: int) -> Port:
    path = spec.path if isinstance(spec, api.PortSpec) else ""
    bare = replace(ports.bare_port(port_id, spec, path), created_us=created_us)
    return ports.changed(bare, spec)


def _uplink(row: _UplinkRow) -> Port:
    port = _port(row.id, row.uplink, row.created_us)
    if row.mapped and not (row.static and set(row.mapped) <= dict(port.tags()).keys()):
        raise InvalidInput("rows", list(row.mapped), f"are none that uplink {port.name} was given")
    return replace(port, static=row.static, mapped=tuple(sorted(set(row.mapped))))


class StateStore:
    """The file.  Not thread-safe: the service's lock orders the calls."""

    def __init__(self, directory: str) -> None:
        self.path = pathlib.Path(directory) / FILE
        self._temporary = self.path.with_name(FILE + ".new")
        self._lines = _Lines()
        self._saved: bytes | None = None  # what the file holds, as far as we know

    def load(self) -> Desired:
        try:
            with open(self.path, "rb") as file:
                data = file.read(SIZE_MAX + 1)
        except FileNotFoundError:
            return Desired()
        except OSError as error:
            raise Unavailable(
                "state file", str(self.path), f"cannot be read: {error.strerror}",
                "It must be readable for the user of uswitchd.",
            ) from None  # fmt: skip
        desired = decode(data, str(self.path))
        self._saved = data
        return desired

    def save(self, desired: Desired) -> None:
        data = encode(desired, self._lines)
        renamed = False
        try:
            self._write(data)
            os.rename(self._temporary, self.path)
            renamed = True
            self._sync_directory()
        except OSError as error:
            if renamed:
                self._put_back()
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            raise self._failed(error) from error
        self._saved = data

    def _write(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._temporary, flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def _sync_directory(self) -> None:
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _put_back(self) -> None:
        """After a rename that may not be durable: the caller is told "no", so says the file."""
        with contextlib.suppress(OSError):
            if self._saved is None:
                os.unlink(self.path)
            else:
                self._write(self._saved)
                os.rename(self._temporary, self.path)

    def _failed(self, error: OSError) -> ResourceExhausted | Unavailable:
        kind: type[ResourceExhausted | Unavailable] = Unavailable
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            kind = ResourceExhausted
        return kind(
            "state file", str(self.path), f"cannot be written: {error.strerror}",
            "Nothing was changed. Make room or repair the directory, and try again.",
        )  # fmt: skip
