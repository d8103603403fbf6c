# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ: the server of Debian, on default ports of a private network namespace."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.e2e import CloudError
from tests.e2e.cloud import settings
from tests.e2e.cloud.service import Service, listening
from tests.e2e.cloud.settings import Place

PORT = 5672
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def service(place: Place) -> Service:
    """The broker; ready when it accepts connections."""
    if not SERVER.exists() or not shutil.which("erl"):
        raise CloudError(f"{SERVER} is missing: install the package rabbitmq-server")
    home = place.directory("rabbit")
    conf = home / "rabbitmq.conf"
    # "guest" may only log in from the loopback unless this says otherwise.
    conf.write_text("loopback_users = none\nlog.console = true\nlog.file = false\n"
                    "vm_memory_high_watermark.relative = 0.2\n")  # fmt: skip
    return Service("rabbitmq", [SERVER], place.logs / "rabbitmq.log", environment={
        "HOME": str(home),
        "RABBITMQ_NODENAME": "rabbit@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": settings.CONTROLLER,
        "RABBITMQ_NODE_PORT": str(PORT),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_CONFIG_FILE": str(conf),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        # Schedulers of Erlang spin while they wait; two processors have no time for that.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    })  # fmt: skip


def ready() -> bool:
    """Whether the broker takes connections."""
    return listening(settings.CONTROLLER, PORT)
