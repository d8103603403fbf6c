# SPDX-License-Identifier: Apache-2.0
"""Real kernels and emulated adapters: the switch in a nested host, see tests/README.rst."""
