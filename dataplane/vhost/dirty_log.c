/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * dirty_log.c - the life of a log of dirty pages; see dirty_log.h.  The file
 * passes the same checks as guest memory does.
 */
#include "vhost/dirty_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void on_loss(void *arg, const void *addr)
{
    struct dirty_log *const log = arg;

    atomic_store_explicit(&log->lost, true, memory_order_relaxed);
    log->gone(log->owner, (uint64_t)((const uint8_t *)addr - (const uint8_t *)log->mapping.map));
}

int dirty_log_create(const struct us_vhost_log *request, int fd, guest_mem_gone *gone, void *owner,
                     struct dirty_log **out)
{
    struct dirty_log *log;
    int rc;

    if (request->size == 0 || request->size > UINT64_MAX / 8)
        return -EINVAL;
    log = calloc(1, sizeof(*log));
    if (!log)
        return -ENOMEM;
    log->gone = gone;
    log->owner = owner;
    log->pages = request->size * 8;
    log->used = request->used;
    memcpy(log->used_gpa, request->used_gpa, sizeof(log->used_gpa));
    rc = guest_map_file(fd, request->offset, request->size, on_loss, log, &log->mapping);
    if (rc) {
        free(log);
        return rc;
    }
    log->bits = log->mapping.start;
    *out = log;
    return 0;
}

void dirty_log_destroy(struct dirty_log *log)
{
    if (!log)
        return;
    guest_unmap_file(&log->mapping);
    free(log);
}
