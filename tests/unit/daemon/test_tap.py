# SPDX-License-Identifier: Apache-2.0
"""Opening TAP devices, in a network namespace of our own where the host allows one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vif_uswitch.daemon.tap import open_tap
from vif_uswitch.exceptions import InvalidInput, NotFound

SCRIPT = """
import fcntl, os, struct, sys
from vif_uswitch.daemon.tap import open_tap
from vif_uswitch.exceptions import Busy, USwitchError

def make(name, flags):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name, flags))
    fcntl.ioctl(fd, 0x400454CB, 1)  # TUNSETPERSIST
    os.close(fd)

make(b"tap0", 0x5002)
make(b"tun0", 0x1001)
fd = open_tap("tap0")
name, flags = struct.unpack("16sH22x", fcntl.ioctl(fd, 0x800454D2, bytes(40)))  # TUNGETIFF
assert name.rstrip(b"\\0") == b"tap0", name
assert flags & 0x5002 == 0x5002, hex(flags)
assert not os.get_blocking(fd) and not os.get_inheritable(fd)
before = len(os.listdir("/proc/self/fd"))
for bad, kind in (("tap0", "Busy"), ("lo", "InvalidInput"), ("tun0", "InvalidInput")):
    try:
        open_tap(bad)
    except USwitchError as error:
        assert type(error).__name__ == kind, (bad, error)
    else:
        raise AssertionError(bad)
assert len(os.listdir("/proc/self/fd")) == before
os.close(fd)
os.close(open_tap("tap0"))
print("all well")
"""


def run_in_namespace(script: str) -> None:
    unshare = ["unshare", "--user", "--net", "--map-root-user"]
    if subprocess.run([*unshare, "test", "-w", "/dev/net/tun"], check=False).returncode:
        pytest.skip("no user namespaces, or no /dev/net/tun to write to")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "all well\n", done.stderr


def test_real_devices() -> None:
    run_in_namespace(SCRIPT)


NAMESAKE = """
import os, subprocess
from vif_uswitch.daemon.tap import TapOpener
from vif_uswitch.exceptions import NotFound, Unavailable, USwitchError

class Helper:
    asked, error = [], None
    def open(self, netns, ifname):
        self.asked.append((netns, ifname))
        if self.error:
            raise self.error
        return os.open("/dev/null", os.O_RDWR)

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def refused(port):
    try:
        os.close(opener("t0", "web", port))
    except USwitchError as error:
        return type(error).__name__ + ": " + str(error)
    raise AssertionError("took the host's device")

helper = Helper()
opener = TapOpener(helper)
ip("tuntap", "add", "dev", "t0", "mode", "tap", "vnet_hdr")
for alias in ("", "another", "webs", "we"):
    ip("link", "set", "dev", "t0", "alias", alias)
    helper.error = None
    fd = opener("t0", "web", "web")
    assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null", alias
    os.close(fd)
    helper.error = Unavailable("TAP helper", "/x", "does not answer", "Start it")
    for word in ("Unavailable", repr(alias), "Start it. If", "ip link set dev t0 alias web"):
        assert word in refused("web"), (word, refused("web"))
    helper.error = NotFound("device", "t0", "is not there")
    for word in ("NotFound", repr(alias), "ip link set dev t0 alias web"):
        assert word in refused("web"), (word, refused("web"))
ip("link", "set", "dev", "t0", "alias", "web")
helper.asked.clear()
fd = opener("t0", "web", "web")
assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/net/tun"
os.close(fd)
os.close(opener("t0", "", "other"))  # one of this namespace needs no alias
assert not helper.asked
print("all well")
"""


def test_a_device_of_the_same_name_in_our_namespace() -> None:
    """It is taken only if its alias is the port's name, whether there is a helper or not."""
    run_in_namespace(NAMESAKE)


def test_a_device_that_is_not_there_comes_with_the_command_that_makes_it() -> None:
    with pytest.raises(NotFound, match=r"ip tuntap add dev nosuch0 mode tap user .* vnet_hdr"):
        open_tap("nosuch0")


@pytest.mark.parametrize("name", ["", "x" * 16, "a/b", "tap%d", ".", ".."])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidInput):
        open_tap(name)
