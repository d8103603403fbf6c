/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_vhost_port.c - the control calls of a vhost port: what a ring may look
 * like, notifications, resuming, multiqueue, and that everything is given back.
 * Calls under traffic are in test_vhost_live.c.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "vhost/driver.h"
#include "vhost/virtq.h"

static struct driver d;
static struct burst b;
static struct drv_frame frame[BURST_MAX];

static int start(const struct us_vhost_ring *request)
{
    const int rc = vhost_port_ring_start(d.port, request, d.tx.kick, d.tx.call);

    if (rc == 0)
        vhost_port_ring_run(d.port, request->ring, request->resume);
    return rc;
}

static void send_one(void)
{
    static const uint8_t zero[12];

    drv_pattern(frame[0].data, 100, 1);
    drv_write(&d, DRV_BUF, zero, 12);
    drv_write(&d, DRV_BUF + 12, frame[0].data, 100);
    drv_one(&d.tx, 1, DRV_BUF, 112, 0);
}

TEST(m7_ring_sizes)
{
    static const uint32_t bad[] = { 0, 1, 3, 6, 1023, 32767, 32769, 65535, 65536, 0x80000000, 0xffffffff };
    struct us_vhost_ring request;
    uint32_t id, len;

    drv_create(&d, F_V1, 16);
    CHECK_EQ(vhost_port_ring_stop(d.port, 1), 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        request = drv_ring_request(&d, &d.tx);
        request.size = bad[i];
        CHECK_EQ(start(&request), -EINVAL);
    }
    for (uint32_t size = 2; size <= 32768; size *= 2) {
        CHECK_EQ(drv_restart(&d, F_V1, size), 0);
        CHECK_EQ(d.state->ring[1].size, size & 0xffff);
        for (uint32_t round = 0; round < 2 * size && round < 5000; round++) {
            send_one();
            CHECK_EQ(drv_rx(&d, &b), 1);
            CHECK(drv_used(&d.tx, &id, &len) && id == 1);
        }
    }
    drv_destroy(&d);
}

TEST(bad_requests)
{
    struct us_vhost_ring good, request;

    drv_create(&d, F_V1, 16);
    good = drv_ring_request(&d, &d.tx);
    CHECK_EQ(start(&good), -EBUSY);
    vhost_port_ring_stop(d.port, 1);
    request = good;
    request.ring = US_RINGS_MAX;
    CHECK_EQ(start(&request), -EINVAL);
    request.ring = 0xffffffff;
    CHECK_EQ(start(&request), -EINVAL);
    request = good;
    request.base = 65537;
    CHECK_EQ(start(&request), -EINVAL);
    request = good;
    request.features |= VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM);
    CHECK_EQ(start(&request), -EINVAL);
    request = good;
    request.desc_uva += 8;
    CHECK_EQ(start(&request), -EINVAL);
    request = good;
    request.avail_uva += 1;
    CHECK_EQ(start(&request), -EINVAL);
    request = good;
    request.used_uva += 2;
    CHECK_EQ(start(&request), -EINVAL);
    CHECK_EQ(d.state->ring[1].active, 0);
    CHECK_EQ(start(&good), 0);
    CHECK_EQ(d.state->ring[1].active, 1);
    CHECK_EQ(vhost_port_ring_stop(d.port, US_RINGS_MAX), -EINVAL);
    CHECK_EQ(vhost_port_ring_call(d.port, US_RINGS_MAX, -1), -EINVAL);
    CHECK_EQ(vhost_port_ring_enable(d.port, US_RINGS_MAX, true), -EINVAL);
    drv_destroy(&d);
}

