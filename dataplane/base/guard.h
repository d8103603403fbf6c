/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * guard.h - survives the loss of memory that somebody else owns.
 *
 * Guest memory is a file of the front-end's.  When that file is truncated, or
 * the kernel cannot give it a huge page, the next touch raises SIGBUS in
 * whatever thread copies a packet just then.  The handler looks the address
 * up among the guarded mappings, lays private empty memory over the whole
 * mapping, so that the interrupted instruction can go on, and tells the owner
 * (who fences the port).  An address nobody guards ends the process as if
 * there were no handler.
 *
 * A signal handler has no argument, so the table of mappings is global: the
 * one exception to the rule, besides the log sink.
 */
#ifndef USWITCH_GUARD_H
#define USWITCH_GUARD_H

#include <stddef.h>

/**
 * typedef guard_hook - told that a mapping was lost
 * @arg: as registered
 * @addr: the address that was touched
 *
 * Runs in the signal handler of any thread, possibly in several at once: atomics only.
 */
typedef void guard_hook(void *arg, const void *addr);

/* With each switch, before any memory is guarded: take over SIGBUS. Legal to repeat. Return: 0 or -errno. */
int guard_install(void);

/**
 * guard_add() - guard a mapping
 * @base: start of the mapping, as mmap returned it
 * @len: its length; pages of its file's size, as mmap was given
 * @hook: called on loss
 * @arg: for the hook; must stay valid until guard_del() and a grace period
 *
 * Control thread.  Return: 0 or -ENOMEM.
 */
int guard_add(void *base, size_t len, guard_hook *hook, void *arg);

/* Control thread, before munmap, when no other thread can touch the mapping any more. */
void guard_del(void *base);

#endif /* USWITCH_GUARD_H */
