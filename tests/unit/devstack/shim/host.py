#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A host that is a file: the commands by which devstack's plugin changes the machine.

Links with the names of the commands point here.  Users, groups, mounts, network devices, units
and processes are kept in $SHIM_HOST; every call is a line of $SHIM_CALLS, its words separated by
US.  A command that only root may give fails unless it came through the shim's sudo.  What is asked
in a way that is not known here fails as well, so that nothing passes by mistake.
"""

from __future__ import annotations

# Few imports, and none of json, which costs more than all else: it is started some fifty times
# for each stack.sh.
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Host = dict[str, Any]

EMPTY: Host = {
    "users": {"root": {"uid": 0, "gid": 0, "note": "root"},
              "stack": {"uid": 1000, "gid": 1000, "note": ""}},
    "groups": {"root": {"gid": 0, "members": []}, "stack": {"gid": 1000, "members": []},
               "kvm": {"gid": 107, "members": []}, "libvirt": {"gid": 108, "members": ["stack"]}},
    "mounts": [], "links": {}, "units": {}, "processes": [], "attached": [], "bound": [],
    "routes": [], "flavors": {}, "owners": {},
    "gateways": {"public-subnet": "172.24.4.1", "ipv6-public-subnet": "2001:db8::2"},
}
FAILED = 1


class Refused(Exception):
    """What the command says on standard error before it fails."""


def option(words: list[str], name: str, default: str = "") -> str:
    return words[words.index(name) + 1] if name in words else default


def root() -> None:
    if os.environ.get("SHIM_ROOT") != "yes":
        raise Refused("only root may do that")


# ---- users ----


def useradd(host: Host, words: list[str]) -> None:
    root()
    name = words[-1]
    if name in host["users"]:
        raise Refused(f"useradd: user '{name}' already exists")
    group = option(words, "--gid")
    if not group:
        if "--user-group" not in words or name in host["groups"]:
            raise Refused(f"useradd: group {name} exists")
        group = name
        host["groups"][name] = {"gid": 995, "members": []}
    host["users"][name] = {"uid": 995, "gid": host["groups"][group]["gid"],
                           "note": option(words, "--comment")}


def usermod(host: Host, words: list[str]) -> None:
    root()
    group, name = words[-2:]
    if words[:-2] != ["-a", "-G"] or name not in host["users"]:
        raise Refused(f"usermod: {words}")
    members = host["groups"][group]["members"]
    if name not in members:
        members.append(name)


def userdel(host: Host, words: list[str]) -> None:
    root()
    (name,) = words
    if any(process["user"] == name for process in host["processes"]):
        raise Refused(f"userdel: user {name} is currently used by process")
    del host["users"][name]
    for group in host["groups"].values():
        group["members"] = [member for member in group["members"] if member != name]
    if not host["groups"][name]["members"]:
        del host["groups"][name]


def groupadd(host: Host, words: list[str]) -> None:
    root()
    if words[-1] in host["groups"]:
        raise Refused(f"groupadd: group '{words[-1]}' already exists")
    host["groups"][words[-1]] = {"gid": 994, "members": []}


def groupdel(host: Host, words: list[str]) -> None:
    root()
    del host["groups"][words[0]]


def getent(host: Host, words: list[str]) -> None:
    database, key = words if len(words) > 1 else (words[0], "")
    for name, entry in host["users" if database == "passwd" else "groups"].items():
        if key in {name, str(entry.get("uid", entry["gid"]))}:
            print(f"{name}:x:{entry['uid']}:{entry['gid']}:{entry['note']}:/:/bin/sh"
                  if database == "passwd" else
                  f"{name}:x:{entry['gid']}:{','.join(entry['members'])}")
            return
    raise SystemExit(2)


# ---- files ----


def install(host: Host, words: list[str]) -> None:
    """The real one, but for owners, which are only remembered."""
    kept = []
    words = list(words)
    owner = {}
    while words:
        word = words.pop(0)
        if word in {"-o", "-g"}:
            root()
            kind, name = ("users" if word == "-o" else "groups"), words.pop(0)
            if name not in host[kind]:
                raise Refused(f"install: no {kind} {name}")
            owner[word] = name
        else:
            kept.append(word)
    if os.spawnv(os.P_WAIT, "/usr/bin/install", ["install", *kept]):
        raise Refused("install failed, see above")
    host["owners"][kept[-1]] = owner


def mount(host: Host, words: list[str]) -> None:
    root()
    target, options = words[-1], option(words, "-o")
    found = [one for one in host["mounts"] if one["target"] == target]
    if options.startswith("remount,"):
        if not found:
            raise Refused(f"mount: {target} not mounted")
        kept = dict(one.split("=") for one in found[-1]["options"].split(","))
        kept |= dict(one.split("=") for one in options.removeprefix("remount,").split(","))
        found[-1]["options"] = ",".join(f"{name}={value}" for name, value in kept.items())
    else:
        if not os.path.isdir(target):
            raise Refused(f"mount: {target}: mount point does not exist")
        host["mounts"].append({"source": words[-2], "target": target, "options": options,
                               "type": option(words, "-t")})


def umount(host: Host, words: list[str]) -> None:
    root()
    found = [one for one in host["mounts"] if one["target"] == words[-1]]
    if not found:
        raise Refused(f"umount: {words[-1]}: not mounted")
    host["mounts"].remove(found[-1])


def findmnt(host: Host, words: list[str]) -> None:
    found = [one["target"] for one in host["mounts"] if one["source"] == option(words, "--source")]
    if not found:
        raise SystemExit(FAILED)
    print("\n".join(found))


# ---- network ----


def ip(host: Host, words: list[str]) -> None:
    words = [word for word in words if word != "-6"]
    kind, verb, rest = words[0], words[1], words[2:]
    links = host["links"]
    if (kind, verb) == ("tuntap", "show"):
        for name, link in links.items():
            if link["kind"] == "tun":
                print(f"{name}: tap vnet_hdr persist user {link['user']}")
        return
    if (kind, verb) == ("link", "show"):
        if rest[-1] not in links:
            raise Refused(f'Device "{rest[-1]}" does not exist.')
        return
    root()
    if (kind, verb) == ("link", "add"):
        peer = rest[rest.index("peer") + 2]
        links[rest[0]] = {"kind": "veth", "peer": peer, "up": False, "addresses": []}
        links[peer] = {"kind": "veth", "peer": rest[0], "up": False, "addresses": []}
    elif (kind, verb) == ("link", "delete"):
        peer = links.pop(rest[0]).get("peer")
        links.pop(peer, None)
        host["routes"] = [one for one in host["routes"] if rest[0] not in one]
    elif (kind, verb) == ("link", "set") and rest[-1] == "up":
        links[option(rest, "dev")]["up"] = True
    elif (kind, verb) == ("address", "replace"):
        link = links[option(rest, "dev")]
        link["addresses"] = sorted({*link["addresses"], rest[0]})
    elif (kind, verb) == ("route", "replace"):
        host["routes"] = sorted({*host["routes"], " ".join(rest)})
    else:
        raise Refused(f"ip: not known here: {words}")


def ethtool(host: Host, words: list[str]) -> None:
    root()
    if words[0] != "-K" or words[1] not in host["links"]:
        raise Refused(f"ethtool: {words}")


def uswitch_xdp(host: Host, words: list[str]) -> None:
    root()
    verb, name = words
    if name not in host["links"] or host["links"][name]["addresses"]:
        raise Refused(f"uswitch-xdp: interface {name} is in use")
    if verb == "attach":
        host["attached"] = sorted({*host["attached"], name})
    else:
        host["attached"].remove(name)


def uswitch_uplink(host: Host, words: list[str]) -> None:
    root()
    verb, address = words
    if verb == "bind":
        if "uswitch" not in host["groups"]:
            raise Refused("uswitch-uplink: group uswitch does not exist")
        host["bound"] = sorted({*host["bound"], address})
    else:
        if any(process["user"] == "uswitch" for process in host["processes"]):
            raise Refused(f"uswitch-uplink: adapter {address} is in use")
        host["bound"].remove(address)


# ---- services ----


def systemctl(host: Host, words: list[str]) -> None:
    words = [word for word in words if word not in {"--now", "--quiet"}]
    if words[0] == "is-active":
        if host["units"].get(words[1]) != "active":
            raise SystemExit(3)
        return
    if words[0] == "cat":
        if words[1] not in host["units"] and not os.path.exists(
                os.path.join(os.environ["SYSTEMD_DIR"], words[1])):
            raise Refused(f"No files found for {words[1]}.")
        return
    root()
    if words[0] == "enable":
        if not os.path.exists(os.path.join(os.environ["SYSTEMD_DIR"], words[1])):
            raise Refused(f"Unit {words[1]} not found.")
        host["units"][words[1]] = "active"
    elif words[0] in {"disable", "stop"}:
        if words[1] not in host["units"]:
            raise Refused(f"Unit {words[1]} not loaded.")
        del host["units"][words[1]]
    elif words != ["daemon-reload"]:
        raise Refused(f"systemctl: not known here: {words}")


def process(host: Host, words: list[str]) -> None:
    """Not a command of a host: what the shim's run_process and stop_process do to it."""
    verb, name, *rest = words
    host["processes"] = [one for one in host["processes"] if one["name"] != name]
    if verb == "run":
        command, group, user = rest
        if user not in host["users"]:
            raise Refused(f"no user {user}")
        host["processes"].append({"name": name, "command": command, "group": group, "user": user})
        if name == "uswitchd":  # its other half, which survives the end of the unit
            host["processes"] = [one for one in host["processes"]
                                 if one["name"] != "uswitch-dataplane"]
            host["processes"].append({"name": "uswitch-dataplane", "user": user})


