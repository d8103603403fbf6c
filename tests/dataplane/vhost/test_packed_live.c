/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_packed_live.c - a driver and a worker that both sleep whenever there is
 * nothing to do, on packed rings with EVENT_IDX: each wakes the other only
 * when its event suppression asks for it (virtio 1.2, 2.8.14).  A notification
 * that gets lost leaves both asleep.  For ThreadSanitizer as well.
 */
#include "harness.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/rcu.h"
#include "vhost/packed_driver.h"
#include "vhost/virtq_packed.h"

#define ROUNDS 3000
#define PATIENCE_MS 60000               /* no bound on speed: nobody sleeps so long who was woken */
#define FRAME 60u

static struct driver d;
static struct pk_ring rx, tx;
static _Atomic bool stop, overslept;

static void sleep_on(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    uint64_t count;

    if (poll(&p, 1, PATIENCE_MS) != 1 || read(fd, &count, sizeof(count)) != sizeof(count))
        atomic_store(&overslept, true);
}

/* Sends every frame back where it came from. */
static void *echo(void *arg)
{
    struct burst *const b = calloc(1, sizeof(*b));
    struct rxq *const q = &d.port->rxq[0];
    struct frame *list[BURST_MAX];

    (void)arg;
    rcu_worker_register();
    while (b && !atomic_load(&stop) && !atomic_load(&overslept)) {
        const unsigned n = d.port->ops->rx_burst(q, b);

        for (unsigned i = 0; i < n; i++) {
            list[i] = &b->frame[i];
            list[i]->out_vid = US_VID_UNTAGGED;
        }
        if (n)
            d.port->ops->tx_burst(d.port, list, n);
        d.port->ops->rx_complete(q, b);
        rcu_worker_quiescent();
        if (n)
            continue;
        if (!d.port->ops->arm(q))
            sleep_on(d.tx.kick);
        d.port->ops->disarm(q);
    }
    rcu_worker_unregister();
    free(b);
    return NULL;
}

static void kick(void)
{
    const uint64_t one = 1;

    CHECK_EQ(write(d.tx.kick, &one, sizeof(one)), (ssize_t)sizeof(one));
}

static void offer_rx(uint32_t i)
{
    pk_offer(&rx, &(struct pk_part){ DRV_BUF + i % rx.size * 256, 128, D_WRITE }, 1, (uint16_t)i);
}

static void send_frames(uint32_t n)
{
    const uint32_t room = DRV_BUF + (1u << 20);
    uint16_t id;
    uint32_t len;

    while (pk_used(&tx, 1, &id, &len))
        ;
    for (uint32_t i = 0; i < n; i++) {
        /* The worker hands its buffers back before it sleeps; a full ring is a matter of moments. */
        while (tx.avail != tx.used && (tx.avail & 0x7fff) == (tx.used & 0x7fff))
            (void)pk_used(&tx, 1, &id, &len);
        pk_offer(&tx, &(struct pk_part){ room, 12 + FRAME, 0 }, 1, (uint16_t)i);
    }
    guest_fence();
    if (packed_wants_signal(__atomic_load_n(tx.device, __ATOMIC_RELAXED), true, tx.avail, n, tx.size))
        kick();
}

/* Waits for a frame as a driver does: asks for the next used descriptor, looks once more, sleeps. */
static void await_frame(uint32_t number)
{
    uint16_t id;
    uint32_t len;

    while (!pk_used(&rx, 1, &id, &len)) {
        __atomic_store_n(rx.driver, rx.used | (uint32_t)RING_EVENT_FLAGS_DESC << 16, __ATOMIC_RELAXED);
        guest_fence();
        if (pk_used(&rx, 1, &id, &len))
            break;
        sleep_on(d.rx.call);
        if (atomic_load(&overslept))
            return;
    }
    CHECK_EQ(id, (uint16_t)number);
    CHECK_EQ(len, 12 + FRAME);
    offer_rx(number + rx.size);
}

TEST(nobody_oversleeps)
{
    static const uint32_t sizes[] = { 2, 3, 8, 64 };

    for (unsigned k = 0; k < 4; k++) {
        pthread_t worker;
        uint32_t number = 0, sent = 0;

        drv_create(&d, F_V1 | F_PACKED | F_EVENT, sizes[k]);
        pk_open(&rx, &d.rx);
        pk_open(&tx, &d.tx);
        for (uint32_t i = 0; i < rx.size; i++)
            offer_rx(i);
        drv_pattern(drv_ptr(&d, DRV_BUF + (1u << 20) + 12), FRAME, 1);
        atomic_store(&stop, false);
        if (pthread_create(&worker, NULL, echo, NULL))
            abort();
        for (unsigned i = 0; i < ROUNDS && !atomic_load(&overslept); i++) {
            const uint32_t n = 1 + i * 7 % (tx.size < 8 ? tx.size : 8);

            send_frames(n);
            for (sent += n; number < sent && !atomic_load(&overslept); number++)
                await_frame(number);
        }
        atomic_store(&stop, true);
        kick();
        pthread_join(worker, NULL);
        CHECK(!atomic_load(&overslept));
        CHECK_EQ(drv_drops(&d), 0);
        drv_destroy(&d);
    }
}

MAIN
{
    RUN(nobody_oversleeps);
}
