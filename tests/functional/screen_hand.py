# SPDX-License-Identifier: Apache-2.0
"""Somebody who uses a program by what a screen reader is told of it (AT-SPI).

Runs inside a bed, by Debian's Python, whose packages desktop.py's are not:

    python3 screen_hand.py PROGRAM...

A display in memory, a session's D-Bus and the program are its children.  On
standard input come requests, a JSON list a line: a verb of ``VERBS`` and its
words; each is answered by one line, {"said": ...} or {"error": why}.  The end
of the input ends all of it.

Things are known by their names, and looked for in the window that was opened
last first.  Each verb waits for its thing, as people do.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gi

gi.require_version("Atspi", "2.0")
gi.require_version("Gdk", "3.0")
from gi.repository import Atspi, GLib  # noqa: E402

WAIT_SECONDS = 60.0
CALL_MS = 10_000  # a program that is busy for a second is not dead
SCREEN = "1280x1024x24"
PRESSED = ("menu", "menu item", "check box", "radio button", "push button")
# What says of itself that it was pressed, and by which state.
KEPT = {
    "check box": Atspi.StateType.CHECKED, "radio button": Atspi.StateType.CHECKED,
    "page tab": Atspi.StateType.SELECTED, "table cell": Atspi.StateType.SELECTED,
}  # fmt: skip

Child = subprocess.Popen[str]


class NotThereError(Exception):
    """Nothing of that name shows, or it cannot be used."""


def has(thing: Any, state: Any) -> bool:
    return bool(thing.get_state_set().contains(state))


def children(thing: Any) -> Iterator[Any]:
    """Those that show."""
    for number in range(thing.get_child_count()):
        child = thing.get_child_at_index(number)
        if child is not None and has(child, Atspi.StateType.SHOWING):
            yield child


def below(thing: Any) -> Iterator[Any]:
    for child in children(thing):
        yield child
        yield from below(child)


def windows() -> list[Any]:
    """All that show, what was opened last first."""
    while GLib.MainContext.default().iteration(False):
        pass  # programs and windows that came and went
    found = []
    desktop = Atspi.get_desktop(0)
    for number in range(desktop.get_child_count()):
        program = desktop.get_child_at_index(number)
        if program is not None:
            program.clear_cache()  # what its things were when they were last looked at
            found += reversed(list(children(program)))
    return found


def title(thing: Any) -> str:
    """A row of a list may have a second line, in which things change."""
    return str(thing.get_name()).split("\n", 1)[0]


def wait(look: Callable[[], Any], what: str) -> Any:
    """What ``look`` finds, once it finds something."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with contextlib.suppress(GLib.Error):  # it went away while it was looked at
            found = look()
            if found:
                return found
        if time.monotonic() > deadline:
            raise NotThereError(f"{what} after {WAIT_SECONDS:.0f} s; there is:\n{tree()}")
        time.sleep(0.1)


def find(name: str, roles: tuple[str, ...]) -> Any:
    """The first one that can be used."""

    def look() -> Any:
        for window in windows():
            for thing in below(window):
                if (title(thing) == name and thing.get_role_name() in roles
                        and has(thing, Atspi.StateType.SENSITIVE)):  # fmt: skip
                    return thing
        return None

    return wait(look, f"no {name!r} that can be used")


def press(name: str) -> None:
    """Press, choose, or mark it; what is marked already stays so."""
    thing = find(name, (*PRESSED, *KEPT))
    role = thing.get_role_name()
    if role == "page tab":
        thing.get_parent().select_child(thing.get_index_in_parent())
    elif role == "table cell":
        thing.grab_focus()
    elif role not in KEPT or not has(thing, KEPT[role]):
        thing.do_action(0)
    if role in KEPT:
        wait(lambda: has(find(name, (role,)), KEPT[role]), f"{name!r} was pressed in vain")


def sees(name: str) -> None:
    """A row of a list is there."""
    find(name, ("table cell",))


def text(name: str) -> str:
    """What stands in an editor."""
    return str(Atspi.Text.get_text(find(name, ("text",)), 0, -1))


def write(name: str, content: str) -> None:
    """Replace all that stands in an editor, if that lets itself be edited."""
    thing = find(name, ("text",))
    wait(lambda: has(thing, Atspi.StateType.EDITABLE), f"{name!r} cannot be edited")
    thing.set_text_contents(content)
    wait(lambda: text(name) == content, f"{name!r} has not taken the text")


def tree() -> str:
    """All that has a name, for people."""
    lines = []
    with contextlib.suppress(GLib.Error):
        for window in windows():
            lines.append(f"{window.get_role_name()} {window.get_name()!r}")
            for thing in below(window):
                if thing.get_name():
                    off = "" if has(thing, Atspi.StateType.SENSITIVE) else " (off)"
                    lines.append(f"    {thing.get_role_name()} {thing.get_name()!r}{off}")
    return "\n".join(lines)


def picture(path: str) -> None:
    """All of the display, as PNG."""
    from gi.repository import Gdk  # it wants the display that main() starts

    root = Gdk.get_default_root_window()
    size = 0, 0, root.get_width(), root.get_height()
    Gdk.pixbuf_get_from_window(root, *size).savev(path, "png", [], [])


VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb for verb in (press, sees, text, write, tree, picture)
}


def serve() -> None:
    for line in sys.stdin:
        verb, *words = json.loads(line)
        try:
            answer = {"said": VERBS[verb](*words)}
        except (NotThereError, GLib.Error) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


def start(*command: str, stdout: Any = sys.stderr, pass_fds: tuple[int, ...] = ()) -> Child:
    """A program that ends with this one, however that ends."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=stdout,
        pass_fds=pass_fds, text=True,
    )  # fmt: skip


def start_display() -> Child:
    ready, told = os.pipe()
    server = start("Xvfb", "-displayfd", str(told), "-screen", "0", SCREEN, "-nolisten", "tcp",
                   "-noreset", pass_fds=(told,))  # fmt: skip
    os.close(told)
    with open(ready, encoding="ascii") as number:
        os.environ["DISPLAY"] = f":{number.readline().strip()}"
    return server


def start_bus() -> Child:
    """The session's; what tells screen readers is started through it, by who asks first."""
    bus = start("dbus-daemon", "--session", "--nofork", "--print-address", stdout=subprocess.PIPE)
    assert bus.stdout is not None
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
    return bus


def main(command: list[str]) -> None:
    display, bus = start_display(), start_bus()
    program = start(*command)
    try:
        Atspi.set_timeout(CALL_MS, CALL_MS)
        serve()
    finally:
        for child in (program, display, bus):  # AT-SPI's library exits where the bus goes away
            child.terminate()
            child.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