/* Each part of a ring, ending at the end of a region and one step further. */
TEST(g1_rings_at_the_end_of_memory)
{
    static const uint64_t ends[] = { DRV_BORDER + DRV_UVA, DRV_END + DRV_UVA };

    drv_create(&d, F_V1, 16);
    vhost_port_ring_stop(d.port, 1);
    for (unsigned e = 0; e < 2; e++) {
        for (uint32_t size = 2; size <= 32768; size *= 4) {
            const uint64_t bytes[3] = { 16ull * size, 6 + 2ull * size, (6 + 8ull * size + 3) & ~3ull };
            const uint64_t align[3] = { 16, 2, 4 };

            for (unsigned part = 0; part < 3; part++) {
                for (unsigned past = 0; past < 2; past++) {
                    struct us_vhost_ring request = drv_ring_request(&d, &d.tx);
                    uint64_t *const uva[3] = { &request.desc_uva, &request.avail_uva, &request.used_uva };

                    request.size = size;
                    *uva[part] = ends[e] - bytes[part] + past * align[part];
                    CHECK_EQ(start(&request), past ? -EFAULT : 0);
                    vhost_port_ring_stop(d.port, 1);
                    *uva[part] = ends[e];
                    CHECK_EQ(start(&request), e && part < 3 ? -EFAULT : 0);
                    vhost_port_ring_stop(d.port, 1);
                    *uva[part] = -align[part];
                    CHECK_EQ(start(&request), -EFAULT);
                }
            }
        }
    }
    drv_destroy(&d);
}

TEST(no_memory_no_rings)
{
    const struct us_vhost_mem none = { .n = 0 };
    struct us_vhost_ring request;

    drv_create(&d, F_V1, 16);
    CHECK_EQ(vhost_port_set_mem(d.port, &none, NULL), -EBUSY);
    vhost_port_ring_stop(d.port, 0);
    CHECK_EQ(vhost_port_set_mem(d.port, &none, NULL), -EBUSY);
    vhost_port_ring_stop(d.port, 1);
    CHECK_EQ(vhost_port_set_mem(d.port, &none, NULL), 0);
    request = drv_ring_request(&d, &d.tx);
    CHECK_EQ(start(&request), -EFAULT);
    drv_destroy(&d);
}

/* A table without the rings is refused, and the old one stays in use. */
TEST(table_without_the_rings_is_refused)
{
    struct us_vhost_mem mem;

    drv_create(&d, F_V1, 16);
    mem = d.mem;
    mem.n = 1;
    mem.region[0] = d.mem.region[1];
    CHECK_EQ(vhost_port_set_mem(d.port, &mem, (const int[]){ d.memfd }), -EFAULT);
    send_one();
    CHECK_EQ(drv_rx(&d, &b), 1);
    drv_destroy(&d);
}

/* 2.7.7: signals only when asked for, with flags and with event indexes. */
TEST(signals)
{
    drv_create(&d, F_V1, 16);
    for (unsigned want = 0; want < 2; want++) {
        d.tx.avail->flags = cpu_to_le16(want ? 0 : VRING_AVAIL_F_NO_INTERRUPT);
        send_one();
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK_EQ(drv_calls(&d.tx), want);
    }
    CHECK_EQ(d.state->in[0].signals, 1);
    CHECK_EQ(drv_restart(&d, F_V1 | F_EVENT, 16), 0);
    d.tx.avail->flags = cpu_to_le16(VRING_AVAIL_F_NO_INTERRUPT); /* means nothing now */
    d.tx.avail->ring[16] = cpu_to_le16(2); /* used_event: when the third is used */
    for (unsigned i = 0; i < 5; i++) {
        send_one();
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK_EQ(drv_calls(&d.tx), i == 2);
    }
    drv_destroy(&d);
}

