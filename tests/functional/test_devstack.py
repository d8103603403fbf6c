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
from typing import Any

import pytest

from testbed.traffic import parse_ping
from tests.functional.devstack_host import Host
from tests.functional.xdp_bed import missing, until

_missing = missing()
pytestmark = [
    pytest.mark.skipif(_missing is not None, reason=str(_missing)),
    pytest.mark.timeout(300),
    pytest.mark.spare,
]
RAM = "/var/lib/libvirt/qemu/ram"
TRACES = (
    "ip -brief link", "ip route show table all", "cat /etc/passwd", "cat /etc/group", "ls /etc",
    "ls -lR --time-style=+ /etc/systemd/system /etc/udev/rules.d",
    "findmnt --raw --noheadings --output TARGET,SOURCE --types tmpfs",
    "find /run -not -path '/run/netns' -printf '%M %u %g %p\\n'",
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


def changed(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    """Lines that went ("-") or came ("+"), by command."""
    return {command: [f"-{line}" for line in was if line not in after[command]]
            + [f"+{line}" for line in after[command] if line not in was]
            for command, was in before.items() if was != after[command]}


def wire(host: Host, user: str = "root") -> dict[str, Any]:
    """The uplink's port."""
    said = json.loads(host.run("uswitchctl uplink show wire -f json", user=user))
    return dict(said["uplink"]["port"])


def guest(host: Host, number: int) -> str:
    """A namespace behind a TAP port, in the external network; its name."""
    name, device = f"guest{number}", f"tap{number}"
    host.run(f"ip netns add {name}")
    host.run(f"ip tuntap add dev {device} mode tap user uswitch vnet_hdr")
    host.run(f"ip link set dev {device} alias {device}")
    host.run(f"uswitchctl port add {device} --type tap --ifname {device} --segment external"
             f" --netns {name}")
    host.run(f"ip link set {device} netns {name}")
    host.run(f"ip -n {name} address add 172.24.4.{10 + number}/24 dev {device}")
    host.run(f"ip -n {name} link set {device} up")
    return name


def test_stack_unstack_clean(host: Host) -> None:
    before = traces(host)
    host.script("stack")

    # Both processes run as the user, with the groups they need.
    assert len(host.run("pgrep -u uswitch").split()) == 2
    groups = host.run("id -Gn uswitch").split()
    assert groups[0] == "uswitch" and "kvm" in groups
    # QEMU, of group kvm, makes the sockets; nobody else gets in.
    assert host.run("stat -c '%U %G %a' /run/uswitch/vhost").split() == ["uswitch", "kvm", "2770"]
    assert "tmpfs" in host.run(f"findmnt --noheadings {RAM}")
    assert host.run(f"df --output=size --block-size=1M {RAM}").split()[1] == "64"
    # Agents and nova-compute run as stack.
    port = wire(host, user="stack")
    assert port["link"] == "up" and port["physnet"] == "public"

    # Guests on the external network reach this host, and it them.
    names = [guest(host, number) for number in (1, 2)]
    for name, address in ((names[0], "172.24.4.1"), (names[0], "172.24.4.12")):
        said = host.run(f"ip netns exec {name} ping -q -c 5 -i 0.1 -W 5 {address}")
        assert parse_ping(said).received == 5
    assert parse_ping(host.run("ping -q -c 5 -i 0.1 -W 5 172.24.4.12")).received == 5

    # Again, under the ports that there are: all is as it was, processes apart.
    there = traces(host)
    host.script("stack")
    assert changed(there, traces(host)) == {}
    until(lambda: wire(host)["link"] == "up", "the uplink did not come back")
    assert parse_ping(host.run("ping -q -c 5 -i 0.1 -W 5 172.24.4.12")).received == 5

    # As stop_neutron of unstack.sh does, after our turn.
    host.script("unstack")
    for name in names:
        host.run(f"ip netns delete {name}")
    host.run("umount /run/netns")  # which "ip netns" has made
    assert host.run("pgrep -u uswitch", check=False) == ""
    assert "usw-" not in host.run("ip -brief link")
    host.script("clean")
    assert changed(before, traces(host)) == {}
