# SPDX-License-Identifier: Apache-2.0
"""How a program for operators ends: an exit status, and one line about what went wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from vif_uswitch.cmd.output import plain
from vif_uswitch.exceptions import USwitchError


def run(program: str, work: Callable[[], int]) -> int:
    """The exit status of ``work``.  Never a traceback."""
    try:
        status = work()
        sys.stdout.flush()
        return status
    except USwitchError as error:
        _complain(program, str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in "uswitchctl fdb list | head".
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _complain(program, str(error))
        return 1
    except Exception as error:
        _complain(program, f"a defect of {program} itself: {error!r}")
        return 1


def _complain(program: str, text: str) -> None:
    print(f"{program}: {plain(text)}", file=sys.stderr)
