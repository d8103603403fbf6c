# SPDX-License-Identifier: Apache-2.0
"""A whole OpenStack cloud on this machine, with the switch under its guests ("make e2e")."""


class CloudError(Exception):
    """The cloud itself does not stand: nothing can be said about the switch."""
