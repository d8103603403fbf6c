/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_vhost_live.c - control calls and hostile peers while bursts run in
 * other threads: memory tables exchanged without loss, call fds exchanged,
 * rings stopped and started, memory truncated, descriptors rewritten while
 * they are read.  Meant for ThreadSanitizer and AddressSanitizer as well.
 */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "base/rcu.h"
#include "vhost/driver.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define ROUNDS 60
#else
#define ROUNDS 600
#endif
#define FRAME 200

static struct driver a, c; /* frames go from a to c */
static _Atomic bool stop;
static _Atomic uint64_t taken;

/* A worker that carries frames from a to c and does nothing else. */
static void *carry(void *arg)
{
    struct burst *const b = calloc(1, sizeof(*b));
    struct frame *list[BURST_MAX];
    struct rxq *const q = &a.port->rxq[0];

    (void)arg;
    rcu_worker_register();
    while (b && !atomic_load(&stop)) {
        const unsigned n = port_is_broken(a.port) ? 0 : a.port->ops->rx_burst(q, b);

        for (unsigned i = 0; i < n; i++) {
            list[i] = &b->frame[i];
            list[i]->out_vid = US_VID_UNTAGGED;
        }
        if (n)
            c.port->ops->tx_burst(c.port, list, n);
        a.port->ops->rx_complete(q, b);
        atomic_fetch_add(&taken, n);
        rcu_worker_quiescent();
    }
    rcu_worker_unregister();
    free(b);
    return NULL;
}

/* Tests that wait for progress give up after this many seconds. */
#define PATIENCE 60

static time_t now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static pthread_t start_worker(void *(*work)(void *))
{
    pthread_t t;

    if (pthread_create(&t, NULL, work, NULL))
        abort();
    return t;
}

/* Buffers of ring slot i: frames numbered in their first payload bytes. */
static uint64_t slot(uint32_t i)
{
    return DRV_BUF + (i & 255) * 4096;
}

/**
 * struct flow - numbered frames from a's driver to c's
 * @sent: number of the next frame
 * @back: frames a got back
 * @seen: frames c received, in order
 * @wrong: frames that were not what they should be
 */
struct flow {
    uint32_t sent, back, seen, wrong;
};

static void fill(struct drv_ring *r, uint16_t i)
{
    drv_desc(r, i, slot(i), 4096, D_WRITE, 0);
    drv_offer(r, i);
}

static void check_arrival(struct flow *f, uint32_t id, uint32_t len)
{
    uint32_t number;

    memcpy(&number, (uint8_t *)drv_ptr(&c, slot(id)) + 12 + 14, sizeof(number));
    f->wrong += len != 12 + FRAME || number != f->seen;
    f->seen++;
}

/* The sender's turn: frames while there is room. */
static void send_frames(struct flow *f, unsigned window)
{
    while (f->sent - f->back < window) {
        uint8_t buf[12 + FRAME] = { 0 };

        drv_pattern(buf + 12, FRAME, f->sent);
        buf[12 + 5] = (uint8_t)f->sent; /* many stations, so many flows */
        memcpy(buf + 12 + 14, &f->sent, sizeof(f->sent));
        drv_write(&a, slot(f->sent), buf, sizeof(buf));
        drv_one(&a.tx, (uint16_t)(f->sent & 255), slot(f->sent), sizeof(buf), 0);
        f->sent++;
    }
}

/* Both drivers' turn: send while there is room, take what came. */
static void pump(struct flow *f, unsigned window)
{
    uint32_t id, len;

    send_frames(f, window);
    while (drv_used(&a.tx, &id, &len))
        f->back++;
    while (drv_used(&c.rx, &id, &len)) {
        check_arrival(f, id, len);
        fill(&c.rx, (uint16_t)id);
        drv_publish(&c.rx);
    }
}

/* Traffic until at least one more frame has gone all the way: what follows then meets a busy worker. */
static void pump_some(struct flow *f)
{
    const uint32_t before = f->back;

    for (const time_t start = now_s(); f->back == before && now_s() - start < PATIENCE;)
        pump(f, 128);
}

static void begin(uint64_t features)
{
    drv_create(&a, features, 256);
    drv_create_shared(&c, features, 256);
    for (uint16_t i = 0; i < 256; i++)
        fill(&c.rx, i);
    drv_publish(&c.rx);
    stop = false;
    taken = 0;
}

static void drain(struct flow *f)
{
    for (const time_t start = now_s(); f->back != f->sent && now_s() - start < PATIENCE;)
        pump(f, 0);
    pump(f, 0);
}

