# SPDX-License-Identifier: Apache-2.0
"""What "make e2e KEEP=1" does when the run is over: it says how to look around, and waits."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

from tests.e2e.cloud import settings
from tests.e2e.cloud.cloud import Cloud

# Leads inside: the controller, or one of the hosts by name.
ENTER = """#!/bin/sh
# {script} [host1|host2] COMMAND...
child=$(cat /proc/{pid}/task/{pid}/children)
export {environment}
case $1 in
{hosts}
*) exec nsenter -t ${{child%% *}} -a -- "$@" ;;
esac
"""
HOST = """{name}) shift; exec nsenter -t ${{child%% *}} -a -- {within} "$@" ;;"""


def write_door(cloud: Cloud, door: Path) -> Path:
    """A script that runs commands inside, with an administrator's environment."""
    script = door.with_name("enter")
    environment = {
        "OS_AUTH_URL": settings.KEYSTONE, "OS_USERNAME": "admin", "OS_PASSWORD": settings.SECRET,
        "OS_PROJECT_NAME": "demo", "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default", "OS_REGION_NAME": settings.REGION,
        "PATH": f"{cloud.place.environment}/bin:$PATH",
    }  # fmt: skip
    script.write_text(ENTER.format(
        script=script, pid=door.read_text().strip(),
        environment=" ".join(f"{key}={value}" for key, value in environment.items()),
        hosts="\n".join(HOST.format(name=node.name, within=" ".join(node.host.within))
                        for node in cloud.nodes),
    ))  # fmt: skip
    script.chmod(0o755)
    return script


def stay(cloud: Cloud, door: Path) -> None:
    """Until Ctrl-C."""
    script = write_door(cloud, door)
    print("\nThe cloud is up until Ctrl-C.  In another terminal, for example:\n"
          f"  {script} openstack server list\n"
          f"  {script} host1 uswitchctl show\n"
          f"  {script} host1 virsh list", flush=True)  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()
