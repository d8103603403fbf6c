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


def test_real_devices() -> None:
    unshare = ["unshare", "--user", "--net", "--map-root-user"]
    if subprocess.run([*unshare, "test", "-w", "/dev/net/tun"], check=False).returncode:
        pytest.skip("no user namespaces, or no /dev/net/tun to write to")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.stdout == "all well\n", done.stderr


def test_a_device_that_is_not_there_comes_with_the_command_that_makes_it() -> None:
    with pytest.raises(NotFound, match=r"ip tuntap add dev nosuch0 mode tap user .* vnet_hdr"):
        open_tap("nosuch0")


@pytest.mark.parametrize("name", ["", "x" * 16, "a/b", "tap%d", ".", ".."])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidInput):
        open_tap(name)
