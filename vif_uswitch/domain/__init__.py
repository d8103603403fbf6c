# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain``: libvirt's guests and their ports.  The only room that imports libvirt.

What is to be done is decided by functions of XML (``tree``, ``interfaces``, ``check``,
``convert``); ``connect`` is libvirt; ``attach``, ``detach`` and ``convert`` carry out
``steps`` that are undone when one of them fails.
"""
