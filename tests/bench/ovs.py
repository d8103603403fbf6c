# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch with its DPDK datapath, as Debian packages it, private to one measurement.

Both daemons run as the unprivileged user, in a directory and a network namespace of their own
(the datapath makes two TAP devices, which nobody needs and which vanish with the namespace).  No
service of the machine is started or touched, and no huge page is used: no contender has any.

Settings that differ from the defaults, to its advantage: a table for 200000 addresses and as many
flows, the signature match cache beside the exact match cache.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from types import TracebackType

from testbed import TestbedError, unprivileged
from testbed.process import Child
from testbed.testpmd import Cycles

from .cases import Case

DAEMON = Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
TABLE = 200000
SETTINGS = f"mac-table-size={TABLE}, flow-limit={TABLE}, smc-enable=true, no huge pages"

# The database must be served before the switch starts; the shell becomes the switch, which takes
# the database's server with it: both have the namespace's first process as parent.
START = """
set -e
ovsdb-tool create conf.db "$SCHEMA"
ovsdb-server conf.db --remote=punix:db.sock --unixctl=db.ctl --log-file=db.log --pidfile=db.pid \
    --detach --no-chdir
set_() { ovs-vsctl --db=unix:db.sock --no-wait "$@"; }
set_ init
set_ set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-extra="$EAL" \
    other_config:pmd-cpu-mask="$MASK" other_config:smc-enable=true \
    other_config:flow-limit="$TABLE" other_config:n-handler-threads=1 \
    other_config:n-revalidator-threads=1
exec "$DAEMON" unix:db.sock --unixctl=vs.ctl --log-file=vs.log --pidfile=vs.pid --no-chdir
"""


def missing() -> str | None:
    """Why this contender cannot take part, or None."""
    return None if DAEMON.exists() and SCHEMA.exists() else (
        "Open vSwitch with DPDK is missing; it is in Debian's package openvswitch-switch-dpdk "
        "('make setup-bench' installs it)")


def parse_pmd(text: str) -> tuple[int, int]:
    """Cycles spent on packets and packets, of the forwarding thread in ``pmd-stats-show``."""
    for chunk in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        if chunk.startswith("pmd thread"):
            packets = re.search(r"packets received: (\d+)", chunk)
            cycles = re.search(r"processing cycles: (\d+)", chunk)
            if packets:
                return int(cycles[1]) if cycles else 0, int(packets[1])
    return 0, 0


def parse_queues(text: str) -> set[str]:
    """Ports whose queue is enabled, from ``pmd-rxq-show``."""
    return set(re.findall(r"port: (\S+) +queue-id: +\d+ +\(enabled\)", text))


class OvsDpdk:
    """A userspace bridge with one forwarding core; it learns addresses (action NORMAL)."""

    name = "ovs-dpdk"
    about = f"Open vSwitch, userspace bridge, one PMD core; {SETTINGS}"

    def __init__(self, directory: Path, case: Case, cpu: int) -> None:
        self._directory = directory
        self._names = [f"v{number}" for number in range(case.ports)]
        self.paths = tuple(directory / name for name in self._names)
        who = unprivileged.identity()
        eal = ("--no-huge --legacy-mem -m 2560 --no-shconf --no-pci --no-telemetry "
               f"--file-prefix={directory.name}")
        self._environment = dict(
            os.environ, SCHEMA=str(SCHEMA), EAL=eal, MASK=hex(1 << cpu), TABLE=str(TABLE),
            DAEMON=str(DAEMON), RUNTIME_DIRECTORY=str(directory), XDG_RUNTIME_DIR=str(directory),
            **{f"OVS_{kind}DIR": str(directory) for kind in ("RUN", "LOG", "DB", "SYSCONF")})
        self._child = Child(
            "ovs", ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child",
                    "sh", "-c", f'cd "{directory}"\n{START}'],
            directory / "ovs.log", who=who, environment=self._environment)

    def __enter__(self) -> OvsDpdk:
        words = ["--", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev",
                 f"other-config:mac-table-size={TABLE}"]
        for name in self._names:
            words += ["--", "add-port", "br0", name,
                      "--", "set", "Interface", name, "type=dpdkvhostuser"]
        try:
            self._run("ovs-vsctl", f"--db=unix:{self._directory / 'db.sock'}", "--retry",
                      "--timeout=30", *words)
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._child.kill()

    def _run(self, *command: str) -> str:
        self._child.check()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60,
                              env=self._environment)
        if done.returncode:
            raise TestbedError(f"{command[0]}: {done.stderr.strip()}\n{self._child.tail()}")
        return done.stdout

    def _ask(self, *words: str) -> str:
        return self._run("ovs-appctl", "-t", str(self._directory / "vs.ctl"), *words)

    def ready(self) -> None:
        """A port that gets its guest is set up anew, and what arrives meanwhile is lost.

        Setting up and answering are one thread's work: after some answers in a row it is done.
        """
        deadline = time.monotonic() + 30
        calm = 0
        while time.monotonic() < deadline:
            found = parse_queues(self._ask("dpif-netdev/pmd-rxq-show"))
            calm = calm + 1 if found >= set(self._names) else 0
            if calm == 5:
                return
            time.sleep(0.1)
        raise TestbedError(f"ovs-vswitchd serves {sorted(found)}, not {self._names}, after 30 s")

    def cycles(self) -> Cycles:
        return Cycles(*parse_pmd(self._ask("dpif-netdev/pmd-stats-show")), 0)

    def pids(self) -> list[int]:
        """Both daemons, as this side of the namespace numbers them."""
        return [int(entry.name) for entry in Path("/proc").iterdir()
                if entry.name.isdigit() and self._is_ours(entry)]

    def _is_ours(self, entry: Path) -> bool:
        try:
            return ((entry / "cwd").resolve() == self._directory
                    and (entry / "comm").read_text().startswith("ovs"))
        except OSError:
            return False

    def thread(self) -> int:
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                if (task / "comm").read_text().startswith("pmd-"):
                    return int(task.name)
        raise TestbedError("ovs-vswitchd has no forwarding thread")

    def drops(self) -> dict[str, int]:
        found = {}
        for name in self._names:
            text = self._run("ovs-vsctl", f"--db=unix:{self._directory / 'db.sock'}", "--no-wait",
                             "get", "Interface", name, "statistics")
            for key, count in re.findall(r"(\w*drop\w*)=(\d+)", text):
                if int(count):
                    found[f"{name} {key}"] = int(count)
        return found

    def features(self) -> str:
        text = (self._directory / "vs.log").read_text(errors="replace")
        bits = re.findall(r"negotiated Virtio features: (0x[0-9a-f]+)", text)
        return bits[0] if bits else "?"
