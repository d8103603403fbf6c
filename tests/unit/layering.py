# SPDX-License-Identifier: Apache-2.0
"""Who may import and include whom: the import graph, the #include graph, the rules.

Used by test_layering.py only.  The rules look at plain dictionaries (module or
file -> what it names), so that a test can hand them a tree that breaks one.
Imports count wherever they stand: inside a function, or below TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import pathlib
import posixpath
import re
import sys
from collections.abc import Iterable, Mapping

Graph = Mapping[str, set[str]]

OURS = "vif_uswitch"
EXTENSION = f"{OURS}.dataplane._native"
BUILDER = f"{OURS}._dataplane_build"

# Room -> the rooms of ours it may import.  Every module must be in one of them.
ROOMS: dict[str, tuple[str, ...]] = {
    "exceptions": ("records",),
    "records": (),
    "version": (),
    # Paths that daemon and clients must agree on.
    "places": ("exceptions", "records"),
    # Who may use a file.
    "access": (),
    "conf": ("api", "exceptions", "places"),
    "api": ("exceptions", "records"),
    "client": ("api.wire", "exceptions", "places", "records"),
    "cmd": ("client", "api", "exceptions", "version", "places", "access"),  # and LAZY
    # How both of OpenStack's sides ask: knows neither.
    "patience": ("client", "exceptions"),
    "plugin": ("client", "api", "exceptions", "patience", "places", "plugin_opts"),
    "plugin_opts": (),
    # What libvirt runs: it must not call libvirt back, so it cannot.
    "hooks": ("client", "api", "exceptions", "places", "records"),
    "domain": ("client", "api", "exceptions", "hooks", "places", "access"),
    "ml2": ("client", "api", "exceptions", "conf", "patience", "places"),
    "dataplane": ("exceptions",),
    # Runs as root: as little of ours as can be, and nothing that talks to anybody.
    "uplink": ("cmd.ending", "cmd.output", "exceptions", "version"),
    # The layouts and the library stay behind dataplane.native, the fake is the composer's.
    "daemon": ("api", "exceptions", "conf", "places", "version", "uplink.devices",
               "uplink.tap_device",
               *(f"dataplane.{name}" for name in ("base", "layout", "live", "process",
                                                  "statepage", "unixpath"))),
    "_dataplane_build": (),
}
# One module composes: it alone chooses between the real dataplane and the fake.
COMPOSER = f"{OURS}.daemon.main"

# These start on a host without our dependencies, and so does all they import.
STANDARD_LIBRARY_ONLY = ("access", "client", "cmd", "hooks", "patience", "api.wire", "exceptions",
                         "places", "version")
# Room -> rooms that its functions may import, not its modules: needed only when they run, and what
# they need (libvirt) may be missing until then.
LAZY = {"cmd": ("domain",)}
NO_IO = ("api",)
IO_MODULES = {"asyncio", "multiprocessing", "select", "selectors", "socket", "subprocess"}

# Foreign package -> the only room that may import it.
FOREIGN = {
    "os_vif": "plugin",
    "neutron": "ml2",
    "neutron_lib": "ml2",
    "libvirt": "domain",
    "libvirt_qemu": "domain",
    "nova": "",
    "vif_plug_ovs": "",
    "vif_plug_linux_bridge": "",
}

# ---- C ----

DRIVERS = ("vhost", "tap", "nic", "xdp")
# What adapters have in common, whoever drives them; names no device.
ADAPTERS = ("nic/nic_copy.h", "nic/nic_counter.h")
# The library's ports, and what one kind of port has to do with another's memory.
C_COMPOSERS = ("uswitch.c", "uswitch_lend.c")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def in_room(module: str, rooms: Iterable[str]) -> bool:
    return any(module == f"{OURS}.{room}" or module.startswith(f"{OURS}.{room}.")
               for room in rooms)


def python_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Imports of each module; sources maps a path like "vif_uswitch/api/wire.py" to its text."""
    modules = {}
    for path, text in sources.items():
        parts = path.removesuffix(".py").split("/")
        package = parts[-1] == "__init__"
        modules[".".join(parts[:-1] if package else parts)] = (text, package)
    known = {*modules, EXTENSION, BUILDER}
    return {name: _imports(name, package, ast.parse(text), known)
            for name, (text, package) in modules.items()}


