# SPDX-License-Identifier: Apache-2.0
"""veth pairs, root's helper and a switch on AF_XDP sockets, for test_xdp.py.

    far namespace            near namespace                      this process
    near0's peer "far0" ==== "near0" -- XDP program, sockets --> a switch

A switch may also be a whole one, uswitchd and all, in the near namespace (``within``).

As a program, ``helper ETC ...`` is uswitch-xdp with another /etc/uswitch, and
``switch IFINDEX FD...`` a switch of an ordinary user on sockets that it was given.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from testbed import unprivileged
from testbed.netns import Namespace
from tests.functional.hosts import RawSocket
from vif_uswitch.daemon.uplink.xdp_sockets import PATH, open_xdp_sockets
from vif_uswitch.dataplane import native
from vif_uswitch.dataplane.base import NicSetup
from vif_uswitch.dataplane.layout import KIND_XDP
from vif_uswitch.dataplane.native import NativeSwitch
from vif_uswitch.dataplane.statepage import StatePage
from vif_uswitch.uplink import xdp
from vif_uswitch.uplink.host import RootHost

TOP = Path(__file__).resolve().parents[2]
UNTAGGED = native.constant("US_VID_UNTAGGED")
PATIENCE_S = 30.0


def missing() -> str | None:
    """Why AF_XDP cannot be tested here, or None."""
    if os.geteuid() != 0:
        return "network namespaces, veth and AF_XDP sockets need root"
    try:
        socket.socket(xdp.AF_XDP, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return f"no AF_XDP here (CONFIG_XDP_SOCKETS): {error}"
    try:
        from vif_uswitch.uplink import xdp_program

        xdp_program._libbpf()
    except Exception as error:
        return str(error)
    return None


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class EtcHost(RootHost):
    """This host, but for /etc/uswitch."""

    def __init__(self, etc: str) -> None:
        super().__init__()
        self._etc = Path(etc)

    def path(self, absolute: str) -> Path:
        inside = absolute.removeprefix("/etc/uswitch")
        return super().path(absolute) if inside == absolute else self._etc / inside.lstrip("/")


class Bed:
    """Two namespaces, and the helper behind a socket as systemd would start it."""

    def __init__(self, name: str) -> None:
        self.near, self.far = Namespace(f"{name}-near"), Namespace(f"{name}-far")
        self.directory = Path(tempfile.mkdtemp(prefix="uswitch-xdp-"))
        self.path = str(self.directory / "xdp.sock")
        for one in (self.near, self.far):  # or they talk by themselves
            one.run(["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
        self._raw: list[RawSocket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen()
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def close(self) -> None:
        for raw in self._raw:
            raw.close()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._server.join(PATIENCE_S)
        self._listener.close()
        self.near.close()
        self.far.close()
        shutil.rmtree(self.directory)

    def _command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.near.name, sys.executable, "-m", __name__, *words]

    def _serve(self) -> None:
        helpers: list[subprocess.Popen[bytes]] = []
        while True:
            try:
                peer = self._listener.accept()[0]
            except OSError:
                break
            with peer:
                helpers.append(subprocess.Popen(
                    self._command("helper", str(self.directory), "serve"), stdin=peer.fileno(),
                    cwd=TOP))  # fmt: skip
        for one in helpers:
            one.wait(PATIENCE_S * 2)

    def helper(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._command("helper", str(self.directory), *words), cwd=TOP,
                              check=False, capture_output=True, text=True, timeout=60)

    def veth(self, name: str, peer: str, *, queues: int = 1, mtu: int = 1500) -> int:
        """A pair that is up; the near end's index."""
        width = ("numrxqueues", str(queues), "numtxqueues", str(queues))
        ip("-n", self.near.name, "link", "add", name, "mtu", str(mtu), *width, "type", "veth",
           "peer", "name", peer, "netns", self.far.name, *width)
        ip("-n", self.far.name, "link", "set", peer, "mtu", str(mtu))
        self.set_link(name, "up")
        ip("-n", self.far.name, "link", "set", peer, "up")
        line = ip("-n", self.near.name, "-o", "link", "show", name)
        return int(line.split(":")[0])

    def set_link(self, name: str, state: str) -> None:
        ip("-n", self.near.name, "link", "set", name, state)

    def attached(self, name: str, peer: str, *, queues: int = 1, mtu: int = 1500) -> int:
        """The same, and given to the switch."""
        index = self.veth(name, peer, queues=queues, mtu=mtu)
        done = self.helper("attach", name)
        assert done.returncode == 0, done.stderr
        return index

    def within(self) -> list[str]:
        """For a uswitchd in the near namespace, with the helper where it expects it.

        /run is its own there: ``ip netns exec`` makes a mount namespace.
        """
        self.directory.chmod(0o711)
        Path(self.path).chmod(0o666)
        script = f'mount -t tmpfs none /run && ln -s "$0" {PATH} && exec "$@"'
        return ["ip", "netns", "exec", self.near.name, "sh", "-c", script, self.path]

    def raw(self, ifname: str, namespace: Namespace | None = None) -> RawSocket:
        self._raw.append(RawSocket(namespace or self.far, ifname))
        return self._raw[-1]

    def sockets(self, name: str, queues: int = 1) -> list[int]:
        return open_xdp_sockets(name, queues, self.path)


class Port:
    """An AF_XDP port of a switch in this process."""

    def __init__(
        self, switch: NativeSwitch, bed: Bed, port_id: int, name: str, ifindex: int, *,
        queues: int = 1, max_frame: int = 1514, rows: Sequence[tuple[int, int]] = ((UNTAGGED, 1),),
        ring_size: int = 256,
    ) -> None:  # fmt: skip
        self.switch, self.id = switch, port_id
        self.page = StatePage(switch.state_page(port_id), port_id)
        fds = bed.sockets(name, queues)
        try:
            add_port(switch, port_id, self.page.fd, ifindex, fds, max_frame, ring_size)
        except BaseException:
            self.page.close()
            raise
        finally:
            for fd in fds:
                os.close(fd)
        switch.port_tags(port_id, rows)

    def link_up(self) -> bool:
        self.switch.nic_read(self.id)
        nic = self.page.nic()
        assert nic is not None
        return nic.link_up

    def sent_by_queue(self) -> list[int]:
        return [int(row.frames) for row in self.page._page.out]

    def close(self) -> None:
        self.switch.port_del(self.id)
        self.page.close()


def add_port(switch: NativeSwitch, port_id: int, state_fd: int, ifindex: int, fds: Sequence[int],
             max_frame: int = 1514, ring_size: int = 256) -> None:  # fmt: skip
    switch.port_add(port_id, KIND_XDP, state_fd=state_fd, device_fds=fds, max_frame=max_frame,
                    nic=NicSetup(n_queues=len(fds), ring_size=ring_size, ifindex=ifindex))


def until(condition: object, what: str) -> None:
    """Waits for something that must become true."""
    end = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.01)


def _switch(indexes: str, *fds: str) -> None:
    """Ports on the sockets, one each, all in one segment, until standard input ends."""
    with NativeSwitch(workers=1) as switch:
        for number, (index, fd) in enumerate(zip(indexes.split(","), fds, strict=True)):
            add_port(switch, number, switch.state_page(number), int(index), [int(fd)])
            os.close(int(fd))
            switch.port_tags(number, [(UNTAGGED, 1)])
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "helper":
        xdp.USER = unprivileged.identity().name
        sys.exit(xdp.main(sys.argv[3:], EtcHost(sys.argv[2])))
    _switch(*sys.argv[2:])