def pkill(host: Host, words: list[str]) -> None:
    root()
    user = option(words, "-u")
    if user not in host["users"]:
        raise Refused(f"pkill: invalid user name: {user}")
    left = [process for process in host["processes"] if process["user"] != user]
    if len(left) == len(host["processes"]):
        raise SystemExit(FAILED)
    host["processes"] = left


def pgrep(host: Host, words: list[str]) -> None:
    user = option(words, "-u")
    if user not in host["users"]:
        raise Refused(f"pgrep: invalid user name: {user}")
    if not any(process["user"] == user for process in host["processes"]):
        raise SystemExit(FAILED)


def pidwait(host: Host, words: list[str]) -> None:
    raise SystemExit(FAILED)  # nobody is left to wait for


def uswitchd(host: Host, words: list[str]) -> None:
    if os.environ.get("SHIM_USER") != "uswitch":
        raise Refused("uswitchd: does not run as root")
    if words != ["--version"]:
        raise Refused(f"uswitchd: {words}")


def uswitchctl(host: Host, words: list[str]) -> None:
    if not any(process["name"] == "uswitchd" for process in host["processes"]):
        print("uswitchctl: uswitchd is not reachable", file=sys.stderr)
        raise SystemExit(3)


def openstack(host: Host, words: list[str]) -> None:
    words = [word for word in words if word not in {"--all"}]
    del words[:2]
    if words[0] == "--os-region":
        del words[:2]
    if words[:2] == ["flavor", "list"]:
        print("\n".join(host["flavors"]))
    elif words[:2] == ["flavor", "show"]:
        print(host["flavors"][words[2]])
    elif words[:2] == ["flavor", "set"]:
        host["flavors"][words[-1]] += f" {option(words, '--property')}"
    elif words[:2] == ["subnet", "show"]:
        print(host["gateways"][words[2]])
    else:
        raise Refused(f"openstack: not known here: {words}")


