/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch_balance.c - which worker gets a queue: the one with the least
 * measured load at first, another one when the load turns out otherwise.
 * Control thread: uswitch.c for new queues, link.c's loop from time to time.
 *
 * What a queue costs is counted by its worker in the queue's state page; here
 * the difference to the last look is taken, and placement.c decides.
 *
 * Law 7: while nothing moves nobody looks.  When a look finds no difference
 * and all workers asleep, each is asked to tell of its next wake-up, and there
 * is no next look before that.
 */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rcu.h"
#include "placement.h"
#include "uswitch_priv.h"

/* Moves of one look; the next one sees what they did. */
#define MOVES_MAX 4

/* What the queue has cost since the last look. */
static uint64_t take_load(struct balance *b, const struct rxq *q, uint64_t period)
{
    const uint64_t now = __atomic_load_n(&q->port->state->in[q->index].cycles, __ATOMIC_RELAXED);
    uint64_t *seen = &b->seen[q->port->id][q->index];
    const uint64_t spent = now - *seen;

    *seen = now;
    /* A counter that ran while nobody looked, or that is another port's. */
    return spent < period ? spent : period;
}

/* Every queue that is served, with its load; returns how many. */
static uint32_t collect(struct uswitch *us, uint64_t period)
{
    struct balance *b = &us->balance;
    uint32_t n = 0;

    for (uint32_t id = 0; id < US_PORTS_MAX; id++) {
        struct port *p = uswitch_port(us, id);

        for (uint32_t i = 0; p && i < p->n_queues; i++) {
            if (!p->rxq[i].worker)
                continue;
            b->rxq[n] = &p->rxq[i];
            b->queue[n].load = take_load(b, b->rxq[n], period);
            b->queue[n].worker = worker_index(p->rxq[i].worker);
            n++;
        }
    }
    return n;
}

static void move_queues(struct uswitch *us, uint32_t n, uint64_t period)
{
    struct balance *b = &us->balance;
    struct placement_move move[MOVES_MAX];
    const uint32_t n_moves = placement_plan(b->queue, n, us->n_workers, period, move, MOVES_MAX);

    for (uint32_t i = 0; i < n_moves; i++) {
        /* If it fails, for want of kernel memory, the queue stays; the next look tries again. */
        if (worker_move_queue(us->worker[move[i].worker], b->rxq[move[i].queue]) == 0)
            b->moves++;
    }
}

/* What the workers' loads are now, for placing new queues. */
static uint64_t note_loads(struct uswitch *us, uint32_t n)
{
    struct balance *b = &us->balance;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < us->n_workers; i++)
        b->load[i] = 0;
    for (uint32_t i = 0; i < n; i++) {
        b->load[b->queue[i].worker] += b->queue[i].load;
        sum += b->queue[i].load;
    }
    b->share = n ? sum / n : 0;
    return sum;
}

/* True if all workers sleep and will tell of their next wake-up. */
static bool may_doze(struct uswitch *us)
{
    bool asleep = true;

    for (uint32_t i = 0; i < us->n_workers; i++)
        asleep &= worker_report(us->worker[i], us->balance.fd);
    for (uint32_t i = 0; i < us->n_workers && !asleep; i++)
        worker_report(us->worker[i], -1);
    return asleep;
}

int uswitch_balance(struct uswitch *us)
{
    struct balance *b = &us->balance;
    const uint64_t now = clock_cycles(), period = b->at ? now - b->at : 0;
    uint64_t count, sum;
    uint32_t n;

    if (us->n_workers < 2 || b->interval_ms == 0)
        return -1;
    (void)!read(b->fd, &count, sizeof(count));
    b->at = now;
    n = collect(us, period);
    move_queues(us, n, period);
    sum = note_loads(us, n);
    return sum == 0 && may_doze(us) ? -1 : (int)b->interval_ms;
}

int uswitch_balance_fd(const struct uswitch *us)
{
    return us->balance.fd;
}

int uswitch_place_queue(struct uswitch *us, struct rxq *q)
{
    struct balance *b = &us->balance;
    uint32_t best = 0;
    int rc;

    for (uint32_t i = 1; i < us->n_workers; i++) {
        const unsigned n = worker_queue_count(us->worker[i]), n_best = worker_queue_count(us->worker[best]);

        if (b->load[i] < b->load[best] || (b->load[i] == b->load[best] && n < n_best))
            best = i;
    }
    rc = worker_add_queue(us->worker[best], q);
    if (rc < 0)
        return rc;
    /* Until somebody has measured it, it is one like the others. */
    b->load[best] += b->share;
    b->seen[q->port->id][q->index] = __atomic_load_n(&q->port->state->in[q->index].cycles, __ATOMIC_RELAXED);
    return 0;
}

int uswitch_queue_move(struct uswitch *us, uint32_t port_id, uint32_t queue, uint32_t worker)
{
    struct port *p = uswitch_port(us, port_id);

    if (worker >= us->n_workers || queue >= US_QUEUES_MAX)
        return -EINVAL;
    if (!p || queue >= p->n_queues || !p->rxq[queue].worker)
        return -ENOENT;
    return worker_move_queue(us->worker[worker], &p->rxq[queue]);
}
