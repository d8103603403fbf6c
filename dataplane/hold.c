/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * hold.c - see hold.h.
 */
#include "hold.h"

#include <stdlib.h>
#include <time.h>

/* An adapter sends all that a ring holds in some milliseconds, unless its link is gone or its peer says pause. */
#define SETTLE_STEP_NS 50000
#define SETTLE_STEPS 4000

struct hold_reader *hold_reader_create(void *queue, void (*look)(void *queue), void (*silence)(void *queue))
{
    struct hold_reader *const r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    atomic_init(&r->users, 1);
    atomic_init(&r->queue, queue);
    r->look = look;
    r->silence = silence;
    return r;
}

/* acq_rel: what others did with it comes before the free. */
static void release(struct hold_reader *r)
{
    if (atomic_fetch_sub_explicit(&r->users, 1, memory_order_acq_rel) == 1)
        free(r);
}

void hold_reader_detach(struct hold_reader *r)
{
    atomic_store_explicit(&r->queue, NULL, memory_order_release);
}

void hold_reader_retire(struct hold_reader *r)
{
    if (!r)
        return;
    atomic_store_explicit(&r->queue, NULL, memory_order_relaxed);
    atomic_store_explicit(&r->done, UINT64_MAX, memory_order_release);
    release(r);
}

static bool has_done(const struct hold_reader *r, uint64_t until)
{
    /* acquire: what the device has read may be written again. */
    return atomic_load_explicit(&r->done, memory_order_acquire) >= until;
}

static bool look(struct hold_reader *r, uint64_t until)
{
    void *queue;

    if (has_done(r, until))
        return true;
    queue = atomic_load_explicit(&r->queue, memory_order_acquire);
    if (queue)
        r->look(queue);
    return has_done(r, until);
}

bool hold_is_over(const struct hold *h)
{
    for (uint32_t i = 0; i < h->n; i++) {
        if (!look(h->part[i].reader, h->part[i].until))
            return false;
    }
    return true;
}

void hold_end(struct hold *h)
{
    for (uint32_t i = 0; i < h->n; i++)
        release(h->part[i].reader);
    h->n = 0;
}

void hold_reader_settle(struct hold_reader *r, uint64_t until)
{
    const struct timespec step = { .tv_nsec = SETTLE_STEP_NS };
    void *queue;

    for (unsigned i = 0; i < SETTLE_STEPS; i++) {
        if (look(r, until))
            return;
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &step, NULL);
    }
    queue = atomic_load_explicit(&r->queue, memory_order_acquire);
    if (queue)
        r->silence(queue);
}

void hold_settle(const struct hold *h)
{
    for (uint32_t i = 0; i < h->n; i++)
        hold_reader_settle(h->part[i].reader, h->part[i].until);
}