TEST(arm_and_disarm)
{
    for (unsigned event = 0; event < 2; event++) {
        const struct port_ops *ops;
        struct rxq *q;

        drv_create(&d, F_V1 | (event ? F_EVENT : 0), 16);
        ops = d.port->ops;
        q = &d.port->rxq[0];
        /* A ring starts armed: its worker may be asleep. The receive ring never asks. */
        CHECK_EQ(le16_to_cpu(d.tx.used->flags), 0);
        CHECK_EQ(le16_to_cpu(d.rx.used->flags), event ? 0 : VRING_USED_F_NO_NOTIFY);
        ops->disarm(q);
        CHECK_EQ(le16_to_cpu(d.tx.used->flags), event ? 0 : VRING_USED_F_NO_NOTIFY);
        for (unsigned i = 0; i < 3; i++) {
            send_one();
            CHECK(ops->arm(q)); /* work is there already */
            CHECK_EQ(drv_rx(&d, &b), 1);
            CHECK(!ops->arm(q));
            CHECK_EQ(le16_to_cpu(d.tx.used->flags), 0);
            if (event)
                CHECK_EQ(le16_to_cpu(*(le16 *)&d.tx.used->ring[16]), i + 1); /* avail_event */
            ops->disarm(q);
        }
        vhost_port_ring_stop(d.port, 1);
        CHECK(!ops->arm(q));
        drv_destroy(&d);
    }
}

/* Taken over from a dead dataplane: the position comes from the used ring, and the guest is signalled once. */
TEST(resume_from_the_used_index)
{
    struct us_vhost_ring request;

    drv_create(&d, F_V1, 16);
    for (unsigned i = 0; i < 3; i++) {
        send_one();
        CHECK_EQ(drv_rx(&d, &b), 1);
    }
    (void)drv_calls(&d.tx);
    send_one(); /* not taken yet */
    CHECK_EQ(vhost_port_ring_stop(d.port, 1), 3);
    CHECK_EQ(vhost_port_ring_stop(d.port, 1), 3); /* again is legal */
    request = drv_ring_request(&d, &d.tx);
    request.base = US_BASE_FROM_USED;
    request.resume = 1;
    CHECK_EQ(start(&request), 0);
    CHECK_EQ(drv_calls(&d.tx), 1);
    CHECK_EQ(d.state->ring[1].last_avail, 3);
    CHECK_EQ(drv_rx(&d, &b), 1);
    CHECK_EQ(drv_rx(&d, &b), 0);
    drv_destroy(&d);
}

TEST(disabled_ring_gives_nothing)
{
    drv_create(&d, F_V1, 16);
    CHECK_EQ(vhost_port_ring_enable(d.port, 1, false), 0);
    send_one();
    CHECK_EQ(drv_rx(&d, &b), 0);
    CHECK(!d.port->ops->arm(&d.port->rxq[0]));
    CHECK_EQ(vhost_port_ring_enable(d.port, 1, true), 0);
    CHECK_EQ(drv_rx(&d, &b), 1);
    drv_destroy(&d);
}

/* F3: whatever is no eventfd is refused as call fd. */
TEST(f3_kinds_of_call_fds)
{
    struct us_vhost_ring request;
    int pair[2], fd;

    drv_create(&d, F_V1, 16);
    vhost_port_ring_stop(d.port, 1);
    request = drv_ring_request(&d, &d.tx);
    REQUIRE(pipe(pair) == 0);
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, pair[1]), -EINVAL);
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, d.memfd), -EINVAL);
    close(pair[0]);
    close(pair[1]);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, pair[0]), -EINVAL);
    close(pair[0]);
    close(pair[1]);
    fd = open("/dev/null", O_RDWR);
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, fd), -EINVAL);
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, 9999), -EBADF);
    CHECK_EQ(start(&request), 0);
    CHECK_EQ(vhost_port_ring_call(d.port, 1, fd), -EINVAL);
    close(fd);
    send_one();
    CHECK_EQ(drv_rx(&d, &b), 1);
    CHECK_EQ(drv_calls(&d.tx), 1); /* the refused one has not replaced it */
    drv_destroy(&d);
}

static void nothing(int sig)
{
    (void)sig;
}

