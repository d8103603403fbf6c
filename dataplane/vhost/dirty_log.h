/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * dirty_log.h - what the switch wrote to guest memory, a bit a page, for a
 * front-end that copies that memory to another host while the guest runs
 * (QEMU's docs/interop/vhost-user.rst, "Migration").
 *
 * Theory of operation.  The log is a file of the front-end's, mapped and
 * guarded like guest memory.  It hangs from struct virtq_map beside the memory
 * table and is exchanged with it, so whoever serves a ring sees table and log
 * of one moment; NULL means that nothing is recorded, which is all the fast
 * path ever asks.
 *
 * Order, for each piece of memory.  The front-end takes a bit away and then
 * copies the page, so a bit counts only after what it stands for:
 *
 *   write the bytes  ->  [D] full fence  ->  look at the bit, set it if clear
 *
 * The fence must be a full one.  With anything less the look may be answered
 * before the bytes have left this processor; a bit that the front-end is just
 * taking away would pass for set, and the page be copied without them.
 *
 * Buffers are recorded before the used index that hands them out is stored: a
 * process that is killed in between has recorded too much, never too little.
 * The index itself can only be recorded after; a ring is therefore recorded as
 * a whole whenever it is started with a log, which makes good for a process
 * that died between the two.
 */
#ifndef USWITCH_DIRTY_LOG_H
#define USWITCH_DIRTY_LOG_H

#include <stdatomic.h>
#include <stdbool.h>

#include "vhost/guest_mem.h"

#define DIRTY_PAGE_SHIFT 12     /* VHOST_LOG_PAGE of the specification, whatever the pages of memory are */

/**
 * struct dirty_log - a log (immutable, except its bits and @lost)
 * @bits: bit 0 of the first byte is the page at gpa 0
 * @pages: pages that have a bit
 * @used: bit i: writes to the used ring of ring i are recorded
 * @used_gpa: where it is taken to begin; chosen by the front-end, in no table
 * @lost: its memory was lost (writer: signal handler)
 * @mapping: its file
 * @gone: told of the loss
 * @owner: for @gone
 */
struct dirty_log {
    uint8_t *bits;
    uint64_t pages;
    uint64_t used;
    uint64_t used_gpa[US_RINGS_MAX];
    _Atomic bool lost;
    struct guest_mapping mapping;
    guest_mem_gone *gone;
    void *owner;
};

/**
 * dirty_log_create() - check and map a log
 * @request: nothing in it is trusted
 * @fd: borrowed, not kept
 * @gone: called, with an offset, when the log's memory is lost later
 * @owner: for @gone
 * @out: the log
 *
 * Control thread.  Return: 0, -EINVAL (size 0, overflow, not a regular file), -ENOMEM, or see
 * guest_mem_create().
 */
int dirty_log_create(const struct us_vhost_log *request, int fd, guest_mem_gone *gone, void *owner,
                     struct dirty_log **out);

/* Control thread, when no worker can use it. NULL is legal. */
void dirty_log_destroy(struct dirty_log *log);

/**
 * dirty_log_mark() - record that guest memory was written
 * @log: the log
 * @gpa: guest-physical address of the first byte
 * @len: bytes; 0 records nothing
 *
 * Worker, after the write; control thread while it starts a ring.  Pages that have no bit are passed over, a range
 * that wraps ends at the last address.  Not for the fast path.
 */
static inline void dirty_log_mark(const struct dirty_log *log, uint64_t gpa, uint64_t len)
{
    const uint64_t to_end = len > UINT64_MAX - gpa ? UINT64_MAX - gpa : len - 1;
    uint64_t page = gpa >> DIRTY_PAGE_SHIFT, last = (gpa + to_end) >> DIRTY_PAGE_SHIFT;

    if (len == 0 || page >= log->pages)
        return;
    if (last >= log->pages)
        last = log->pages - 1;
    guest_fence(); /* [D] */
    for (; page <= last; page++) {
        uint8_t *const byte = &log->bits[guest_index_nospec(page, log->pages) / 8];
        const uint8_t bit = (uint8_t)(1u << page % 8);

        /* Pages that stay dirty cost no locked instruction, and no line torn from another worker. */
        if (!(__atomic_load_n(byte, __ATOMIC_RELAXED) & bit))
            __atomic_fetch_or(byte, bit, __ATOMIC_SEQ_CST);
    }
}

/**
 * dirty_log_mark_used() - record a write to a used ring, if those of this ring are recorded
 * @log: the log
 * @ring: the ring's number
 * @off: offset of the first byte in the used ring
 * @len: bytes
 */
static inline void dirty_log_mark_used(const struct dirty_log *log, uint32_t ring, uint64_t off, uint64_t len)
{
    const uint64_t gpa = log->used_gpa[ring];

    if ((log->used >> ring & 1) && off <= UINT64_MAX - gpa)
        dirty_log_mark(log, gpa + off, len);
}

#endif /* USWITCH_DIRTY_LOG_H */
