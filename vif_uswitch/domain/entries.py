# SPDX-License-Identifier: Apache-2.0
"""One interface's entry in a domain's metadata, changed where the others stay.

Libvirt knows our element as a whole only.  It is read immediately before it is
written: what a command has read at its beginning may be half a minute old, and
with it another interface's guard would be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vif_uswitch.domain import settings
from vif_uswitch.domain.affect import Affect
from vif_uswitch.hooks.domain_xml import PortSettings, parse_domain

if TYPE_CHECKING:
    from vif_uswitch.domain.connect import Guest


def put(guest: Guest, which: Affect, mac: str, entry: PortSettings | None) -> PortSettings | None:
    """The entry that was there before; None, here and there: none.

    Raises the InvalidInput of metadata that cannot be read: they would be lost.
    """
    entries = settings.all_settings(parse_domain(guest.xml(which)))
    before = entries.get(mac)
    if entry is None:
        entries.pop(mac, None)
    else:
        entries[mac] = entry
    if entry != before:
        guest.set_metadata(settings.ports_text(entries), which)
    return before
