# SPDX-License-Identifier: Apache-2.0
"""Deletes things by name, one after the other; a refusal of one does not stop the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from vif_uswitch.cmd.output import plain
from vif_uswitch.exceptions import DaemonUnreachable, USwitchError


def delete_each(noun: str, names: Sequence[str], delete: Callable[[str], bool]) -> int:
    """The exit status.  ``delete`` returns whether there was such a thing."""
    status = 0
    for name in names:
        try:
            if delete(name):
                print(f"{noun} {name} deleted")
            else:
                print(f"note: {noun} {name} did not exist", file=sys.stderr)
        except USwitchError as error:
            if len(names) == 1 or isinstance(error, DaemonUnreachable):
                raise
            print(f"uswitchctl: {plain(str(error))}", file=sys.stderr)
            status = max(status, error.exit_status)
    return status
