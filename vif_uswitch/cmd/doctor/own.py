# SPDX-License-Identifier: Apache-2.0
"""Whether the switch that is looked at is a user's own (``uswitchd --user``), and whose.

There QEMU and both daemons are one user, so that nothing needs a group, and
what starts it is that user's systemd.
"""

from __future__ import annotations

import os

from vif_uswitch import places
from vif_uswitch.access import Identity
from vif_uswitch.client import is_own
from vif_uswitch.cmd.doctor import procs
from vif_uswitch.cmd.doctor.model import Scene

UNIT_DIRECTORIES = ("/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user",
                    "/usr/lib/systemd/user")  # fmt: skip


def owner(scene: Scene) -> Identity | None:
    """None: it is the host's.  Where it does not run, its control socket's place decides."""
    process = procs.running(scene.host, "uswitchd", scene.switch.daemon().get("pid"))
    answers = scene.switch.show() is not None
    if process is not None and answers:
        return procs.identity(scene.host, process.pid) if "--user" in process.arguments else None
    return scene.host.me if is_own(scene.switch.control_socket) else None


def unit_directories() -> tuple[str, ...]:
    """Where that user's systemd finds units; a user's own come first."""
    mine = os.path.dirname(os.path.dirname(places.config_file()))
    return (f"{mine}/systemd/user", *UNIT_DIRECTORIES)


def lingers(scene: Scene, who: Identity) -> bool:
    """Whether the user's processes stay when the last session ends."""
    return scene.host.stat(f"/var/lib/systemd/linger/{who.name}") is not None
