# SPDX-License-Identifier: Apache-2.0
"""Options of the os-vif plugin: one group, whatever name Nova calls the plugin by.

They stand in the configuration of the process that plugs (nova-compute's
nova.conf).  Importing this file registers nothing: os-vif does, when it loads
the plugin; ``list_opts()`` is what ``oslo-config-generator`` asks for.
"""

from __future__ import annotations

from oslo_config import cfg

GROUP = "os_vif_uswitch"

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "control_socket",
        default="/run/uswitch/control.sock",
        help="Path of uswitchd's control socket. The user of this process must be root, the user of"
        " uswitchd, or a member of the control_group of uswitchd.",
    ),
    cfg.IntOpt(
        "timeout",
        default=30,
        min=1,
        max=600,
        help="Seconds within which a port must be plugged. While uswitchd is being restarted, or is"
        " too busy, the plugin tries again until then.",
    ),
    cfg.StrOpt(
        "vhost_socket_dir",
        default="",
        sample_default="<what uswitchd says>",
        help="Directory of the vhost-user sockets that are this switch's. A port whose socket lies"
        " elsewhere belongs to another plugin: it is refused, and ignored when it is unplugged."
        " Empty: the vhost_socket_dir of uswitchd.",
    ),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP, OPTS)]
