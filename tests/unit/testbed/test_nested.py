# SPDX-License-Identifier: Apache-2.0
"""The parts of the nested host that need no QEMU: its cable, its calls, its command line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from testbed import TestbedError, vfio_guest
from testbed.console import Result
from testbed.inside import Caller, CallError, serve
from testbed.vfio_guest import Adapter, Neighbours, Nested
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


def test_neighbours_are_functions_of_one_device() -> None:
    words = Neighbours().arguments(4)
    assert words[0::2] == ["-device"] * 3
    assert [word.partition(",bus=")[2] for word in words[1::2]] == [
        "port4,addr=0.0", "port4,addr=0.1", "port4,addr=0.2"]
    assert "multifunction=on" in words[1]


READY = "GUEST-READY 5.0"
STALLED = "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"


class Booting(Nested):
    """Boots that say what they are told to say, and nothing after it."""

    def __init__(self, directory: Path, *boots: str) -> None:
        super().__init__("host", mock.Mock(), directory)
        self.boots = list(boots)

    def boot(self, nics: Sequence[object] = ()) -> None:
        self._path("log").write_text(self.boots.pop(0))

    def check(self) -> None:
        """It runs."""

    def run(self, command: str, timeout: float = 1.0) -> Result:
        return Result("", 0)

    def _start_caller(self) -> Caller:
        return mock.Mock(spec=Caller)


@pytest.mark.parametrize("hung", ["Linux version 6.1", STALLED])
def test_a_boot_that_hangs_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hung: str
) -> None:
    monkeypatch.setattr(vfio_guest, "STUCK_SECONDS", 0.05)
    host = Booting(tmp_path, hung, READY)
    host.boot()
    with pytest.warns(UserWarning, match="boot 1 of host"):
        host.wait_ready()
    assert (tmp_path / "host.boot1.log").read_text() == hung


def test_a_stall_that_is_reported_again_is_no_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vfio_guest, "STUCK_SECONDS", 0.2)
    host = Booting(tmp_path, STALLED)
    host.boot()
    log = tmp_path / "host.log"
    monkeypatch.setattr(host, "check", lambda: log.write_text(log.read_text() + STALLED))
    assert host._watch_boot(10) == "its kernel reports that it is stuck"


def test_boots_that_hang_come_to_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vfio_guest, "STUCK_SECONDS", 0.05)
    host = Booting(tmp_path, "one", "the other")
    host.boot()
    with pytest.warns(UserWarning), pytest.raises(TestbedError, match=r"(?s)no word.*the other"):
        host.wait_ready()
