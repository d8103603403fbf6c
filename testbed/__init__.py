# SPDX-License-Identifier: Apache-2.0
"""The test bed: real guests, real peers and a real kernel around the switch.

Used by ``make demo`` and by ``tests/functional``; it is not installed with the product and
imports nothing but the standard library (and ``vif_uswitch.client`` where it talks to the
daemon).  Reading order: ``README.rst``, then ``guest.py`` and ``daemons.py``.
"""

from __future__ import annotations


class TestbedError(Exception):
    """Something the person at the keyboard can act on: the message says what and how."""

    __test__ = False  # the name begins with Test; pytest must not collect it
