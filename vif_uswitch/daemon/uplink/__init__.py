# SPDX-License-Identifier: Apache-2.0
"""Uplinks: ports whose peer is a network adapter, and what uswitchd must know of adapters."""
