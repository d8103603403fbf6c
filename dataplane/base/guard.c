/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * guard.c - the table of guarded mappings and the SIGBUS handler.
 *
 * The table is an array of chunks that are allocated once and never freed, so
 * the handler may walk it at any instant.  A slot is a small seqlock: the
 * control thread makes `seq` odd, changes the slot, makes it even again.  The
 * handler ignores a slot that changes under it: the mapping it looks for
 * cannot be one of those, since a mapping is removed only when no thread can
 * touch it any more.
 */
#include "base/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOTS 256
#define CHUNKS 1024 /* more mappings than the kernel's default vm.max_map_count allows */

/**
 * struct guard_slot - one guarded mapping (writer: control; reader: signal handlers)
 * @seq: odd while it changes
 * @base: start address, 0: free
 * @len: bytes
 * @hook: called on loss
 * @arg: for the hook
 */
struct guard_slot {
    _Atomic unsigned seq;
    _Atomic uintptr_t base;
    _Atomic size_t len;
    _Atomic(guard_hook *) hook;
    _Atomic(void *) arg;
};

static _Atomic(struct guard_slot *) chunks[CHUNKS];

static void slot_write(struct guard_slot *s, uintptr_t base, size_t len, guard_hook *hook, void *arg)
{
    /* Sequentially consistent throughout: not a hot path, and no fences for TSan to miss. */
    atomic_fetch_add(&s->seq, 1);
    atomic_store(&s->base, base);
    atomic_store(&s->len, len);
    atomic_store(&s->hook, hook);
    atomic_store(&s->arg, arg);
    atomic_fetch_add(&s->seq, 1);
}

/* If the slot is stable and covers addr: replace the mapping, tell the owner. */
static bool slot_handle(struct guard_slot *s, uintptr_t addr)
{
    const unsigned seq = atomic_load(&s->seq);
    const uintptr_t base = atomic_load(&s->base);
    const size_t len = atomic_load(&s->len);
    guard_hook *const hook = atomic_load(&s->hook);
    void *const arg = atomic_load(&s->arg);

    if (base == 0 || addr < base || addr - base >= len || (seq & 1) || atomic_load(&s->seq) != seq)
        return false;
    /* The system call itself: POSIX does not list mmap() among what a signal handler may call. */
    if (syscall(SYS_mmap, base, len, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != (long)base)
        return false;
    hook(arg, (const void *)addr);
    return true;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    const int saved_errno = errno;
    const uintptr_t addr = (uintptr_t)info->si_addr;

    (void)context;
    /* si_code <= 0: sent by a process, not raised by an access. */
    for (unsigned c = 0; info->si_code > 0 && c < CHUNKS; c++) {
        struct guard_slot *const chunk = atomic_load(&chunks[c]);

        if (!chunk)
            break;
        for (unsigned i = 0; i < SLOTS; i++) {
            if (slot_handle(&chunk[i], addr)) {
                errno = saved_errno;
                return;
            }
        }
    }
    /* Not ours: the default action, raised by the same access once we return. */
    signal(sig, SIG_DFL);
    if (info->si_code <= 0)
        raise(sig);
    errno = saved_errno;
}

int guard_install(void)
{
    struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

    sigemptyset(&sa.sa_mask);
    return sigaction(SIGBUS, &sa, NULL) ? -errno : 0;
}

int guard_add(void *base, size_t len, guard_hook *hook, void *arg)
{
    for (unsigned c = 0; c < CHUNKS; c++) {
        struct guard_slot *chunk = atomic_load(&chunks[c]);

        if (!chunk) {
            chunk = calloc(SLOTS, sizeof(*chunk));
            if (!chunk)
                return -ENOMEM;
            atomic_store(&chunks[c], chunk);
        }
        for (unsigned i = 0; i < SLOTS; i++) {
            if (atomic_load(&chunk[i].base) == 0) {
                slot_write(&chunk[i], (uintptr_t)base, len, hook, arg);
                return 0;
            }
        }
    }
    return -ENOMEM;
}

void guard_del(void *base)
{
    for (unsigned c = 0; c < CHUNKS; c++) {
        struct guard_slot *const chunk = atomic_load(&chunks[c]);

        if (!chunk)
            return;
        for (unsigned i = 0; i < SLOTS; i++) {
            if (atomic_load(&chunk[i].base) == (uintptr_t)base) {
                slot_write(&chunk[i], 0, 0, NULL, NULL);
                return;
            }
        }
    }
}
