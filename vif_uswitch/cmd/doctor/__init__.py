# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl doctor``: what keeps this host from switching, check by check.

Standard library only; works with uswitchd dead, as any user, on a host where
half of it is missing.

``model``       what a check and its finding are, and how checks are run
``host``        the host in its files, processes and users; a test gives it another root
``files``, ``accounts``, ``procs``, ``services``, ``packages``
                parts of it: hostile files, users and rights, processes, OpenStack's services
``switch``      what uswitchd says of itself, asked once
``memory``, ``sockets``, ``openstack``, ``network``, ``adapters``, ``kvm``,
``processes``, ``versions``
                the checks, a file for each family
``command``     the command line and what is printed
"""
