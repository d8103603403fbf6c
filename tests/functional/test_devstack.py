# SPDX-License-Identifier: Apache-2.0
"""devstack's phases on a real host in namespaces: users, mounts, units, and a switch that switches.

tests/unit/devstack has every branch of the plugin on a host that is a file.  Here it is one way
through, as user ``stack`` with sudo, with the real commands.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.traffic import parse_ping
from tests.functional.devstack_host import Host
from tests.functional.xdp_bed import missing, until

_missing = missing()
pytestmark = [
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
    pytest.mark.timeout(300),
]
RAM = "/var/lib/libvirt/qemu/ram"
TRACES = (
    "ip -brief link", "ip route show table all", "cat /etc/passwd", "cat /etc/group", "ls /etc",
    "ls -lR --time-style=+ /etc/systemd/system /etc/udev/rules.d", "ls -lR --time-style=+ /run",
    "findmnt --raw --noheadings --output TARGET,SOURCE",
    # The directory of libvirt is libvirt's; here is none, so the plugin has made it.
    f"find /var/lib -not -path '{RAM}*' -not -path '/var/lib/libvirt*'",
)  # fmt: skip


@pytest.fixture
def host() -> Iterator[Host]:
    directory = Path(tempfile.mkdtemp(prefix="uswitch-devstack-", dir="/var/tmp"))
    directory.chmod(0o755)
    with Host(directory) as running:
        yield running
    shutil.rmtree(directory)


def traces(host: Host) -> dict[str, list[str]]:
    return {command: sorted(host.run(command).splitlines()) for command in TRACES}


def guest(host: Host, number: int) -> str:
    """A namespace behind a TAP port, in the external network; its name."""
    name, device = f"guest{number}", f"tap{number}"
    host.run(f"ip netns add {name}")
    host.run(f"ip tuntap add dev {device} mode tap user uswitch vnet_hdr")
    host.run(f"uswitchctl port add {device} --type tap --ifname {device} --segment external")
    host.run(f"ip link set {device} netns {name}")
    host.run(f"ip -n {name} address add 172.24.4.{10 + number}/24 dev {device}")
    host.run(f"ip -n {name} link set {device} up")
    return name


def test_stack_unstack_clean(host: Host) -> None:
    before = traces(host)
    host.script("stack")

    # Both processes run as the user, with the groups and limits they need.
    daemons = host.run("pgrep -u uswitch").split()
    assert len(daemons) == 2
    groups = host.run("id -Gn uswitch").split()
    assert groups[0] == "uswitch" and "kvm" in groups
    for pid in daemons:
        limits = host.run(f"cat /proc/{pid}/limits")
        (locked,) = [line for line in limits.splitlines() if line.startswith("Max locked memory")]
        assert locked.split()[3] == "unlimited"
    # QEMU, of group kvm, makes the sockets; nobody else gets in.
    assert host.run("stat -c '%U %G %a' /run/uswitch/vhost").split() == ["uswitch", "kvm", "2770"]
    assert "tmpfs" in host.run(f"findmnt --noheadings {RAM}")
    assert host.run(f"df --output=size --block-size=1M {RAM}").split()[1] == "64"
    # Agents and nova-compute run as stack.
    shown = json.loads(host.run("uswitchctl uplink show wire -f json", user="stack"))
    assert shown["link"] == "up" and shown["physnet"] == "public"

    # Guests on the external network reach this host, and it them.
    names = [guest(host, number) for number in (1, 2)]
    for name, address in ((names[0], "172.24.4.1"), (names[0], "172.24.4.12")):
        said = host.run(f"ip netns exec {name} ping -q -c 5 -i 0.1 -W 5 {address}")
        assert parse_ping(said).received == 5
    assert parse_ping(host.run("ping -q -c 5 -i 0.1 -W 5 172.24.4.12")).received == 5

    # Again, under the ports that there are: all is as it was, processes apart.
    there = traces(host)
    host.script("stack")
    assert traces(host) == there
    until(lambda: json.loads(host.run("uswitchctl uplink show wire -f json"))["link"] == "up",
          "the uplink did not come back")
    assert parse_ping(host.run("ping -q -c 5 -i 0.1 -W 5 172.24.4.12")).received == 5

    # As stop_neutron of unstack.sh does, after our turn.
    host.script("unstack")
    for name in names:
        host.run(f"ip netns delete {name}")
    host.run("rmdir /run/netns", check=False)
    assert host.run("pgrep -u uswitch", check=False) == ""
    assert "usw-" not in host.run("ip -brief link")
    host.script("clean")
    assert traces(host) == before
