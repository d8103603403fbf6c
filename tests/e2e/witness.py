# SPDX-License-Identifier: Apache-2.0
"""What a check that failed leaves behind: switches and guests as they were at that moment."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.e2e import CloudError
from tests.e2e.cloud.switch import Switch
from tests.e2e.tenant import Tenant

# Interrupts and queues tell whether it is the guest that sleeps; neighbours whom it looks for.
INSIDE = "ip -s link; ip neigh; ip route; cat /proc/interrupts; uptime"


def record(tenant: Tenant, path: Path) -> None:
    """Write it down; whatever does not answer says so in its place."""
    seen: dict[str, Any] = {"guests": {}}
    for node in tenant.cloud.nodes:
        seen[node.host.name] = _switch(node.switch)
    for guest in tenant.guests.values():
        try:
            seen["guests"][guest.name] = guest.run(INSIDE, 10).output.splitlines()
        except (CloudError, OSError) as error:
            seen["guests"][guest.name] = str(error)
    path.write_text(json.dumps(seen, indent=1) + "\n")


def _switch(switch: Switch) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for words in (("show",), ("drops",), ("fdb", "list"), ("worker", "list"), ("port", "list")):
        try:
            seen[" ".join(words)] = switch.ctl(*words)
        except CloudError as error:
            seen[" ".join(words)] = str(error)
    with suppress(CloudError):
        seen["port show"] = {name: switch.ctl("port", "show", name) for name in switch.ports()}
    return seen
