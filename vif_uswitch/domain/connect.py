# SPDX-License-Identifier: Apache-2.0
"""libvirt as the rest of this room sees it: a few calls, and errors that say what to do.

What libvirt raises leaves this module as an error of ours.  Calls block, and some may block for as
long as QEMU does: ``patiently()`` waits for those no longer than its deadline.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import libvirt

from vif_uswitch.domain.affect import Affect, State
from vif_uswitch.domain.uri import named
from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    DaemonUnreachable,
    Forbidden,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    TimedOut,
    USwitchError,
)
from vif_uswitch.hooks import port_xml

STUCK_S = 3  # how long a healthy QEMU may take for one thing

_KINDS: dict[int, tuple[type[USwitchError], str]] = {
    libvirt.VIR_ERR_NO_DOMAIN: (NotFound, "See 'virsh list --all'."),
    libvirt.VIR_ERR_NO_CONNECT: (DaemonUnreachable, "Is the URI right? See 'virsh uri'."),
    libvirt.VIR_ERR_RPC: (DaemonUnreachable, "Look into the log of libvirtd."),
    libvirt.VIR_ERR_AUTH_FAILED: (Forbidden, "Be in the group libvirt, or use sudo."),
    libvirt.VIR_ERR_AUTH_CANCELLED: (Forbidden, "Be in the group libvirt, or use sudo."),
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: (Forbidden, "Be in the group libvirt, or use sudo."),
    libvirt.VIR_ERR_ACCESS_DENIED: (Forbidden, "Be in the group libvirt, or use sudo."),
    libvirt.VIR_ERR_OPERATION_DENIED: (Forbidden, "Be in the group libvirt, or use sudo."),
    libvirt.VIR_ERR_OPERATION_INVALID: (Conflict, "See 'virsh domstate'."),
    libvirt.VIR_ERR_OPERATION_TIMEOUT: (Busy, "Another job runs: see 'virsh domjobinfo'."),
    libvirt.VIR_ERR_NO_SUPPORT: (USwitchError, "This driver of libvirt's cannot do it."),
    libvirt.VIR_ERR_NO_MEMORY: (ResourceExhausted, ""),
}
_UNREACHABLE = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)


@contextmanager
def explained(what: str, value: str) -> Iterator[None]:
    """What libvirt raises within becomes an error of ours about ``what``."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise explanation(error, what, value) from None


def explanation(error: libvirt.libvirtError, what: str, value: str) -> USwitchError:
    code = error.get_error_code()
    text = " ".join((error.get_error_message() or str(error)).split())
    if code == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_error_domain() in _UNREACHABLE:
        if "Permission denied" in text:
            return Forbidden("libvirt", None, text, "Be in the group libvirt, or use sudo.")
        return DaemonUnreachable("libvirt", None, text, "Start libvirtd (or virtqemud).")
    kind, todo = _KINDS.get(code, (USwitchError, ""))
    if kind is DaemonUnreachable:
        what, value = "libvirt", ""
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        text = "does not exist"
    if "shared memory" in text:
        todo = "Let it share its memory: see 'uswitchctl domain check'."
    return kind(what, value or None, text.rstrip("."), todo)


