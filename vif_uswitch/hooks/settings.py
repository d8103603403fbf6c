# SPDX-License-Identifier: Apache-2.0
"""What holds for all domains of a host: ``/etc/uswitch/libvirt.conf``.

An INI file with one section, ``[libvirt]``; each option, and the file itself,
may be missing.  Read by the hook and by ``uswitchctl domain``.

Standard library only.
"""

from __future__ import annotations

import os

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import configparser

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
    import configparser  # not for a host without such a file: the hook starts with every guest

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise InvalidInput("file", path, " ".join(str(error).split())) from None
    _refuse_unknown(parser, path)
    options = dict(parser[SECTION]) if parser.has_section(SECTION) else {}
    return HostSettings(
        control_socket=_absolute(options, "control_socket", path),
        vhost_socket_dir=_absolute(options, "vhost_socket_dir", path),
        default_segment=options.get("default_segment", ""),
        deadline_s=_seconds(options, "deadline_s", path),
    )


def _refuse_unknown(parser: configparser.ConfigParser, path: str) -> None:
    """A word that is misspelt must not be taken for one that is not there."""
    for section in parser.sections():
        if section != SECTION:
            raise InvalidInput("section", section, f"is unknown, in {path}", f"Use [{SECTION}].")
    known = HostSettings._fields
    names = [*parser.defaults(), *(parser[SECTION] if parser.has_section(SECTION) else ())]
    for name in names:
        if name not in known:
            raise InvalidInput("option", name, f"is unknown, in {path}",
                               f"There are: {', '.join(known)}.")


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
