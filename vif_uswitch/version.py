# SPDX-License-Identifier: Apache-2.0
"""The release that is installed, as pip knows it.  Used by ``--version`` and the API."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    try:
        return metadata.version("vif-uswitch")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
