/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_zero_copy.c - a guest's frames, read by an adapter where they lie: on
 * split, in-order and packed rings.  What matters is time: the guest gets a
 * buffer back when the device has read it, in order, and never later than its
 * ring's stop.
 */
#include <poll.h>

#include "nic/lend_bed.h"

/* A test on each layout. */
static void on_all(void (*test)(void))
{
    static const uint64_t features[] = { 0, F_ORDER, F_PACKED, F_PACKED | F_ORDER, F_EVENT, F_PACKED | F_EVENT };

    for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        begin(features[i]);
        test();
        finish();
    }
}

/* The guest changes a frame on its way: the payload is the guest's business, the headers are what was judged. */
static void in_place(void)
{
    uint8_t frame[FRAME], *const at = (uint8_t *)drv_ptr(&d, BUF(0)) + VNET;

    send_frame(0, FRAME, frame);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(returned(0), 0);
    CHECK_EQ(turn(), 0);
    CHECK_EQ(returned(0), 0);
    CHECK(d.port->ops->arm(&d.port->rxq[0]));
    memset(at, 0xee, SNAP_SHORT);
    at[1000] = frame[1000] = (uint8_t)~at[1000];
    igm_send(&k->m);
    CHECK_EQ(returned(0), 0);
    CHECK_EQ(turn(), 0);
    CHECK_EQ(returned(0), 1);
    CHECK_EQ(k->m.e.guest_reads, 1);
    check_sent(0, frame, FRAME);
    CHECK(!d.port->ops->arm(&d.port->rxq[0]));
}

TEST(read_where_it_lies)
{
    on_all(in_place);
}

/* A short frame is copied; its buffer waits for that of the long one before it. */
static void keeps_order(void)
{
    uint8_t frame[4][FRAME];
    static const uint32_t len[4] = { 60, FRAME, 60, FRAME };

    for (uint32_t i = 0; i < 4; i++) {
        send_frame(i, len[i], frame[i]);
        CHECK_EQ(turn(), 1);
    }
    CHECK_EQ(returned(0), 1);
    CHECK_EQ(k->m.e.guest_reads, 0);
    igm_send(&k->m);
    CHECK_EQ(turn(), 0);
    CHECK_EQ(returned(1), 3);
    CHECK_EQ(k->m.e.guest_reads, 2);
    for (uint32_t i = 0; i < 4; i++)
        check_sent(i, frame[i], len[i]);
}

TEST(order_is_kept)
{
    on_all(keeps_order);
}

/* Half of the ring waits; what comes then is copied, and goes back behind it. */
static void has_bound(void)
{
    uint8_t frame[RING][FRAME];

    for (uint32_t i = 0; i < RING - 1; i++) {
        send_frame(i, FRAME, frame[i]);
        CHECK_EQ(turn(), 1);
    }
    CHECK_EQ(returned(0), 0);
    igm_send(&k->m);
    CHECK(k->m.e.guest_reads > RING / 4 && k->m.e.guest_reads <= RING / 2 + 1);
    CHECK_EQ(turn(), 0);
    CHECK_EQ(returned(0), RING - 1);
    for (uint32_t i = 0; i < RING - 1; i++)
        check_sent(i, frame[i], FRAME);
}

TEST(at_most_half_the_ring)
{
    on_all(has_bound);
}

/* Around the ring many times, several frames a burst, the device late by one burst. */
static void goes_round(void)
{
    uint8_t frame[8][FRAME];
    uint32_t done = 0;

    for (uint32_t i = 0; i < 400; i++) {
        const uint32_t n = 1 + i % 8;

        igm_clear(&k->m);
        for (uint32_t j = 0; j < n; j++)
            send_frame(j, j % 3 ? FRAME : 100, frame[j]);
        CHECK_EQ(turn(), n);
        igm_send(&k->m);
        for (uint32_t j = 0; j < n; j++)
            check_sent(j, frame[j], j % 3 ? FRAME : 100);
        done += returned(done);
    }
    (void)turn();
    done += returned(done);
    CHECK_EQ(done % 0x10000, next_id);
    CHECK(k->m.e.guest_reads > 0);
}

