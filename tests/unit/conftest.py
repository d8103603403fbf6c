# SPDX-License-Identifier: Apache-2.0
"""Settings of all unit tests."""

from __future__ import annotations

from hypothesis import settings

# Hypothesis would call an example that took 200 ms a failure; on a busy machine any may.
settings.register_profile("vif_uswitch", deadline=None)
settings.load_profile("vif_uswitch")
