# SPDX-License-Identifier: Apache-2.0
"""The parts of the nested host that need no QEMU: its cable, its calls, its command line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.inside import Caller, CallError, serve
from testbed.vfio_guest import Adapter
from testbed.wire import Wire


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with Wire(tmp_path / "n0") as cable:
        yield cable


@pytest.fixture
def adapter(wire: Wire) -> Iterator[socket.socket]:
    """QEMU's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"{wire.path}.nic")
        end.settimeout(10)
        yield end


def test_frames_are_counted_kept_and_handed_on(wire: Wire, adapter: socket.socket) -> None:
    seen: list[bytes] = []
    wire.keep()
    wire.connect(seen.append)
    for frame in (b"other", b"wanted"):
        adapter.sendto(frame, f"{wire.path}.wire")
    assert wire.receive(lambda frame: frame == b"wanted") == b"wanted"
    assert wire.receive(lambda frame: True, timeout=0.05) is None
    assert (wire.frames, wire.bytes) == (2, 11)
    assert seen[:1] == [b"other"]


def test_a_full_socket_makes_the_sender_wait(wire: Wire, adapter: socket.socket) -> None:
    frames = [bytes([number]) * 60 for number in range(100)]
    sender = threading.Thread(target=wire.send_all, args=(frames,))
    sender.start()
    assert [adapter.recv(100) for _ in frames] == frames
    sender.join()


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    """A caller whose serial port ends in a server in this process."""
    path = tmp_path / "tty"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        found = Caller(path, lambda: None)
        connection, _ = listener.accept()
    server = threading.Thread(target=_serve, args=(connection,), daemon=True)
    server.start()
    yield found
    found.close()
    server.join(10)
    connection.close()


def _serve(connection: socket.socket) -> None:
    with socket.SocketIO(connection, "rw") as stream:
        serve(stream)


def test_a_result_comes_back(caller: Caller) -> None:
    assert caller.call("posixpath", "basename", {"p": "/a/b"}, 10) == "b"


def test_an_error_comes_back_with_its_traceback(caller: Caller) -> None:
    with pytest.raises(CallError, match="no_such"):
        caller.call("posixpath", "no_such", {}, 10)
    assert caller.call("posixpath", "basename", {"p": "/a/c"}, 10) == "c"


def test_adapter_has_its_own_port_and_cable() -> None:
    words = Adapter("virtio", Path("/run/n1"), "52:54:00:00:02:02", ("packed=on",)).arguments(1)
    assert words[1].startswith("dgram,id=net1,local.type=unix,local.path=/run/n1.nic")
    assert words[3] == ("virtio-net-pci,disable-legacy=on,iommu_platform=on,id=nic1,netdev=net1,"
                        "mac=52:54:00:00:02:02,bus=port1,packed=on")
