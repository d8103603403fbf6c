# SPDX-License-Identifier: Apache-2.0
"""What holds for all domains of a host: ``/etc/uswitch/libvirt.conf``.

An INI file with one section, ``[libvirt]``, and one option a line; each option,
and the file itself, may be missing.  Read by the hook and by ``uswitchctl domain``.

Standard library only.
"""

from __future__ import annotations

import os

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.records import NamedTuple

DEFAULT_PATH = "/etc/uswitch/libvirt.conf"
PATH_VARIABLE = "USWITCH_LIBVIRT_CONF"
SECTION = "libvirt"
FILE_MAX = 64 * 1024
DEADLINE_DEFAULT_S = 5.0
DEADLINE_S = (0.1, 60.0)  # least, most


class HostSettings(NamedTuple):
    control_socket: str = ""  # "": where a client looks by itself
    vhost_socket_dir: str = ""  # "": what uswitchd says
    default_segment: str = ""  # of interfaces whose metadata name none; "": in no segment
    deadline_s: float = DEADLINE_DEFAULT_S  # that the hook may take, all in all


def load(path: str | None = None) -> HostSettings:
    """The settings of this host; raises InvalidInput for a file that is wrong."""
    path = path or os.environ.get(PATH_VARIABLE) or DEFAULT_PATH
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        return HostSettings()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("file", path, f"cannot be read: {error}") from None
    if len(text) > FILE_MAX:
        raise InvalidInput("file", path, f"is longer than {FILE_MAX} characters")
    return parse(text, path)


def parse(text: str, path: str) -> HostSettings:
    """``path`` is for errors."""
    options = _options(text, path)
    return HostSettings(
        control_socket=_absolute(options, "control_socket", path),
        vhost_socket_dir=_absolute(options, "vhost_socket_dir", path),
        default_segment=options.get("default_segment", ""),
        deadline_s=_seconds(options, "deadline_s", path),
    )


def _options(text: str, path: str) -> dict[str, str]:
    """What the file says.  A word that is misspelt must not be taken for one that is not there.

    Importing configparser would take longer than all that is done with it, at each start of a
    guest.
    """
    options: dict[str, str] = {}
    begun = False
    for number, raw in enumerate(text.splitlines(), 1):
        line, where = raw.strip(), f"in line {number} of {path}"
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if line[0] == "[":
            if line != f"[{SECTION}]":
                raise InvalidInput("section", line, f"is unknown, {where}", f"Use [{SECTION}].")
            begun = True
        elif not equals or not name:
            raise InvalidInput("line", line, f"is no option, {where}", "Write: NAME = VALUE")
        elif not begun:
            raise InvalidInput("option", name, f"stands before [{SECTION}], {where}")
        elif name not in HostSettings._fields:
            raise InvalidInput("option", name, f"is unknown, {where}",
                               f"There are: {', '.join(HostSettings._fields)}.")
        elif name in options:
            raise InvalidInput("option", name, f"is there twice, {where}", "Keep one.")
        else:
            options[name] = value.strip()
    return options


def _absolute(options: dict[str, str], name: str, path: str) -> str:
    value = options.get(name, "")
    if value and not (value.startswith("/") and value.isprintable()):
        raise InvalidInput(name, value, f"is no absolute path, in {path}")
    return value


def _seconds(options: dict[str, str], name: str, path: str) -> float:
    text = options.get(name)
    if text is None:
        return DEADLINE_DEFAULT_S
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not DEADLINE_S[0] <= value <= DEADLINE_S[1]:
        raise InvalidInput(name, text, f"is no number of seconds from {DEADLINE_S[0]:g} to"
                           f" {DEADLINE_S[1]:g}, in {path}")
    return value