def harmless(host: Host, words: list[str]) -> None:
    """Commands that leave nothing behind."""
    root()


COMMANDS = {
    "useradd": useradd, "usermod": usermod, "userdel": userdel, "groupadd": groupadd,
    "groupdel": groupdel, "getent": getent, "install": install, "mount": mount,
    "umount": umount, "findmnt": findmnt,
    "ip": ip, "ethtool": ethtool, "uswitch-xdp": uswitch_xdp, "uswitch-uplink": uswitch_uplink,
    "systemctl": systemctl, "pkill": pkill, "pgrep": pgrep, "pidwait": pidwait,
    "uswitchd": uswitchd, "uswitchctl": uswitchctl, "openstack": openstack, "shim-process": process,
    "udevadm": harmless, "modprobe": harmless,
}


def main() -> int:
    name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
    state = os.environ["SHIM_HOST"]
    with open(os.environ["SHIM_CALLS"], "a", encoding="utf-8") as calls:
        calls.write("\x1f".join([name, *words]) + "\n")
    with open(state, "rb") as file:
        host = marshal.load(file)
    try:
        COMMANDS[name](host, words)
    except Refused as error:
        print(error, file=sys.stderr)
        return FAILED
    with open(state + ".new", "wb") as file:
        marshal.dump(host, file)
    os.rename(state + ".new", state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
