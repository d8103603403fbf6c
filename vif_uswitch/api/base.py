# SPDX-License-Identifier: Apache-2.0
"""What all parameters and all results of the control API have in common."""

from __future__ import annotations

from msgspec import Struct


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what clients send."""


class Result(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what the daemon answers."""


class Nothing(Params, frozen=True):
    """No parameters."""