/* F3: a counter that is full: no harm if the fd does not block, and the port's end if it does. */
TEST(f3_saturated_call_fd)
{
    const struct itimerval tick = { { 0, 2000 }, { 0, 2000 } }, off = { { 0, 0 }, { 0, 0 } };
    const struct sigaction interrupt = { .sa_handler = nothing }; /* no SA_RESTART, as the workers' timer */
    const uint64_t full = UINT64_MAX - 1;

    drv_create(&d, F_V1, 16);
    CHECK_EQ(write(d.tx.call, &full, sizeof(full)), sizeof(full));
    send_one();
    CHECK_EQ(drv_rx(&d, &b), 1);
    CHECK(!port_is_broken(d.port));
    CHECK_EQ(fcntl(d.tx.call, F_SETFL, 0), 0); /* clears O_NONBLOCK in the shared description */
    sigaction(SIGALRM, &interrupt, NULL);
    setitimer(ITIMER_REAL, &tick, NULL);
    send_one();
    CHECK_EQ(drv_rx(&d, &b), 1);
    setitimer(ITIMER_REAL, &off, NULL);
    CHECK_EQ(d.state->broken, BREAK_call_stuck);
    CHECK_EQ(d.state->broken_ring, 1);
    drv_destroy(&d);
}

TEST(call_fd_is_replaced)
{
    const int other = eventfd(0, EFD_NONBLOCK);
    uint64_t n = 0;

    drv_create(&d, F_V1, 16);
    CHECK_EQ(vhost_port_ring_call(d.port, 1, other), 0);
    send_one();
    CHECK_EQ(drv_rx(&d, &b), 1);
    CHECK_EQ(drv_calls(&d.tx), 0);
    CHECK_EQ(read(other, &n, sizeof(n)), sizeof(n));
    CHECK_EQ(vhost_port_ring_call(d.port, 1, -1), 0);
    send_one();
    CHECK_EQ(drv_rx(&d, &b), 1);
    CHECK_EQ(read(other, &n, sizeof(n)), -1);
    close(other);
    drv_destroy(&d);
}

/* The watch of the queue follows the ring; no kick fd means polling. */
TEST(kick_fd_is_watched)
{
    struct us_vhost_ring request;

    drv_create(&d, F_V1, 16);
    CHECK(d.port->rxq[0].watched_fd >= 0 && d.port->rxq[0].watched_fd != d.tx.kick);
    vhost_port_ring_stop(d.port, 1);
    CHECK_EQ(d.port->rxq[0].watched_fd, RXQ_QUIET);
    request = drv_ring_request(&d, &d.tx);
    CHECK_EQ(vhost_port_ring_start(d.port, &request, -1, -1), 0);
    CHECK_EQ(d.port->rxq[0].watched_fd, RXQ_POLLED);
    drv_destroy(&d);
}

/* VIRTIO_F_IN_ORDER (6); test_virtq_random.c has the order in all its cases. */
TEST(in_order_takes_one_element)
{
    struct frame *list[3] = { &frame[0].f, &frame[1].f, &frame[2].f };
    uint32_t id, len;

    drv_create(&d, F_V1 | F_MRG | VIRTIO_BIT(VIRTIO_F_IN_ORDER), 8);
    CHECK_EQ(d.state->ring[0].features, d.features);
    CHECK_EQ(d.state->ring[1].features, d.features);
    for (uint16_t i = 0; i < 8; i++) { /* the third is malformed in both rings */
        drv_desc(&d.rx, i, i == 2 ? DRV_END : DRV_BUF + i * 512u, 100, D_WRITE, 0);
        drv_offer(&d.rx, i);
        drv_desc(&d.tx, i, i == 2 ? DRV_END : DRV_BUF + 4096 + i * 512u, 100, 0, 0);
        drv_offer(&d.tx, i);
    }
    drv_publish(&d.rx);
    drv_publish(&d.tx);
    for (unsigned i = 0; i < 3; i++)
        drv_frame(&frame[i], i == 1 ? 300 : 60, i);
    CHECK_EQ(d.port->ops->tx_burst(d.port, list, 3), 2); /* the middle one meets the malformed chain */
    CHECK_EQ(drv_rx(&d, &b), 7);
    CHECK_EQ(d.tx.used->ring[0].id.raw, htole32(7)); /* 2.7.9: the last of the batch, in the first's place */
    CHECK_EQ(d.tx.used->ring[1].id.raw, 0);
    for (uint32_t i = 0; i < 8; i++) {
        CHECK(drv_used(&d.tx, &id, &len) && CHECK_EQ(id, i));
        if (i < 4)
            CHECK(drv_used(&d.rx, &id, &len) && CHECK_EQ(id, i));
    }
    drv_destroy(&d);
}