class Guest:
    """One domain."""

    def __init__(self, connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
        self._connection = connection
        self._domain = domain
        self.name: str = domain.name()
        self.uuid: str = domain.UUIDString()

    def state(self) -> State:
        with explained("domain", self.name):
            return State(self.name, bool(self._domain.isActive()),
                         bool(self._domain.isPersistent()))  # fmt: skip

    def xml(self, which: Affect, *, secrets: bool = True) -> str:
        """One of its two descriptions.

        ``secrets``: with passwords, as it must be for what is defined again;
        not allowed on a connection that only reads.
        """
        flags = libvirt.VIR_DOMAIN_XML_SECURE if secrets else 0
        if which is Affect.CONFIG:
            flags |= libvirt.VIR_DOMAIN_XML_INACTIVE
        self._must_not_be_stuck()
        with explained("domain", self.name):
            return str(self._domain.XMLDesc(flags))

    def _must_not_be_stuck(self) -> None:
        """Libvirt tells nothing of a domain whose QEMU does not answer: it waits for 30 s first."""
        try:
            _, _, since_ms = self._domain.controlInfo()
        except libvirt.libvirtError:
            return  # it does not run, or the driver does not know
        if since_ms > STUCK_S * 1000:
            raise Busy("domain", self.name, f"libvirt has waited {since_ms // 1000} s for its QEMU",
                       f"See 'uswitchctl domain check {self.name}'.")  # fmt: skip

    def attach(self, device: str, affect: Affect) -> None:
        with explained("domain", self.name):
            self._domain.attachDeviceFlags(device, affect.value)

    def detach(self, device: str, affect: Affect) -> None:
        """The running guest may take its time: the device is gone when the XML says so."""
        with explained("domain", self.name):
            self._domain.detachDeviceFlags(device, affect.value)

    def define(self, xml: str) -> None:
        """Replace the configuration, checked against libvirt's schema."""
        with explained("domain", self.name):
            self._connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    def set_metadata(self, element: str | None, affect: Affect) -> None:
        """Our element of the domain's metadata, without a namespace: libvirt puts it in."""
        with explained("domain", self.name):
            self._domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element,
                                     port_xml.PREFIX, port_xml.NAMESPACE, affect.value)  # fmt: skip


class Hypervisor:
    """A connection to libvirt on this host."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection
        self.uri: str = connection.getURI()

    def __enter__(self) -> Hypervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with suppress(libvirt.libvirtError):  # it is gone already
            self._connection.close()

    def alive(self) -> bool:
        try:
            return bool(self._connection.isAlive())
        except libvirt.libvirtError:
            return False

    @property
    def short_uri(self) -> str:
        """As ports carry it: driver and path, no way to get there."""
        parts = urlsplit(self.uri)
        return f"{parts.scheme.partition('+')[0]}://{parts.path}"

    def subscribe(self, event: int, ring: Callable[..., None]) -> None:
        """``ring`` is called in the thread of libvirt's events, if the driver has this event."""
        with suppress(libvirt.libvirtError):
            self._connection.domainEventRegisterAny(None, event, ring, None)

    def guests(self) -> list[Guest]:
        """All domains, by name."""
        with explained("libvirt", ""):
            found = [Guest(self._connection, one) for one in self._connection.listAllDomains()]
        return sorted(found, key=lambda guest: guest.name)

    def guest(self, word: str) -> Guest:
        """A domain by id, UUID or name, in virsh's order."""
        ways: list[Callable[[], libvirt.virDomain]] = []
        if word.isascii() and word.isdecimal() and int(word) < 1 << 31:
            ways.append(lambda: self._connection.lookupByID(int(word)))
        if len(word) == 36:
            ways.append(lambda: self._connection.lookupByUUIDString(word))
        for way in ways:
            try:
                return Guest(self._connection, way())
            except libvirt.libvirtError as error:
                if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN,
                                                  libvirt.VIR_ERR_INVALID_ARG):  # fmt: skip
                    raise explanation(error, "domain", word) from None
        with explained("domain", word):
            return Guest(self._connection, self._connection.lookupByName(word))


def connect(uri: str | None, *, write: bool) -> Hypervisor:
    """To the libvirt that virsh would take.  It has to run here, where the switch is."""
    libvirt.registerErrorHandler(lambda context, error: None, None)  # it prints them all otherwise
    name = named(uri)
    with explained("libvirt", name):
        opened = libvirt.open(name or None) if write else libvirt.openReadOnly(name or None)
    if urlsplit(opened.getURI()).hostname and _label(opened.getHostname()) != _label():
        opened.close()
        raise InvalidInput("libvirt", opened.getURI(), "is on another host than the switch",
                           "Run this command there.")  # fmt: skip
    return Hypervisor(opened)


def _label(host: str | None = None) -> str:
    """libvirt may know a host by its whole name, where the kernel knows the first label."""
    return (host if host is not None else socket.gethostname()).partition(".")[0]


def patiently(what: str, value: str, call: Callable[[], None], seconds: float, todo: str) -> None:
    """A call that may never return: given up after ``seconds``, and then it still runs.

    QEMU answers nobody while it waits for its switch, so libvirt does not
    either.  The thread ends with this program.
    """
    failure: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimedOut(what, value, f"libvirt has not answered for {seconds:g} s", todo)
    if failure:
        raise failure[0]