TEST(round_the_ring)
{
    on_all(goes_round);
}

/* A request of 40000 bytes in pages, over the border of two regions: segments are exact. */
static void segments(void)
{
    static uint8_t packet[65536];
    const struct rig_flow flow = { .from = 1, .to = 2, .sport = 1000, .dport = 2000, .flags = 0x18 };
    const uint32_t len = rig_packet(packet, &flow, 40000);
    const struct vnet v = rig_request(packet, len, 1448);
    const uint64_t start = DRV_BORDER - 12000;
    uint8_t wire[VNET] = { v.flags, v.gso_type };
    struct pk_part part[16];
    uint32_t n = 0, done = 0;

    memcpy(wire + 2, &v.hdr_len, 8);
    drv_write(&d, start, wire, VNET);
    drv_write(&d, start + VNET, packet, len);
    for (uint32_t at = 0; at < VNET + len; at += 4000, n++)
        part[n] = (struct pk_part){ start + at, VNET + len - at < 4000 ? VNET + len - at : 4000, 0 };
    offer(part, n);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(returned_chains(0, n), 0);
    igm_send(&k->m);
    CHECK_EQ(turn(), 0);
    CHECK_EQ(returned_chains(0, n), 1);
    CHECK(k->m.e.guest_reads >= n - 1);
    CHECK_EQ(k->m.n_sent, (40000 + 1447) / 1448);
    for (uint32_t i = 0; i < k->m.n_sent; i++) {
        const uint32_t head = len - 40000 + 4, payload = k->m.sent[i].len - head;

        CHECK_MEM(k->m.sent[i].data + head, packet + len - 40000 + done, payload);
        done += payload;
    }
    CHECK_EQ(done, 40000);
}

TEST(segmentation_request)
{
    static const uint64_t features[] = { 0, F_PACKED };

    for (unsigned i = 0; i < 2; i++) {
        begin(features[i] | VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4));
        segments();
        finish();
    }
}

/* What is sent as before: in crumbs, not mapped, without the source's consent. */
TEST(else_copied)
{
    struct pk_part crumbs[40];
    uint8_t frame[FRAME];

    begin(0);
    send_frame(0, 188, frame);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(returned(0), 1);
    for (uint32_t i = 0; i < 40; i++)
        crumbs[i] = (struct pk_part){ BUF(1) + i * 38, 38, 0 };
    memset(drv_ptr(&d, BUF(1)), 0, VNET);
    drv_pattern((uint8_t *)drv_ptr(&d, BUF(1)) + VNET, FRAME - 6, 1);
    offer(crumbs, 40);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(returned(1), 1);
    vhost_port_lend(d.port, false);
    send_frame(2, FRAME, frame);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(returned(41), 1);
    vhost_port_lend(d.port, true);
    vhost_port_watch_mem(d.port, NULL);
    for (unsigned i = 0; i < 2; i++)
        nic_port_unlend(nic, (void *)(uintptr_t)k->region[0].host);
    CHECK_EQ(k->n, 0);
    send_frame(3, FRAME, frame);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(returned(42), 1);
    igm_send(&k->m);
    CHECK_EQ(k->m.e.guest_reads, 0);
    CHECK_EQ(k->m.n_sent, 4);
    check_sent(3, frame, FRAME);
    finish();
}

/* The ring stops while the device still reads: the guest has everything back when the stop is over. */
static void stops(void)
{
    uint8_t frame[FRAME];

    send_frame(0, FRAME, frame);
    send_frame(1, 60, frame);
    CHECK_EQ(turn(), 2);
    lend_rig_fetch_later(k);
    CHECK_EQ(vhost_port_ring_stop(d.port, 1), is_packed ? PK_START + 2 : 2);
    lend_rig_fetched(k);
    CHECK_EQ(returned(0), 2);
    CHECK(!port_is_broken(nic));
    CHECK_EQ(k->m.n_sent, 2);
}

TEST(drained_at_stop)
{
    on_all(stops);
}