TEST(offloads_follow_features)
{
    drv_create(&d, F_V1, 16);
    CHECK_EQ(d.port->offloads, 0);
    CHECK_EQ(drv_restart(&d, F_V1 | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6), 16), 0);
    CHECK_EQ(d.port->offloads, OFFLOAD_CSUM | OFFLOAD_TSO6);
    CHECK_EQ(drv_restart(&d, F_V1 | VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
                         VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN), 16), 0);
    CHECK_EQ(d.port->offloads, OFFLOAD_ECN);
    CHECK_EQ(drv_restart(&d, F_V1 | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6) |
                         VIRTIO_BIT(VIRTIO_NET_F_HOST_USO), 16), 0);
    CHECK_EQ(d.port->offloads, OFFLOAD_CSUM | OFFLOAD_USO6);
    CHECK_EQ(virtq_offloads(d.features, true), OFFLOAD_USO4 | OFFLOAD_USO6);
    CHECK_EQ(d.state->ring[1].features, d.features);
    drv_destroy(&d);
}

/* Two queue pairs: flows spread over both receive rings, a flow stays where it is. */
/* Four receive rings, switched off and on in every combination: only those that are up get frames. */
TEST(multiqueue_only_open_rings_get_frames)
{
    struct drv_ring ring[4] = { 0 };
    struct us_vhost_ring request;
    struct frame *list[BURST_MAX];
    uint32_t sent = 0, got = 0, id, len;

    drv_create(&d, F_V1, 256);
    vhost_port_ring_stop(d.port, 0);
    for (unsigned q = 0; q < 4; q++) {
        drv_ring_place(&d, &ring[q], 2 * q, 256);
        request = drv_ring_request(&d, &ring[q]);
        CHECK_EQ(vhost_port_ring_start(d.port, &request, -1, -1), 0);
        for (uint16_t i = 0; i < 256; i++)
            drv_one(&ring[q], i, DRV_BORDER + 4096 * q, 2000, D_WRITE);
    }
    for (unsigned i = 0; i < BURST_MAX; i++)
        list[i] = &frame[i].f;
    for (unsigned round = 0; round < 64; round++) {
        const unsigned up = 1 + 7 * round % 15;

        for (unsigned q = 0; q < 4; q++)
            CHECK_EQ(vhost_port_ring_enable(d.port, 2 * q, up >> q & 1), 0);
        for (unsigned i = 0; i < BURST_MAX; i++) {
            drv_frame(&frame[i], 100, i);
            frame[i].f.hdr[5] = (uint8_t)(round + i); /* destination address */
        }
        sent += d.port->ops->tx_burst(d.port, list, BURST_MAX);
        for (unsigned q = 0; q < 4; q++) {
            while (drv_used(&ring[q], &id, &len)) {
                CHECK(up >> q & 1);
                drv_one(&ring[q], (uint16_t)id, DRV_BORDER + 4096 * q, 2000, D_WRITE);
                got++;
            }
        }
    }
    CHECK_EQ(got, sent);
    CHECK_EQ(sent, 64 * BURST_MAX);
    drv_destroy(&d);
}