/* L4, L7: not one frame is lost while tables and call fds change under full traffic. */
TEST(l4_tables_and_call_fds_change_under_traffic)
{
    struct flow f = { 0 };
    pthread_t worker;

    begin(F_V1); /* without EVENT_IDX every burst signals */
    worker = start_worker(carry);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct driver *const d = i & 1 ? &a : &c;
        const int fds[2] = { d->memfd, d->memfd };

        pump_some(&f);
        CHECK_EQ(vhost_port_set_mem(d->port, &d->mem, fds), 0);
        pump_some(&f);
        CHECK_EQ(vhost_port_ring_call(d->port, i & 1, i % 3 ? d->rx.call : -1), 0);
    }
    drain(&f);
    atomic_store(&stop, true);
    pthread_join(worker, NULL);
    CHECK(f.sent > 2 * ROUNDS);
    CHECK_EQ(f.back, f.sent);
    CHECK_EQ(f.seen, f.sent);
    CHECK_EQ(f.wrong, 0);
    CHECK_EQ(drv_drops(&a) + drv_drops(&c), 0);
    drv_destroy(&a);
    drv_destroy(&c);
}

/* Rings stop and start where they were; whatever was not taken before is taken after. */
TEST(l1_rings_stop_and_start_under_traffic)
{
    struct flow f = { 0 };
    pthread_t worker;

    begin(F_V1);
    worker = start_worker(carry);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct us_vhost_ring request = drv_ring_request(&a, &a.tx);
        int base;

        pump_some(&f);
        base = vhost_port_ring_stop(a.port, 1);
        CHECK(base >= 0);
        CHECK_EQ(a.state->ring[1].last_avail, base);
        request.base = i & 1 ? (uint32_t)base : US_BASE_FROM_USED;
        CHECK_EQ(vhost_port_ring_start(a.port, &request, a.tx.kick, a.tx.call), 0);
        CHECK_EQ(vhost_port_ring_enable(a.port, 1, false), 0);
        CHECK_EQ(vhost_port_ring_enable(a.port, 1, true), 0);
    }
    drain(&f);
    atomic_store(&stop, true);
    pthread_join(worker, NULL);
    CHECK_EQ(f.seen, f.sent);
    CHECK_EQ(f.wrong, 0);
    drv_destroy(&a);
    drv_destroy(&c);
}

/**
 * struct rings - what came by each of c's receive rings
 * @second: ring 2, beside c.rx
 * @by: frames by ring 0 and by ring 2
 * @seen: how often each frame came
 */
struct rings {
    struct drv_ring second;
    uint32_t by[2];
    uint8_t seen[1u << 20];
};

static void take_from(struct rings *r, unsigned which)
{
    struct drv_ring *const ring = which ? &r->second : &c.rx;
    uint32_t id, len, number;

    while (drv_used(ring, &id, &len)) {
        const uint64_t at = slot(id) + which * (2u << 20);

        memcpy(&number, (uint8_t *)drv_ptr(&c, at) + 12 + 14, sizeof(number));
        if (CHECK(len == 12 + FRAME && number < sizeof(r->seen)))
            r->seen[number]++;
        r->by[which]++;
        drv_one(ring, (uint16_t)id, at, 4096, D_WRITE);
    }
}

/* A turn of both drivers, until so many more frames have gone all the way. */
static void pump_rings(struct rings *r, struct flow *f, uint32_t more, unsigned window)
{
    const uint32_t goal = f->back + more;
    uint32_t id, len;

    for (const time_t start = now_s(); (int32_t)(goal - f->back) > 0 && now_s() - start < PATIENCE;) {
        send_frames(f, window);
        while (drv_used(&a.tx, &id, &len))
            f->back++;
        take_from(r, 0);
        take_from(r, 1);
    }
}