def lazy_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Those imports of python_graph() that stand in functions only: loaded when one runs."""
    graph = python_graph(sources)
    eager = python_graph({path: _without_functions(text) for path, text in sources.items()})
    return {module: names - eager[module] for module, names in graph.items()}


def _without_functions(text: str) -> str:
    class Emptied(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            return ast.copy_location(ast.Pass(), node)

        visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    return ast.unparse(Emptied().visit(ast.parse(text)))


def _imports(module: str, package: bool, tree: ast.Module, known: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + (1 if package else 0)]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in known else base)
    return found


def python_violations(graph: Graph, lazy: Graph) -> list[str]:
    """``lazy``: of the same sources, see lazy_graph()."""
    graph = {module: names - _allowed_lazily(module, lazy) for module, names in graph.items()}
    found = []
    for module, imports in sorted(graph.items()):
        for name in sorted(imports):
            reason = _why_not(module, name)
            if reason:
                found.append(f"{module} imports {name}: {reason}")
        if in_room(module, STANDARD_LIBRARY_ONLY):
            found += [f"{module} must do with the standard library, but reaches {name} by {path}"
                      for name, path in _foreign_reach(module, graph)]
    return found


def _allowed_lazily(module: str, lazy: Graph) -> set[str]:
    rooms = [room for own, rooms in LAZY.items() if in_room(module, [own]) for room in rooms]
    return {name for name in lazy.get(module, set()) if in_room(name, rooms)}


def _why_not(module: str, name: str) -> str:
    """Why module may not import name; empty if it may."""
    if name.split(".")[0] != OURS:
        return _why_not_foreign(module, name)
    if module == OURS:
        return "the package itself imports nothing, so that every room can be used alone"
    if name == EXTENSION:
        return "" if module == f"{OURS}.dataplane.native" else "only dataplane/native.py may"
    if name == BUILDER:
        return "for the build only"
    room = next((room for room in ROOMS if in_room(module, [room])), None)
    if room is None:
        return "this module is in no room; add it to ROOMS"
    if name == OURS or in_room(name, [room, *ROOMS[room]]):
        return ""
    if module == COMPOSER and in_room(name, ["dataplane"]):
        return ""
    return f"{room} may import only {', '.join(ROOMS[room]) or 'nothing of ours'}"


def _why_not_foreign(module: str, name: str) -> str:
    top = name.split(".")[0]
    if top in FOREIGN and not (FOREIGN[top] and in_room(module, [FOREIGN[top]])):
        return f"only {FOREIGN[top]} may" if FOREIGN[top] else "nobody may"
    if name.startswith("os_vif.internal"):
        return "not a public module"
    if top in IO_MODULES and in_room(module, NO_IO):
        return "api does no I/O"
    return ""


def _foreign_reach(start: str, graph: Graph) -> list[tuple[str, str]]:
    """Foreign modules that importing start would load, each with the way to it."""
    found, seen, todo = [], {start}, [(start, start)]
    while todo:
        module, path = todo.pop()
        for name in sorted(graph.get(module, set())):
            top = name.split(".")[0]
            if top == OURS:
                # Importing a.b.c runs a and a.b first.
                parts = name.split(".")
                for step in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
                    if step not in seen:
                        seen.add(step)
                        todo.append((step, f"{path} -> {step}"))
            elif top not in sys.stdlib_module_names:
                found.append((name, path))
    return found


def c_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Includes of each file below dataplane/; ours as paths, the system's in angle brackets."""
    graph = {}
    for path, text in sources.items():
        includes = set()
        for own, system in _INCLUDE.findall(text):
            if system:
                includes.add(f"<{system}>")
                continue
            here = posixpath.normpath(posixpath.join(posixpath.dirname(path), own))
            choices = [here, posixpath.normpath(own), posixpath.normpath(f"include/{own}")]
            includes.add(next((choice for choice in choices if choice in sources), f"?{own}"))
        graph[path] = includes
    return graph


def c_room(path: str) -> str:
    return path.split("/")[0] if "/" in path else "core"


def c_violations(graph: Graph) -> list[str]:
    found = []
    for path, includes in sorted(graph.items()):
        for name in sorted(includes):
            reason = _why_not_include(path, name)
            if reason:
                found.append(f"{path} includes {name.strip('<>?')}: {reason}")
    return found


def _why_not_include(path: str, name: str) -> str:
    if name.strip("<>?").split("/")[-1] == "Python.h":
        return "the dataplane knows no Python"
    if name.startswith("<"):
        return ""
    if name.startswith("?"):
        return "no such file of ours; system headers go in angle brackets"
    room, other = c_room(path), c_room(name)
    if room == "base" and other != "base" and name != "include/uswitch.h":
        return "base includes only base and the ABI"
    if room == "include" and other != "include":
        return "the ABI includes nothing of ours"
    if room == "xdp" and name in ADAPTERS:
        return ""
    if other in DRIVERS and room != other and path not in C_COMPOSERS:
        return ("drivers do not know each other" if room in DRIVERS
                else "only uswitch.c and uswitch_lend.c know the drivers")
    return ""


def read_tree(top: pathlib.Path, patterns: Iterable[str], below: pathlib.Path) -> dict[str, str]:
    """Files below a directory that match, by their path relative to top."""
    return {
        path.relative_to(top).as_posix(): path.read_text(encoding="utf-8")
        for pattern in patterns
        for path in sorted(below.rglob(pattern))
        if "build" not in path.relative_to(below).parts
    }
