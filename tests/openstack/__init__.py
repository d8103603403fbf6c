# SPDX-License-Identifier: Apache-2.0
"""Real Nova, Neutron, os-vif and libvirtd on a running switch, see tests/README.rst."""
