# SPDX-License-Identifier: Apache-2.0
"""A guest of some twenty instructions on KVM: what ``kvm.py`` starts and may have to kill.

Imports nothing of ours: it is run as a file, by ``python -I``, so that a guest
that hangs in the kernel takes nobody with it.  Writes one line for each step
the guest reached ("step 3"), then how it ended:

``done``                   it reached its end
``refused WHAT ERRNO``     an ioctl failed
``stopped REASON DETAIL``  KVM gave up, with its own exit reason

The guest starts in 64-bit mode with pages and SSE on, as a kernel that has
just left its decompressor.  Less proves nothing: some hypervisors emulate real
mode for their own guests' KVM, and fail at the first instruction of a kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import sys

# linux/kvm.h
KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_GET_SUPPORTED_CPUID = 0xC008AE05
KVM_CREATE_VCPU = 0xAE41
KVM_SET_TSS_ADDR = 0xAE47
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
KVM_SET_REGS = 0x4090AE82
KVM_GET_SREGS = 0x8138AE83
KVM_SET_SREGS = 0x4138AE84
KVM_SET_CPUID2 = 0x4008AE90
EXIT_IO, EXIT_HLT = 2, 5
SREGS_SIZE, CPUID_ENTRIES, CPUID_ENTRY_SIZE = 312, 256, 40

# Guest physical addresses; virtual ones are the same.
MEMORY = 0x10000
CODE, HANDLER, IDTR, STACK = 0x1000, 0x1100, 0x1F00, 0x3000
TSS = 0x40000000  # three pages for KVM itself, far from the guest's memory
PML4, PDPT, PD, GDT, IDT = 0x4000, 0x5000, 0x6000, 0x7000, 0x8000
STEP_PORT = 0xE9

# Each step begins by writing its number: mov $N, %al; out %al, $0xe9.
STEPS = (
    ("64-bit mode", "b001 e6e9"),
    ("CPUID", "0fa2 b002 e6e9"),
    # movq %rax, %xmm0; paddq %xmm0, %xmm0; movq %xmm0, %rax
    ("SSE", "66480f6ec0 660fd4c0 66480f7ec0 b003 e6e9"),
    ("page tables", "0f20d8 0f22d8 b004 e6e9"),  # mov %cr3, %rax; mov %rax, %cr3
    ("an exception", "0f011c25001f0000 cc"),  # lidt IDTR; int3; its handler writes 5
    ("the way back from it", "b006 e6e9"),
    ("model-specific registers", "b9800000c0 0f32 0f30 b007 e6e9"),  # EFER: rdmsr; wrmsr
    ("halting", "f4"),
)
HANDLER_CODE = "b005 e6e9 48cf"  # step 5; iretq


def memory() -> mmap.mmap:
    """The guest's: code, tables, stack."""
    guest = mmap.mmap(-1, MEMORY, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    for address, text in ((CODE, "".join(code for _, code in STEPS)), (HANDLER, HANDLER_CODE)):
        code = bytes.fromhex(text)
        guest[address : address + len(code)] = code
    struct.pack_into("<Q", guest, PML4, PDPT | 3)  # present, writable
    struct.pack_into("<Q", guest, PDPT, PD | 3)
    struct.pack_into("<Q", guest, PD, 0x83)  # one page of 2 MiB
    struct.pack_into("<QQQ", guest, GDT, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
    struct.pack_into("<HHBBHII", guest, IDT + 3 * 16, HANDLER, 8, 0, 0x8E, 0, 0, 0)
    struct.pack_into("<HQ", guest, IDTR, 0xFFF, IDT)
    return guest


def special_registers(fresh: bytes) -> bytes:
    """struct kvm_sregs of a processor in 64-bit mode; ``fresh``: as KVM made it."""
    registers = bytearray(fresh)

    def segment(index: int, selector: int, kind: int, *, long: bool) -> None:
        # base, limit, selector; type, present, dpl, db, s, l, g, avl, unusable, padding
        struct.pack_into("<QIH10B", registers, 24 * index, 0, 0xFFFFFFFF, selector,
                         kind, 1, 0, not long, 1, long, 1, 0, 0, 0)  # fmt: skip

    segment(0, 8, 11, long=True)  # cs
    for index in range(1, 6):  # ds, es, fs, gs, ss
        segment(index, 16, 3, long=False)
    struct.pack_into("<QH", registers, 192, GDT, 23)
    struct.pack_into("<QH", registers, 208, 0, 0)  # the guest loads its IDT itself
    cr0, cr4, efer = 0x80050033, 0x620, 0x500  # paging; PAE, SSE; long mode, active
    struct.pack_into("<QQQQ", registers, 224, cr0, 0, PML4, cr4)
    struct.pack_into("<Q", registers, 264, efer)
    return bytes(registers)


class Refused(Exception):
    """An ioctl failed."""


def call(fd: int, what: str, request: int, argument: int | bytes | bytearray = 0) -> int:
    try:
        if isinstance(argument, bytearray):
            return int(fcntl.ioctl(fd, request, argument, True))
        answer = fcntl.ioctl(fd, request, argument)
        return answer if isinstance(answer, int) else 0
    except OSError as error:
        raise Refused(f"{what} {error.errno}") from None


def set_up(kvm: int, guest: mmap.mmap) -> int:
    """A processor that is about to run the code; its file descriptor."""
    vm = call(kvm, "KVM_CREATE_VM", KVM_CREATE_VM)
    with contextlib.suppress(OSError):  # needed by old Intel processors only
        fcntl.ioctl(vm, KVM_SET_TSS_ADDR, TSS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(guest))
    call(vm, "KVM_SET_USER_MEMORY_REGION", KVM_SET_USER_MEMORY_REGION,
         struct.pack("<IIQQQ", 0, 0, 0, MEMORY, address))  # fmt: skip
    cpu = call(vm, "KVM_CREATE_VCPU", KVM_CREATE_VCPU)
    cpuid = bytearray(8 + CPUID_ENTRY_SIZE * CPUID_ENTRIES)
    struct.pack_into("<I", cpuid, 0, CPUID_ENTRIES)
    call(kvm, "KVM_GET_SUPPORTED_CPUID", KVM_GET_SUPPORTED_CPUID, cpuid)
    call(cpu, "KVM_SET_CPUID2", KVM_SET_CPUID2, cpuid)
    fresh = bytearray(SREGS_SIZE)
    call(cpu, "KVM_GET_SREGS", KVM_GET_SREGS, fresh)
    call(cpu, "KVM_SET_SREGS", KVM_SET_SREGS, special_registers(bytes(fresh)))
    general = [0] * 18
    general[6], general[16], general[17] = STACK, CODE, 2  # rsp, rip, rflags
    call(cpu, "KVM_SET_REGS", KVM_SET_REGS, struct.pack("<18Q", *general))
    return cpu


def say(line: str) -> None:
    print(line, flush=True)


def run(kvm: int) -> None:
    guest = memory()
    cpu = set_up(kvm, guest)
    size = call(kvm, "KVM_GET_VCPU_MMAP_SIZE", KVM_GET_VCPU_MMAP_SIZE)
    shared = mmap.mmap(cpu, size, mmap.MAP_SHARED)  # struct kvm_run
    for _ in range(4 * len(STEPS)):  # each step leaves once
        call(cpu, "KVM_RUN", KVM_RUN)
        (reason,) = struct.unpack_from("<I", shared, 8)
        if reason == EXIT_HLT:
            say("done")
            return
        if reason != EXIT_IO:
            say(f"stopped {reason} {struct.unpack_from('<I', shared, 32)[0]}")
            return
        _, _, port, _, offset = struct.unpack_from("<BBHIQ", shared, 32)
        if port == STEP_PORT and offset < size:
            say(f"step {shared[offset]}")
    say("stopped 2 0")


def main(path: str) -> int:
    kvm = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        run(kvm)
    except Refused as refused:
        say(f"refused {refused}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
