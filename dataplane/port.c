/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * port.c - what all ports have in common: the generic part's beginning and
 * end, the fence around a peer that misbehaved, and the fd that announces
 * frames on a queue.
 *
 * Drivers call these; the only thing below them is the worker's epoll set
 * (worker_watch).  Control thread, except port_break().
 */
#include "port.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "segment.h"
#include "worker.h"

void port_init(struct port *p, const struct port_ops *ops, const struct us_port_add *add,
               struct us_state_page *state, uint32_t n_queues)
{
    p->ops = ops;
    p->id = add->port_id;
    p->kind = add->kind;
    p->n_queues = n_queues;
    p->shared = false;
    p->news_fd = -1;
    p->state = state;
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++) {
        p->rxq[i] = (struct rxq){ .port = p, .index = i, .watched_fd = RXQ_QUIET };
        /* The page may come from a process that died while it served the queue. */
        __atomic_store_n(&state->in[i].worker, 0, __ATOMIC_RELAXED);
    }

    atomic_init(&p->tags, NULL);
    atomic_init(&p->offloads, 0);
    atomic_init(&p->max_frame, add->max_frame);
    atomic_init(&p->fdb_quota, add->fdb_quota);
    atomic_init(&p->policy, NULL);
    atomic_init(&p->broken, BREAK_none);
    atomic_init(&p->flood.rate, add->flood_rate);
    atomic_init(&p->flood.depth, add->flood_burst);
    atomic_init(&p->flood.state, 0);
    atomic_init(&p->limit.bits.full_at, 0);
    atomic_init(&p->limit.packets.full_at, 0);
    limit_set(&p->limit, &(struct limit_values){ add->max_kbps, add->burst_kbit, add->max_kpps, add->burst_kpkt });
    atomic_init(&p->fdb_count, 0);
}

void port_fini(struct port *p)
{
    port_tags_free(atomic_exchange_explicit(&p->tags, NULL, memory_order_relaxed));
    free((void *)(uintptr_t)atomic_exchange_explicit(&p->policy, NULL, memory_order_relaxed));
    if (p->state)
        munmap(p->state, US_STATE_PAGE_SIZE);
    p->state = NULL;
}

void port_break(struct port *p, uint32_t ring, enum break_reason reason, uint64_t detail)
{
    uint32_t healthy = BREAK_none;
    const uint64_t one = 1;
    const int saved_errno = errno;
    ssize_t ignored = 0;

    if (!atomic_compare_exchange_strong_explicit(&p->broken, &healthy, reason, memory_order_acquire,
                                                 memory_order_relaxed))
        return;
    /* The reason last: who sees it in the state page sees where and what as well. */
    __atomic_store_n(&p->state->broken_ring, ring, __ATOMIC_RELAXED);
    __atomic_store_n(&p->state->broken_detail, detail, __ATOMIC_RELAXED);
    __atomic_store_n(&p->state->broken, (uint32_t)reason, __ATOMIC_RELEASE);
    /* Our own non-blocking eventfd; when it is full the news is already waiting there. */
    if (p->news_fd >= 0)
        ignored = write(p->news_fd, &one, sizeof(one));
    (void)ignored;
    errno = saved_errno;
}

void port_mend(struct port *p)
{
    __atomic_store_n(&p->state->broken, (uint32_t)BREAK_none, __ATOMIC_RELAXED);
    __atomic_store_n(&p->state->broken_ring, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&p->state->broken_detail, 0, __ATOMIC_RELAXED);
    /* Release: whoever breaks the port again writes its report after ours is wiped. */
    atomic_store_explicit(&p->broken, BREAK_none, memory_order_release);
}

int rxq_watch(struct rxq *q, int fd)
{
    if (q->worker) {
        const int rc = worker_watch(q->worker, q, fd);

        if (rc < 0)
            return rc;
    }
    q->watched_fd = fd;
    return 0;
}
