# SPDX-License-Identifier: Apache-2.0
"""A port made, or made to fit, as a step that can be taken back.

A port of that name may be there, and a guest may be using it: what the step
changed of it is what it was before, when a later step fails.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from vif_uswitch.client import Client
from vif_uswitch.domain.steps import Steps
from vif_uswitch.exceptions import NotFound

Json = dict[str, Any]


def ensure(steps: Steps, client: Client, port: Json, *, create_segments: bool) -> Json:
    """The port as uswitchd has it then; ``port``: for port.ensure."""
    name = port["name"]
    before = _known(client, name)
    answer = client.port_ensure(port, create_segments=create_segments)
    now: Json = answer["port"]
    if answer["created"]:
        steps.note(f"port {name}", partial(client.port_delete, name))
    elif before is not None:
        former = {key: before[key] for key in port if before[key] != now[key]}
        if former:
            steps.note(f"changes of port {name}", partial(client.port_set, name, former))
    return now


def _known(client: Client, name: str) -> Json | None:
    try:
        port: Json = client.port_show(name)["port"]
    except NotFound:
        return None
    return port