/* A guest takes a receive ring out of use, by whichever way, and back: the other gets all, nothing is lost. */
TEST(l1_receive_rings_come_and_go_under_traffic)
{
    static struct rings r;
    struct flow f = { 0 };
    struct us_vhost_ring request;
    pthread_t worker;

    begin(F_V1);
    memset(&r, 0, sizeof(r));
    r.second.kick = r.second.call = -1;
    drv_ring_place(&c, &r.second, 2, 256);
    request = drv_ring_request(&c, &r.second);
    CHECK_EQ(vhost_port_ring_start(c.port, &request, -1, -1), 0);
    for (uint16_t i = 0; i < 256; i++)
        drv_one(&r.second, i, slot(i) + (2u << 20), 4096, D_WRITE);
    worker = start_worker(carry);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t by_second;
        int base;

        pump_rings(&r, &f, 100, 128);
        if (i & 1) {
            CHECK_EQ(vhost_port_ring_enable(c.port, 2, false), 0);
        } else {
            base = vhost_port_ring_stop(c.port, 2);
            CHECK(base >= 0);
            request.base = (uint32_t)base;
        }
        take_from(&r, 1);
        by_second = r.by[1];
        pump_rings(&r, &f, 100, 128);
        CHECK_EQ(r.by[1], by_second);
        if (i & 1)
            CHECK_EQ(vhost_port_ring_enable(c.port, 2, true), 0);
        else
            CHECK_EQ(vhost_port_ring_start(c.port, &request, -1, -1), 0);
    }
    pump_rings(&r, &f, f.sent - f.back, 0);
    atomic_store(&stop, true);
    pthread_join(worker, NULL);
    take_from(&r, 0);
    take_from(&r, 1);
    CHECK_EQ(r.by[0] + r.by[1], f.sent);
    CHECK(r.by[0] > ROUNDS && r.by[1] > ROUNDS);
    for (uint32_t i = 0; i < f.sent && i < sizeof(r.seen); i++)
        CHECK_EQ(r.seen[i], 1);
    drv_destroy(&a);
    drv_destroy(&c);
}

