# SPDX-License-Identifier: Apache-2.0
"""What the tests do inside the nested host, one function a step (testbed/inside.py calls them).

The interpreter lives as long as the host; so do the switch, namespaces and guests that are made
here.  Nothing in it may import pytest, whose start takes seconds on an emulated processor.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import mmap
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from testbed import echo, stream, unprivileged
from testbed.daemons import ApiError, Switch, installed
from testbed.netns import Namespace, Tap
from testbed.qemu import Network
from testbed.testpmd import Settings, Testpmd, VirtioUser
from vif_uswitch.uplink.cli import main as uplink_cli

MEMLOCK = 256 << 20  # what a unit of systemd would say: LimitMEMLOCK=256M

Json = dict[str, Any]


class Inside:
    """All that runs in there."""

    switch: Switch
    namespaces: dict[str, Namespace] = {}
    taps: dict[str, Tap] = {}
    listeners: dict[str, stream.Listener] = {}
    testpmd: Testpmd | None = None
    held: list[int] = []


def start(options: Json) -> Json:
    """Both daemons, as the unprivileged user, with a limit on locked memory."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (MEMLOCK, MEMLOCK))
    directory = Path(tempfile.mkdtemp(prefix="switch-", dir="/run"))
    Inside.switch = Switch(unprivileged.own(directory, unprivileged.identity()), options=options)
    Inside.switch.start(120)
    return processes()


def stop() -> str:
    """End both; returns the log."""
    Inside.switch.stop()
    return Inside.switch.log.read_text()


def log(lines: int = 60) -> str:
    """The end of the daemons' log."""
    return "\n".join(Inside.switch.log.read_text().splitlines()[-lines:])


def processes() -> Json:
    """Pid and user of both."""
    pids = {"daemon": Inside.switch.daemon_pid, "dataplane": Inside.switch.dataplane_pid}
    return {name: {"pid": pid, "uid": os.stat(f"/proc/{pid}").st_uid} for name, pid in pids.items()}


def api(verb: str, params: Json) -> Any:
    """One request of the control API; a refusal comes back as ``{"refused": ...}``."""
    try:
        return Inside.switch.call(verb, **params)
    except ApiError as error:
        return {"refused": str(error), "data": error.data}


def wait_uplink(name: str, link: str, timeout: float = 60) -> Json:
    """Until an uplink's link is in that state."""
    deadline = time.monotonic() + timeout
    while True:
        uplink: Json = Inside.switch.call("uplink.show", name=name)["uplink"]
        if uplink["port"]["link"] == link:
            return uplink
        if time.monotonic() > deadline:
            raise TimeoutError(f"uplink {name} is {uplink['port']['link']}, not {link}, after "
                               f"{timeout:.0f} s: {uplink['port']['reason']}\n{log()}")
        time.sleep(0.1)


def wait_balanced(name: str, timeout: float = 30) -> Json:
    """An uplink's details once its counters stand still."""
    deadline = time.monotonic() + timeout
    last: Json = {}
    while time.monotonic() < deadline:
        detail: Json = Inside.switch.call("uplink.show", name=name)
        counted = {key: detail["uplink"][key] for key in ("incoming", "outgoing")}
        if counted == last:
            return detail
        last = counted
        time.sleep(0.5)
    raise TimeoutError(f"traffic of {name} does not come to rest: {last}")


def add_host(name: str, settings: Json, ip: str, mtu: int | None = None) -> None:
    """A namespace behind a TAP port."""
    tap = Inside.taps[name] = Tap(f"t-{name}")
    namespace = Inside.namespaces[name] = Namespace(name)
    Inside.switch.add_tap(name, tap.ifname, **settings)
    namespace.adopt(tap, Network(ip=ip, mtu=mtu))
    Inside.switch.wait_link(name)


def remove_host(name: str) -> None:
    """The port, the device and the namespace."""
    Inside.switch.call("port.delete", name=name)
    Inside.taps.pop(name).close()
    Inside.namespaces.pop(name).close()


def ping(namespace: str, address: str, count: int, size: int) -> Json:
    """echo.Answers."""
    return asdict(echo.ping(Inside.namespaces[namespace], address, count, size=size))


def listen(namespace: str, address: str) -> int:
    """Expect a TCP stream; returns the port number."""
    listener = Inside.listeners[namespace] = stream.Listener(Inside.namespaces[namespace], address)
    return listener.port


def heard(namespace: str) -> str:
    """Digest of the stream that was expected."""
    with Inside.listeners.pop(namespace) as listener:
        return listener.digest()


def send(namespace: str, address: str, port: int, size: int) -> str:
    """Send a TCP stream; returns its digest."""
    return stream.send(Inside.namespaces[namespace], address, port, size)


def bad_checksums(namespace: str) -> int:
    """What the namespace's kernel found damaged so far."""
    return stream.bad_checksums(Inside.namespaces[namespace])


def kill(what: str) -> None:
    """SIGKILL the dataplane, or uswitchd, which is started again by start_again()."""
    if what == "dataplane":
        Inside.switch.wait_replaced(Inside.switch.kill_dataplane(), 120)
    else:
        Inside.switch.kill_daemon()


def start_again() -> Json:
    """The next uswitchd, beside the dataplane that the last one left."""
    Inside.switch.start(120)
    return processes()


def start_guest(name: str, segment: str, mac: str) -> None:
    """dpdk-testpmd as a guest behind a vhost-user port, sending back whatever it gets."""
    path = Inside.switch.add_port(name, segment=segment)
    guest = Testpmd(name, Inside.switch.directory, [VirtioUser(path, mac)],
                    Settings(mode="macswap", memory=128, mbufs=4096))
    Inside.testpmd = guest
    guest.wait(120)
    guest.start()
    Inside.switch.wait_link(name)


def stop_guest(name: str) -> Json:
    """The guest's own counters; it is gone afterwards."""
    guest = Inside.testpmd
    assert guest is not None
    counters = guest.stop()[0]
    guest.close()
    Inside.testpmd = None
    Inside.switch.call("port.delete", name=name)
    return {"received": counters.rx_packets, "sent": counters.tx_packets,
            "dropped": counters.tx_dropped}


def allow_memory(size: int) -> None:
    """What the switch may lock from now on, as if its unit said so."""
    for pid in (Inside.switch.daemon_pid, Inside.switch.dataplane_pid):
        resource.prlimit(pid, resource.RLIMIT_MEMLOCK, (size, MEMLOCK))


def hold(path: str) -> None:
    """Be another process that has a VFIO group, until let_go()."""
    Inside.held.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))


def let_go() -> None:
    """No longer."""
    while Inside.held:
        os.close(Inside.held.pop())


def uplink_helper(words: list[str]) -> Json:
    """uswitch-uplink, as root in there."""
    command = [str(installed("uswitch-uplink")), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    return {"rc": done.returncode, "out": done.stdout, "err": done.stderr}


def uplink_list() -> Any:
    """What it lists, by the main() of that part: a process more takes seconds in there."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = uplink_cli(["list", "-f", "json"])
    assert status == 0
    return json.loads(out.getvalue())


def poke(address: str, register: int, value: int) -> None:
    """Write a register of an adapter behind its driver's back (root can; iomem=relaxed)."""
    with open(f"/sys/bus/pci/devices/{address}/resource0", "r+b", buffering=0) as bar:
        window = mmap.mmap(bar.fileno(), 0x20000)
        word = ctypes.c_uint32.from_buffer(window, register)
        word.value = value
        del word
        window.close()
