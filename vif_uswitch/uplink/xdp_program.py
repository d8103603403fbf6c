# SPDX-License-Identifier: Apache-2.0
"""The XDP program of an interface: what it does, how it gets there and away again.

The program is six instructions, written out below: redirect a frame to the
AF_XDP socket of its receive queue, or pass it to the kernel's own stack if there
is none.  It stays on the interface, and its map with it, until it is taken off
or the interface is gone; sockets leave the map by themselves when they are
closed.  So whoever dies, frames go to the kernel's stack then, as before.

libbpf (Debian: libbpf1) makes the system calls; no compiler is needed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from functools import cache

from vif_uswitch.exceptions import Conflict, NotFound, USwitchError

NAME = b"uswitch_xdp"  # of program and map, as bpftool shows it
QUEUES_MAX = 64

_MAP_XSK = 17  # BPF_MAP_TYPE_XSKMAP
_PROG_XDP = 6  # BPF_PROG_TYPE_XDP
_HAS_FRAGS = 1 << 5  # BPF_F_XDP_HAS_FRAGS: frames in several pieces are welcome (Linux 5.18)
_IF_NOEXIST, _SKB_MODE, _DRV_MODE = 1, 2, 4  # XDP_FLAGS_*
_MODES = {1: "native", 2: "generic"}  # XDP_ATTACHED_DRV, XDP_ATTACHED_SKB
_FLAGS = {"native": _DRV_MODE, "generic": _SKB_MODE}


# Options of libbpf, which begin with their size, and answers of the kernel, in native layout.
_LOAD = struct.Struct("@NiiII")  # attempts, attach type, BTF, flags
_DETACH = struct.Struct("@Nii")  # program that must be there, padding
_QUERY = struct.Struct("@NIIIIB7x")  # program's id (any, native, hardware, generic), mode
_INFO = struct.Struct("@48x2IN16s")  # bpf_prog_info: uid, number of maps, where their ids go, name


@cache
def _libbpf() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libbpf.so.1")
    except OSError as error:
        raise NotFound("library", "libbpf.so.1", str(error),
                       "Install it: apt install libbpf1") from error  # fmt: skip


def _call(name: str, *arguments: object) -> int:
    """A call of libbpf 1.x, which answers with a value or with -errno."""
    value: int = getattr(_libbpf(), name)(*arguments)
    if value < 0:
        raise OSError(-value, os.strerror(-value), name)
    return value


def instructions(map_fd: int) -> bytes:
    """struct bpf_insn: code, registers (source and destination), offset, immediate."""

    def one(code: int, to: int = 0, of: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
        nibbles = of << 4 | to if sys.byteorder == "little" else to << 4 | of
        return struct.pack("=BBhi", code, nibbles, offset, immediate)

    return b"".join((
        one(0x61, to=2, of=1, offset=16),      # r2 = ctx->rx_queue_index
        one(0x18, to=1, of=1, immediate=map_fd),  # r1 = the map (BPF_PSEUDO_MAP_FD), two slots
        one(0x00),
        one(0xB7, to=3, immediate=2),          # r3 = XDP_PASS, for a queue that has no socket
        one(0x85, immediate=51),               # r0 = bpf_redirect_map(r1, r2, r3)
        one(0x95),                             # return r0
    ))  # fmt: skip


def _load(map_fd: int, flags: int = _HAS_FRAGS) -> int:
    code = instructions(map_fd)
    try:
        return _call("bpf_prog_load", _PROG_XDP, NAME, b"Apache-2.0", code, len(code) // 8,
                     _LOAD.pack(_LOAD.size, 0, 0, 0, flags))  # fmt: skip
    except OSError:
        if not flags:
            raise
        return _load(map_fd, flags=0)


class Program:
    """Our program on an interface, and its map.  Closed with ``close()``; the program stays."""

    def __init__(self, ifindex: int, fd: int, map_fd: int, mode: str) -> None:
        self.ifindex, self.mode = ifindex, mode
        self._fd, self._map = fd, map_fd

    @classmethod
    def find(cls, ifindex: int, ifname: str) -> Program | None:
        """The one that is there; Conflict if it is somebody else's."""
        answer = ctypes.create_string_buffer(_QUERY.pack(_QUERY.size, 0, 0, 0, 0, 0), _QUERY.size)
        _call("bpf_xdp_query", ifindex, 0, answer)
        _size, some, native, hardware, generic, mode = _QUERY.unpack(answer.raw)
        number = native or generic or hardware or some
        if not number:
            return None
        fd = _call("bpf_prog_get_fd_by_id", number)
        try:
            map_id = ctypes.c_uint32()
            info = ctypes.create_string_buffer(
                _INFO.pack(0, 1, ctypes.addressof(map_id), b""), _INFO.size
            )
            _call("bpf_obj_get_info_by_fd", fd, info, ctypes.byref(ctypes.c_uint32(_INFO.size)))
            name = _INFO.unpack(info.raw)[-1].rstrip(b"\0")
            found = name.decode(errors="replace")
            if name != NAME or mode not in _MODES:
                raise Conflict("interface", ifname, f"has another XDP program ({found})",
                               f"Take it off first: ip link set dev {ifname} xdp off")  # fmt: skip
            return cls(ifindex, fd, _call("bpf_map_get_fd_by_id", map_id.value), _MODES[mode])
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, ifindex: int, ifname: str) -> Program:
        """Native if the driver can, else generic."""
        map_fd = _call("bpf_map_create", _MAP_XSK, NAME, 4, 4, QUEUES_MAX, None)
        program = cls(ifindex, _load(map_fd), map_fd, "")
        why: OSError | None = None
        for mode, flag in _FLAGS.items():
            program.mode = mode
            try:
                _call("bpf_xdp_attach", ifindex, program._fd, flag | _IF_NOEXIST, None)
                return program
            except OSError as error:
                why = error
                if error.errno in (errno.EBUSY, errno.EEXIST, errno.ENODEV):
                    break
        program.close()
        raise USwitchError("interface", ifname, f"takes no XDP program: {why}",
                           "The kernel's log may say why (a large MTU, LRO).")  # fmt: skip

    def place(self, queue: int, socket_fd: int) -> bool:
        """Have a queue's frames go to a socket; False: this kernel wants it to be set up first."""
        key, value = struct.pack("=I", queue), struct.pack("=I", socket_fd)
        try:
            _call("bpf_map_update_elem", self._map, key, value, ctypes.c_uint64(0))
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return False
            raise
        return True

    def detach(self) -> None:
        """Take it off, unless it was replaced meanwhile."""
        options = _DETACH.pack(_DETACH.size, self._fd, 0)
        _call("bpf_xdp_detach", self.ifindex, _FLAGS[self.mode], options)

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._map)
