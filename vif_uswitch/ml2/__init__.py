# SPDX-License-Identifier: Apache-2.0
"""Neutron: the ML2 mechanism driver (in neutron-server) and the L2 agent (on each host).

Policy is in files that know neither Neutron nor sockets (``binding``,
``guard``, ``wiring``, ``plugging``); ``compat`` is the only one that imports
from ``neutron`` itself.
"""
