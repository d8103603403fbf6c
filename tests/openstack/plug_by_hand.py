# SPDX-License-Identifier: Apache-2.0
"""Plug one port as whoever runs this program: CONTROL_SOCKET PATH, path being a vhost-user socket.

A process of its own, because a test cannot become another user and come back.  What it does is what
nova-compute does: os-vif loads the plugin by one of Nova's names, and plugs.
"""

from __future__ import annotations

import sys
import uuid

import os_vif
from os_vif import objects
from oslo_config import cfg

from vif_uswitch.plugin_opts import GROUP


def main() -> None:
    control_socket, path = sys.argv[1:]
    os_vif.initialize()
    cfg.CONF([], project="nova", default_config_files=[])
    cfg.CONF.set_override("control_socket", control_socket, GROUP)
    vif = objects.vif.VIFVHostUser(
        id=str(uuid.uuid4()), path=path, mode="server", plugin="contrail_vrouter"
    )
    instance = objects.instance_info.InstanceInfo(uuid=str(uuid.uuid4()), name="instance-00000001")
    try:
        os_vif.plug(vif, instance)
    except os_vif.exception.PlugException as error:
        sys.exit(str(error))
    print(vif.id)


if __name__ == "__main__":
    main()
