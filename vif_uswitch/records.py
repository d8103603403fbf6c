# SPDX-License-Identifier: Apache-2.0
"""``typing.NamedTuple`` for what must start fast, without the module ``typing``.

libvirt waits for the hook at each start of a guest, and importing ``typing``
is a tenth of its time.  Type checkers see the real one; at run time it is
``collections.namedtuple`` under the same notation, with defaults, methods and
properties.  What else of ``typing`` the hook's modules need, they need for
annotations alone, and import it where only a type checker looks.
"""

from __future__ import annotations

import collections

__all__ = ["TYPE_CHECKING", "NamedTuple"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:

    class _Notation(type):
        """Turns the body of a class into a named tuple; the class itself is none of this type."""

        def __new__(cls, name, bases, body):
            fields = body.get("__annotations__", {})
            made = collections.namedtuple(  # this is how it is done
                name, fields, defaults=[body[each] for each in fields if each in body],
                module=body["__module__"],
            )  # fmt: skip
            for key, value in body.items():
                if key not in fields and key not in ("__module__", "__qualname__"):
                    setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_Notation, "NamedTuple", (), {})