static uint32_t noise(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* A hostile guest's other CPU: rewrites descriptors, indirect table and header while they are read. */
static void *flip(void *arg)
{
    static const uint32_t lens[] = { 0, 1, 11, 12, 26, 76, 212, 4096, 0x10000, 0xffffffff };
    uint32_t rnd = 2463534242u;

    (void)arg;
    while (!atomic_load(&stop)) {
        const uint32_t r = noise(&rnd), i = r & 255;
        struct drv_ring *const ring = r & 256 ? &a.tx : &c.rx;
        struct driver *const d = r & 256 ? &a : &c;
        struct vring_desc *const e = r & 512 ? &ring->desc[i] : (struct vring_desc *)drv_ptr(d, DRV_TABLE) + (i & 7);
        le32 *const hdr = (le32 *)drv_ptr(d, slot(i));

        switch (r >> 10 & 7) {
        case 0:
            __atomic_store_n(&e->addr.raw, r & 8192 ? DRV_BORDER - (r >> 16 & 127) : (uint64_t)r << 32,
                             __ATOMIC_RELAXED);
            break;
        case 1:
            __atomic_store_n(&e->addr.raw, slot(i), __ATOMIC_RELAXED);
            break;
        case 2:
            __atomic_store_n(&e->len.raw, lens[(r >> 16) % 10], __ATOMIC_RELAXED);
            break;
        case 3:
            __atomic_store_n(&e->flags.raw, (uint16_t)(r >> 16 & 7), __ATOMIC_RELAXED);
            break;
        case 4:
            __atomic_store_n(&e->next.raw, (uint16_t)(r >> 16 & 511), __ATOMIC_RELAXED);
            break;
        case 5:
            __atomic_store_n(&e->addr.raw, DRV_TABLE, __ATOMIC_RELAXED);
            __atomic_store_n(&e->len.raw, 128, __ATOMIC_RELAXED);
            break;
        default:
            __atomic_store_n(&hdr[r >> 16 & 3].raw, r & 8192 ? 0 : noise(&rnd), __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

/*
 * G3: nothing is written outside the guests' buffers' memory and no read goes
 * wild, whatever the timing; every chain comes back, the ports stay up.
 */
TEST(g3_descriptors_change_while_they_are_read)
{
    const uint64_t features = F_V1 | F_MRG | F_INDIRECT | VIRTIO_BIT(VIRTIO_NET_F_CSUM) |
                              VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
                              VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4);
    uint32_t offered = 0, back = 0, id, len;
    pthread_t worker, attacker;

    begin(features);
    worker = start_worker(carry);
    attacker = start_worker(flip);
    for (const time_t start = now_s(); back < ROUNDS * 200 && now_s() - start < PATIENCE;) {
        while (offered - back < 128)
            drv_offer(&a.tx, (uint16_t)(offered++ & 255));
        drv_publish(&a.tx);
        while (drv_used(&a.tx, &id, &len))
            back++;
        while (drv_used(&c.rx, &id, &len))
            drv_offer(&c.rx, (uint16_t)id);
        drv_publish(&c.rx);
    }
    atomic_store(&stop, true);
    pthread_join(attacker, NULL);
    pthread_join(worker, NULL);
    CHECK(back >= ROUNDS * 200);
    CHECK_EQ(a.state->broken, 0);
    CHECK_EQ(c.state->broken, 0);
    CHECK(taken + drv_drops(&a) >= back);
    CHECK(drv_drops(&a) > 0);
    drv_destroy(&a);
    drv_destroy(&c);
}

/* F2: memory truncated under traffic fences its own port; the others go on, and a new table and ring heal it. */
static void truncated(struct driver *victim, struct driver *other)
{
    struct us_vhost_ring request;
    struct flow f = { 0 };
    pthread_t worker;
    uint64_t news = 0;
    int fds[2];

    begin(F_V1);
    fds[0] = fds[1] = victim->memfd;
    request = drv_ring_request(victim, &victim->tx);
    worker = start_worker(carry);
    for (unsigned i = 0; i < 50; i++)
        pump_some(&f);
    CHECK_EQ(ftruncate(victim->memfd, 0), 0);
    /* The victim's driver would fall into the hole itself. */
    if (victim == &c)
        send_frames(&f, 200);
    for (unsigned i = 0; i < 5000 && !port_is_broken(victim->port); i++)
        usleep(1000);
    atomic_store(&stop, true);
    pthread_join(worker, NULL);
    CHECK_EQ(victim->state->broken, BREAK_memory_gone);
    CHECK_EQ(read(victim->news, &news, sizeof(news)), sizeof(news));
    CHECK(!port_is_broken(other->port));
    CHECK(vhost_port_ring_stop(victim->port, 0) >= 0);
    CHECK(vhost_port_ring_stop(victim->port, 1) >= 0);
    CHECK_EQ(vhost_port_ring_start(victim->port, &request, -1, -1), -EFAULT); /* not in that memory */
    CHECK_EQ(ftruncate(victim->memfd, DRV_SIZE0 + DRV_GAP + DRV_SIZE1), 0);
    CHECK_EQ(vhost_port_set_mem(victim->port, &victim->mem, fds), 0);
    CHECK(port_is_broken(victim->port));
    CHECK_EQ(drv_restart(victim, F_V1, 256), 0);
    CHECK(!port_is_broken(victim->port));
}

TEST(f2_senders_memory_truncated)
{
    truncated(&a, &c);
    drv_destroy(&a);
    drv_destroy(&c);
}

TEST(f2_receivers_memory_truncated)
{
    truncated(&c, &a);
    drv_destroy(&a);
    drv_destroy(&c);
}

/* Frames of this thread's own. */
static void *deliver(void *arg)
{
    struct drv_frame *const f = malloc(sizeof(*f));
    struct frame *list[4] = { &f->f, &f->f, &f->f, &f->f };

    (void)arg;
    rcu_worker_register();
    drv_frame(f, FRAME, 1);
    while (!atomic_load(&stop)) {
        atomic_fetch_add(&taken, c.port->ops->tx_burst(c.port, list, 4));
        rcu_worker_quiescent();
    }
    rcu_worker_unregister();
    free(f);
    return NULL;
}

/* Several workers deliver into one ring: no buffer is used twice, none is skipped. */
TEST(shared_ring)
{
    uint32_t id, len, got = 0, next = 0, wrong = 0;
    pthread_t t[3];

    begin(F_V1);
    for (unsigned i = 0; i < 3; i++)
        t[i] = start_worker(deliver);
    for (const time_t start = now_s(); got < ROUNDS * 200 && now_s() - start < PATIENCE;) {
        while (drv_used(&c.rx, &id, &len)) {
            wrong += id != next || len != 12 + FRAME;
            next = (next + 1) & 255;
            got++;
            fill(&c.rx, (uint16_t)id);
            drv_publish(&c.rx);
        }
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    while (drv_used(&c.rx, &id, &len))
        got++;
    CHECK_EQ(wrong, 0);
    CHECK(got >= ROUNDS * 200);
    CHECK_EQ(got, taken);
    CHECK_EQ(c.state->out[0].frames, taken);
    drv_destroy(&a);
    drv_destroy(&c);
}

MAIN
{
    RUN(l4_tables_and_call_fds_change_under_traffic);
    RUN(l1_rings_stop_and_start_under_traffic);
    RUN(l1_receive_rings_come_and_go_under_traffic);
    RUN(g3_descriptors_change_while_they_are_read);
    RUN(f2_senders_memory_truncated);
    RUN(f2_receivers_memory_truncated);
    RUN(shared_ring);
}
