# SPDX-License-Identifier: Apache-2.0
"""Which libvirt is meant where virsh would take it from the environment.

Apart from ``connect.py``: uswitchctl chooses the switch by it as well, whether
or not libvirt's binding is there.
"""

from __future__ import annotations

import os

VARIABLES = ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI")  # in virsh's order


def named(given: str | None) -> str:
    """The URI that was given, else the one of the environment; "" leaves the choice to libvirt."""
    found = [given, *(os.environ.get(variable) for variable in VARIABLES)]
    return next((uri for uri in found if uri), "")