TEST(multiqueue_spreads_flows)
{
    struct drv_ring second = { .kick = -1, .call = -1 };
    struct us_vhost_ring request;
    struct frame *list[1] = { &frame[0].f };
    unsigned first_got = 0, second_got = 0;
    uint32_t id, len;

    drv_create(&d, F_V1, 256);
    drv_ring_place(&d, &second, 2, 256);
    request = drv_ring_request(&d, &second);
    CHECK_EQ(vhost_port_ring_start(d.port, &request, -1, -1), 0);
    for (uint16_t i = 0; i < 256; i++) {
        drv_one(&d.rx, i, DRV_BUF, 2000, D_WRITE);
        drv_one(&second, i, DRV_BUF + 4096, 2000, D_WRITE);
    }
    for (uint32_t i = 0; i < 100; i++) {
        unsigned where = 2;

        drv_frame(&frame[0], 100, 1);
        frame[0].f.hdr[5] = (uint8_t)i; /* destination address */
        for (unsigned again = 0; again < 2; again++) {
            CHECK_EQ(d.port->ops->tx_burst(d.port, list, 1), 1);
            if (drv_used(&d.rx, &id, &len)) {
                first_got++;
                CHECK(where != 1);
                where = 0;
            } else if (CHECK(drv_used(&second, &id, &len))) {
                second_got++;
                CHECK(where != 0);
                where = 1;
            }
        }
    }
    CHECK(first_got > 50 && second_got > 50);
    CHECK_EQ(vhost_port_ring_enable(d.port, 2, false), 0);
    CHECK_EQ(d.port->ops->tx_burst(d.port, list, 1), 1);
    CHECK(drv_used(&d.rx, &id, &len)); /* whatever its flow was */
    drv_destroy(&d);
}

static unsigned open_fds(void)
{
    DIR *const dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

/* L2, M2: everything that is made is given back, on every path. */
TEST(m2_nothing_leaks)
{
    const unsigned before = open_fds();
    struct us_vhost_ring request;
    int fds[2];

    for (unsigned i = 0; i < 50; i++) {
        drv_create(&d, F_V1, 64);
        fds[0] = fds[1] = d.memfd;
        for (unsigned k = 0; k < 20; k++) {
            const unsigned now = open_fds();

            CHECK_EQ(vhost_port_set_mem(d.port, &d.mem, fds), 0);
            CHECK_EQ(vhost_port_ring_call(d.port, 1, d.tx.call), 0);
            CHECK_EQ(drv_restart(&d, F_V1, 64), 0);
            request = drv_ring_request(&d, &d.tx);
            CHECK_EQ(start(&request), -EBUSY);
            vhost_port_ring_stop(d.port, 1);
            request.size = 3;
            CHECK_EQ(start(&request), -EINVAL);
            request.size = 64;
            CHECK_EQ(start(&request), 0);
            CHECK_EQ(open_fds(), now);
        }
        drv_destroy(&d);
    }
    CHECK_EQ(open_fds(), before);
}

MAIN
{
    RUN(m7_ring_sizes);
    RUN(bad_requests);
    RUN(g1_rings_at_the_end_of_memory);
    RUN(no_memory_no_rings);
    RUN(table_without_the_rings_is_refused);
    RUN(signals);
    RUN(arm_and_disarm);
    RUN(resume_from_the_used_index);
    RUN(disabled_ring_gives_nothing);
    RUN(f3_kinds_of_call_fds);
    RUN(f3_saturated_call_fd);
    RUN(call_fd_is_replaced);
    RUN(kick_fd_is_watched);
    RUN(in_order_takes_one_element);
    RUN(offloads_follow_features);
    RUN(multiqueue_only_open_rings_get_frames);
    RUN(multiqueue_spreads_flows);
    RUN(m2_nothing_leaks);
}
