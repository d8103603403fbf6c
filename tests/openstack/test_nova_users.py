# SPDX-License-Identifier: Apache-2.0
"""nova-compute has a user of its own, and needs no root: membership of one group, or a clear no."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from testbed import unprivileged
from testbed.daemons import Switch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run as two other users")

STRANGER = 54321  # a user and a group that nobody has
GROUP = "daemon"  # any group that uswitchd is not in by itself
PROGRAM = Path(__file__).with_name("plug_by_hand.py")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Switch]:
    """A switch whose control socket is open to one group, in directories as packaged."""
    directory = Path(tempfile.mkdtemp(prefix="uswitch-os-"))
    directory.chmod(0o755)
    who = unprivileged.identity()
    unprivileged.own(directory, who)
    who = replace(who, groups=(*who.groups, grp.getgrnam(GROUP).gr_gid))
    with Switch(directory, options={"DEFAULT": {"control_group": GROUP}}, who=who) as switch:
        yield switch
    shutil.rmtree(directory)


def plug_as_nova(switch: Switch, home: Path, *groups: str) -> subprocess.CompletedProcess[str]:
    """Plug as a user who is in these groups and nothing else."""
    path = switch.vhost / "x.sock"
    return subprocess.run(
        ["setpriv", "--no-new-privs", "--bounding-set=-all", f"--reuid={STRANGER}",
         f"--regid={STRANGER}", f"--groups={','.join(groups)}" if groups else "--clear-groups",
         "env", f"HOME={home}", sys.executable, "-W", "ignore", str(PROGRAM), str(switch.control),
         str(path)],
        cwd="/", capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_member_of_the_control_group_may_plug(guarded: Switch, tmp_path: Path) -> None:
    done = plug_as_nova(guarded, tmp_path, GROUP)
    assert done.returncode == 0, done.stderr
    assert [port["name"] for port in guarded.call("port.list")] == [done.stdout.strip()]
    guarded.call("port.delete", name=done.stdout.strip())


@pytest.mark.parametrize("closed", ["socket", "directory"])
def test_who_is_no_member_reads_what_is_missing(
    guarded: Switch, tmp_path: Path, closed: str
) -> None:
    """The user's, owner's and group's names, the mode and the path."""
    if closed == "directory":
        guarded.directory.chmod(0o700)
    try:
        done = plug_as_nova(guarded, tmp_path)
    finally:
        guarded.directory.chmod(0o755)
    at, verb = guarded.control, "write"
    if closed == "directory":
        at, verb = guarded.directory, "enter"
    mode = 0o700 if closed == "directory" else at.stat().st_mode & 0o7777
    assert (f"user {STRANGER} (groups {STRANGER}) may not {verb} {at}"
            f" ({at.owner()}:{at.group()}, mode {mode:04o})") in done.stderr
    assert "control_group" in done.stderr
    assert done.returncode == 1 and guarded.call("port.list") == []
