# SPDX-License-Identifier: Apache-2.0
"""Our hook in a libvirtd of the test bed, as a package would install it.

The script is the one that is shipped; what a host has in /opt/uswitch and in
/etc/uswitch is an environment that has our package and nothing else (this
interpreter's own would load what developers have in it, at each call), and a
file of ours.

    settings = install(libvirt, control_socket=switch.control)
    libvirt.restart()
"""

from __future__ import annotations

import venv
from pathlib import Path

from testbed import TestbedError
from testbed.libvirt import Libvirt

TOP = Path(__file__).resolve().parents[1]
SHIPPED = TOP / "etc/libvirt/hooks/qemu.d/50-uswitch"
WHERE = "/opt/uswitch"


def install(libvirt: Libvirt, **settings: object) -> Path:
    """Install it; libvirtd sees it at its next start.  Returns the file of ``configure()``."""
    text = SHIPPED.read_text()
    if WHERE not in text:
        raise TestbedError(f"{SHIPPED} does not name {WHERE}")
    config = libvirt.directory / "uswitch-libvirt.conf"
    head, line, rest = text.partition("case $2 in")
    hook = libvirt.directory / "etc/hooks/qemu.d" / SHIPPED.name
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(f"{head}export USWITCH_LIBVIRT_CONF={config}\n{line}"
                    + rest.replace(WHERE, str(_environment(libvirt.directory / "opt"))))
    hook.chmod(0o755)
    configure(config, **settings)
    return config


def _environment(prefix: Path) -> Path:
    """A virtual environment at ``prefix``, which is returned."""
    venv.create(prefix)
    [packages] = prefix.glob("lib/python3*/site-packages")
    (packages / "vif_uswitch").symlink_to(TOP / "vif_uswitch")
    return prefix


def configure(config: Path, **settings: object) -> None:
    """Options of [libvirt]; they count from the next call of the hook on."""
    lines = [f"{key} = {value}\n" for key, value in settings.items()]
    config.write_text("[libvirt]\n" + "".join(lines))