/* A device that never reads is fenced and stopped; then the guest has its buffers back. */
static void never(void)
{
    uint8_t frame[FRAME];

    send_frame(0, FRAME, frame);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(vhost_port_ring_stop(d.port, 1), is_packed ? PK_START + 1 : 1);
    CHECK_EQ(returned(0), 1);
    CHECK(port_is_broken(nic));
    CHECK_EQ(k->m.tx[0].size, 0);
    /* And goes on after a reset, with a guest that has started again. */
    k->m.tx_hold = false;
    CHECK_EQ(nic_port_reset(nic), 0);
    CHECK(!port_is_broken(nic));
    CHECK_EQ(drv_restart(&d, d.features, RING), 0);
    vhost_port_lend(d.port, true);
    if (is_packed)
        pk_open(&packed, &d.tx);
    next_id = 0;
    send_frame(0, FRAME, frame);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(k->m.e.guest_reads, 1);
    (void)turn();
    CHECK_EQ(returned(0), 1);
    check_sent(0, frame, FRAME);
}

TEST(device_that_never_reads)
{
    static const uint64_t features[] = { 0, F_PACKED };

    for (unsigned i = 0; i < 2; i++) {
        begin(features[i]);
        never();
        finish();
    }
}

/* The worker notices by itself, after a while, that a guest waits for nothing. */
TEST(stuck_is_noticed)
{
    uint8_t frame[FRAME];

    begin(0);
    send_frame(0, FRAME, frame);
    CHECK_EQ(turn(), 1);
    for (unsigned long i = 0; i < 1000000000ul && !port_is_broken(nic); i++)
        (void)turn();
    CHECK(port_is_broken(nic));
    CHECK_EQ(returned(0), 0);
    /* Told of it, the control thread stops the device. */
    nic_port_rest(nic);
    CHECK_EQ(k->m.tx[0].size, 0);
    CHECK_EQ(turn(), 0);
    CHECK_EQ(returned(0), 1);
    finish();
}

/* What counts is how long somebody waits, not how long nothing was sent. */
TEST(quiet_is_not_stuck)
{
    uint8_t frame[FRAME];

    begin(0);
    for (uint32_t i = 0; i < 2; i++) {
        send_frame(i, FRAME, frame);
        CHECK_EQ(turn(), 1);
        CHECK_EQ(returned(i), 0);
        (void)turn();
        CHECK(!port_is_broken(nic));
        igm_send(&k->m);
        (void)turn();
        CHECK_EQ(returned(i), 1);
        (void)poll(NULL, 0, 700);
    }
    finish();
}

/* Memory is replaced while the device reads the old mapping: that stays until it has. */
static void moves(void)
{
    const int fds[2] = { d.memfd, d.memfd };
    uint8_t frame[2][FRAME];

    send_frame(0, FRAME, frame[0]);
    CHECK_EQ(turn(), 1);
    lend_rig_fetch_later(k);
    CHECK_EQ(vhost_port_set_mem(d.port, &d.mem, fds), 0);
    lend_rig_fetched(k);
    CHECK_EQ(k->m.n_sent, 1);
    CHECK_EQ(k->n, 2);
    CHECK_EQ(k->unmaps, 2);
    CHECK(!port_is_broken(nic));
    send_frame(1, FRAME, frame[1]);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(returned(0), 1);
    igm_send(&k->m);
    (void)turn();
    CHECK_EQ(returned(1), 1);
    CHECK_EQ(k->m.e.guest_reads, 2);
    check_sent(0, frame[0], FRAME);
    check_sent(1, frame[1], FRAME);
}

TEST(memory_moves_under_traffic)
{
    on_all(moves);
}

TEST(memory_moves_from_a_stuck_device)
{
    uint8_t frame[FRAME];
    int fds[2];

    begin(F_PACKED);
    fds[0] = fds[1] = d.memfd;
    send_frame(0, FRAME, frame);
    CHECK_EQ(turn(), 1);
    CHECK_EQ(vhost_port_set_mem(d.port, &d.mem, fds), 0);
    CHECK(port_is_broken(nic));
    CHECK_EQ(k->m.tx[0].size, 0);
    igm_send(&k->m);
    CHECK_EQ(k->m.n_sent, 0);
    CHECK_EQ(turn(), 0);
    CHECK_EQ(returned(0), 1);
    finish();
}

/* The adapter goes while a guest waits for it. */
static void leaves(void)
{
    uint8_t frame[FRAME];

    send_frame(0, FRAME, frame);
    CHECK_EQ(turn(), 1);
    remove_nic();
    nic = NULL;
    CHECK_EQ(turn(), 0);
    CHECK_EQ(returned(0), 1);
    drv_destroy(&d);
}

TEST(adapter_is_removed)
{
    static const uint64_t features[] = { 0, F_PACKED };

    for (unsigned i = 0; i < 2; i++) {
        begin(features[i]);
        leaves();
    }
}

/* The guest goes while the device reads its memory. */
TEST(guest_is_removed)
{
    uint8_t frame[FRAME];

    begin(0);
    send_frame(0, FRAME, frame);
    CHECK_EQ(turn(), 1);
    lend_rig_fetch_later(k);
    drv_destroy(&d);
    lend_rig_fetched(k);
    CHECK_EQ(k->n, 0);
    CHECK_EQ(k->m.n_sent, 1);
    CHECK(!port_is_broken(nic));
    nic->ops->stop(nic);
    nic->ops->destroy(nic);
    CHECK(lend_rig_free(k));
}

/* The next process: a port anew, and the state page's word about the ring. */
static void take_over(const struct us_vhost_ring *ring, uint64_t last)
{
    const struct us_port_add add = { .port_id = 1, .kind = US_KIND_VHOST, .max_frame = 1518 };
    const int fd = us_state_page_create(1), fds[2] = { d.memfd, d.memfd };
    struct us_state_page *state = NULL;

    CHECK_EQ(state_page_map(fd, &state), 0);
    close(fd);
    state->ring[1].burst = last;
    CHECK_EQ(vhost_port_create(&add, state, false, -1, &d.port), 0);
    CHECK_EQ(vhost_port_set_mem(d.port, &d.mem, fds), 0);
    CHECK_EQ(vhost_port_ring_start(d.port, ring, d.tx.kick, d.tx.call), 0);
}

/* Who takes over from a killed process finds what the device was reading as not yet taken. */
TEST(held_is_in_flight)
{
    static const uint64_t features[] = { 0, F_PACKED };

    for (unsigned i = 0; i < 2; i++) {
        struct us_vhost_ring again;
        uint8_t frame[FRAME];
        uint64_t last;

        begin(features[i]);
        send_frame(0, 60, frame);
        CHECK_EQ(turn(), 1);
        send_frame(1, FRAME, frame);
        send_frame(2, 60, frame);
        CHECK_EQ(turn(), 2);
        CHECK_EQ(returned(0), 1);
        /* As if the process had died here: the ring is not stopped in an orderly way. */
        again = drv_ring_request(&d, &d.tx);
        again.base = US_BASE_FROM_USED;
        last = d.state->ring[1].burst;
        d.port->ops->stop(d.port);
        remove_nic();
        CHECK_EQ(returned(1), 0);
        d.port->ops->destroy(d.port);
        take_over(&again, last);
        CHECK_EQ(drv_rx(&d, &b), 2);
        CHECK_EQ(b.frame[0].len, FRAME);
        CHECK_EQ(returned(1), 2);
        drv_destroy(&d);
    }
}

MAIN
{
    RUN(read_where_it_lies);
    RUN(order_is_kept);
    RUN(at_most_half_the_ring);
    RUN(round_the_ring);
    RUN(segmentation_request);
    RUN(else_copied);
    RUN(drained_at_stop);
    RUN(device_that_never_reads);
    RUN(stuck_is_noticed);
    RUN(quiet_is_not_stuck);
    RUN(memory_moves_under_traffic);
    RUN(memory_moves_from_a_stuck_device);
    RUN(adapter_is_removed);
    RUN(guest_is_removed);
    RUN(held_is_in_flight);
}
