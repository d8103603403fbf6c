/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_tap_port.c - a TAP port over real devices of the kernel: what it
 * refuses, frames both ways with tags, a device that goes down and one that
 * vanishes, memory that cannot be read, and two of them with a whole switch
 * between.  Segmentation requests are in test_tap_gso.c.
 *
 * Needs CAP_NET_ADMIN (a network namespace of its own); without it only the
 * refusals run, and the output says so.
 */
#include "tap/tap_port.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/rcu.h"
#include "harness.h"
#include "tap/tap_fixture.h"

#define ALL_OFFLOADS (OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN)

/* ---- refusals ---- */

static void check_refused(int fd)
{
    const struct us_port_add request = { .port_id = 3, .kind = US_KIND_TAP, .max_frame = 1514 };
    struct us_state_page *page = new_page();
    struct port *p = NULL;

    CHECK_EQ(tap_port_create(&request, page, fd, false, -1, &p), -EINVAL);
    CHECK(p == NULL);
    CHECK_EQ(munmap(page, US_STATE_PAGE_SIZE), 0);      /* still ours */
}

TEST(refuses_other_fds)
{
    const int fds[] = { -1, 9999, open("/dev/null", O_RDWR | O_CLOEXEC), eventfd(0, EFD_CLOEXEC),
                        open("/proc/self/exe", O_RDONLY | O_CLOEXEC), open("/dev/net/tun", O_RDWR | O_CLOEXEC) };

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        check_refused(fds[i]);
        if (i > 1 && fds[i] >= 0)
            close(fds[i]);
    }
}

TEST(refuses_other_devices)
{
    static const int flags[] = { IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, IFF_TAP | IFF_NO_PI };

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        char name[16];
        const int fd = tap_wire_open(flags[i], name);

        CHECK(fd >= 0);
        check_refused(fd);
        close(fd);
    }
}

TEST(every_op_is_there)
{
    struct tap_wire w = { 0 };
    struct port *p;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    CHECK(p->ops->kind && p->ops->rx_burst && p->ops->rx_complete && p->ops->tx_burst && p->ops->arm &&
          p->ops->disarm && p->ops->stop && p->ops->destroy);
    CHECK_EQ(p->n_queues, 1);
    CHECK(p->offloads == ALL_OFFLOADS || p->offloads == (ALL_OFFLOADS | USO_OFFLOADS));
    CHECK(p->shared);
    CHECK(p->rxq[0].watched_fd >= 0 && p->rxq[0].watched_fd != w.fd);
    CHECK(fcntl(p->rxq[0].watched_fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(p->rxq[0].watched_fd, F_GETFD) & FD_CLOEXEC);
    end_port(p);
    tap_wire_fini(&w);
}

/* ---- from the host ---- */

TEST(receives)
{
    struct burst *b = new_burst();
    uint8_t frame[1514];
    struct tap_wire w = { 0 };
    struct port *p;
    unsigned seen = 0, n;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    CHECK(!p->ops->arm(&p->rxq[0]));
    for (uint32_t i = 0; i < 100; i++) {
        make_frame(frame, 60 + i * 14, i);
        CHECK(tap_wire_send(&w, NULL, frame, 60 + i * 14));
    }
    CHECK(p->ops->arm(&p->rxq[0]));
    p->ops->disarm(&p->rxq[0]);
    while ((n = p->ops->rx_burst(&p->rxq[0], b)) != 0) {
        CHECK_EQ(b->n, n);
        CHECK(seen || n == BURST_MAX);
        for (unsigned i = 0; i < n; i++, seen++) {
            const struct frame *f = &b->frame[i];

            make_frame(frame, 60 + seen * 14, seen);
            CHECK_EQ(f->len, 60 + seen * 14);
            CHECK(f->hdr_len == f->len && f->n_iov == 0 && f->vnet.flags == 0 && f->drop == DROP_none);
            CHECK_MEM(f->hdr, frame, f->len);
            memset(f->hdr - HDR_ROOM, 0xff, HDR_ROOM);
        }
        p->ops->rx_complete(&p->rxq[0], b);
    }
    CHECK_EQ(seen, 100);
    CHECK(!p->ops->arm(&p->rxq[0]));
    end_port(p);
    tap_wire_fini(&w);
    free(b);
}

/* Polls that skip the system call must not keep a frame for ever. */
TEST(receives_after_silence)
{
    struct burst *b = new_burst();
    uint8_t frame[60];
    struct tap_wire w = { 0 };
    struct port *p;
    unsigned polls = 0;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    for (unsigned i = 0; i < 1000; i++)
        CHECK_EQ(p->ops->rx_burst(&p->rxq[0], b), 0);
    make_frame(frame, sizeof(frame), 0);
    CHECK(tap_wire_send(&w, NULL, frame, sizeof(frame)));
    while (p->ops->rx_burst(&p->rxq[0], b) == 0 && polls < 1000)
        polls++;
    CHECK(polls < 64);
    for (unsigned i = 0; i < 1000; i++)
        CHECK_EQ(p->ops->rx_burst(&p->rxq[0], b), 0);
    CHECK(tap_wire_send(&w, NULL, frame, sizeof(frame)));
    CHECK(p->ops->arm(&p->rxq[0]));
    p->ops->disarm(&p->rxq[0]);
    CHECK_EQ(p->ops->rx_burst(&p->rxq[0], b), 1);       /* arm() promised it */
    end_port(p);
    tap_wire_fini(&w);
    free(b);
}

TEST(receives_no_more_than_max_frame)
{
    struct burst *b = new_burst();
    uint8_t frame[2000];
    struct tap_wire w = { 0 };
    struct port *p;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    make_frame(frame, sizeof(frame), 0);
    CHECK(tap_wire_send(&w, NULL, frame, 1515));
    CHECK(tap_wire_send(&w, NULL, frame, 1514));
    frame[12] = 0x81;                   /* a tag does not count */
    frame[13] = 0x00;
    CHECK(tap_wire_send(&w, NULL, frame, 1519));
    CHECK(tap_wire_send(&w, NULL, frame, 1518));
    CHECK_EQ(p->ops->rx_burst(&p->rxq[0], b), 2);
    CHECK_EQ(b->frame[0].len, 1514);
    CHECK_EQ(b->frame[1].len, 1518);
    CHECK_EQ(p->state->in[0].drop[DROP_frame_long], 2);
    end_port(p);
    tap_wire_fini(&w);
    free(b);
}

/* ---- to the host ---- */

TEST(transmits)
{
    struct iovec iov[2000];
    uint8_t bytes[1514], got[2000];
    struct virtio_net_hdr hdr;
    struct tap_wire w = { 0 };
    struct port *p;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    for (uint32_t len = 14; len <= sizeof(bytes); len += 100) {
        struct frame f;

        make_frame(bytes, len, len);
        f = view_of(bytes, len, 64, 1 + len / 3, iov);
        CHECK_EQ(transmit(p, &f), 1);
        CHECK_EQ(tap_wire_receive(&w, &hdr, got, sizeof(got), PATIENCE_MS), len);
        CHECK_MEM(got, bytes, len);
        CHECK_EQ(w.vlan_tci, -1);
    }
    CHECK_EQ(p->state->out[0].frames, 16);
    CHECK_EQ(p->state->out[0].bursts, 16);
    CHECK_EQ(p->state->out[0].bytes, 16 * 14 + 100 * 120);
    end_port(p);
    tap_wire_fini(&w);
}

TEST(transmits_with_tag)
{
    struct iovec iov[2];
    uint8_t bytes[1514], got[2000];
    struct frame f;
    struct tap_wire w = { 0 };
    struct port *p;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    make_frame(bytes, sizeof(bytes), 5);
    f = view_of(bytes, sizeof(bytes), 64, 2000, iov);
    f.out_vid = 1234;
    f.pcp = 0xa000;
    f.flooded = 1;
    CHECK_EQ(transmit(p, &f), 1);
    CHECK_EQ(tap_wire_receive(&w, NULL, got, sizeof(got), PATIENCE_MS), sizeof(bytes));
    CHECK_MEM(got, bytes, sizeof(bytes));               /* the kernel hands the tag over beside the frame */
    CHECK_EQ(w.vlan_tci, 0xa000 | 1234);
    CHECK_EQ(p->state->out[0].bytes, 1518);
    CHECK_EQ(p->state->out[0].flooded, 1);
    end_port(p);
    tap_wire_fini(&w);
}

/* ---- what can go wrong ---- */

TEST(device_down)
{
    uint8_t bytes[60];
    struct iovec iov[1];
    struct tap_wire w = { 0 };
    struct port *p;
    struct frame f;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    make_frame(bytes, sizeof(bytes), 0);
    f = view_of(bytes, sizeof(bytes), 64, 64, iov);
    CHECK(tap_wire_set_up(&w, false));
    CHECK_EQ(transmit(p, &f), 0);
    CHECK_EQ(p->state->out[0].drop[DROP_link_down], 1);
    CHECK(tap_wire_set_up(&w, true));
    CHECK_EQ(transmit(p, &f), 1);
    CHECK(!port_is_broken(p));
    end_port(p);
    tap_wire_fini(&w);
}

TEST(too_many_pieces)
{
    static uint8_t bytes[9000];
    static struct iovec iov[9000];
    struct tap_wire w = { 0 };
    struct port *p;
    struct frame f;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    make_frame(bytes, sizeof(bytes), 0);
    f = view_of(bytes, 64 + 1016, 64, 1, iov);
    CHECK_EQ(transmit(p, &f), 1);
    f = view_of(bytes, 64 + 1017, 64, 1, iov);
    CHECK_EQ(transmit(p, &f), 0);
    CHECK_EQ(p->state->out[0].drop[DROP_device], 1);
    end_port(p);
    tap_wire_fini(&w);
}

/* Threat F2: the source guest's memory was truncated under us. The kernel says so; the next frame goes on. */
TEST(unreadable_source)
{
    const int memfd = memfd_create("ram", MFD_CLOEXEC);
    uint8_t bytes[200], got[400], *ram;
    struct iovec iov[2];
    struct frame bad, good, *both[2] = { &bad, &good };
    struct tap_wire w = { 0 };
    struct port *p;

    REQUIRE(tap_wire_init(&w) && ftruncate(memfd, 4096) == 0);
    ram = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    REQUIRE(ram != MAP_FAILED && ftruncate(memfd, 0) == 0);
    p = new_port(&w, -1);
    make_frame(bytes, sizeof(bytes), 3);
    good = view_of(bytes, sizeof(bytes), 200, 64, iov);
    bad = (struct frame){ .hdr = bytes, .hdr_len = 64, .len = 164, .iov = iov + 1, .n_iov = 1,
                          .out_vid = US_VID_UNTAGGED };
    iov[1] = (struct iovec){ ram, 100 };
    CHECK_EQ(p->ops->tx_burst(p, both, 2), 1);
    CHECK_EQ(p->state->out[0].drop[DROP_device], 1);
    CHECK_EQ(tap_wire_receive(&w, NULL, got, sizeof(got), PATIENCE_MS), 200);
    CHECK(!port_is_broken(p));
    end_port(p);
    tap_wire_fini(&w);
    munmap(ram, 4096);
    close(memfd);
}

/* Somebody deletes the interface. */
static void vanish(bool by_write)
{
    const int news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct burst *b = new_burst();
    uint8_t bytes[60];
    struct iovec iov[1];
    struct tap_wire w = { 0 };
    struct port *p;
    struct frame f;
    uint64_t news;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, news_fd);
    for (unsigned i = 0; i < 100; i++)
        p->ops->rx_burst(&p->rxq[0], b);
    make_frame(bytes, sizeof(bytes), 0);
    f = view_of(bytes, sizeof(bytes), 64, 64, iov);
    CHECK(tap_wire_delete(&w));
    if (by_write) {
        CHECK_EQ(transmit(p, &f), 0);
        CHECK_EQ(p->state->out[0].drop[DROP_device], 1);
    } else {
        CHECK(p->ops->arm(&p->rxq[0]));         /* a worker must not go to sleep over it */
        CHECK_EQ(p->ops->rx_burst(&p->rxq[0], b), 0);
    }
    CHECK_EQ(p->state->broken, BREAK_device_gone);
    CHECK_EQ(read(news_fd, &news, sizeof(news)), sizeof(news));
    CHECK_EQ(transmit(p, &f), 0);
    CHECK_EQ(p->state->out[0].drop[DROP_broken], 1);
    end_port(p);
    tap_wire_fini(&w);
    close(news_fd);
    free(b);
}

TEST(device_vanishes)
{
    vanish(false);
    vanish(true);
}

/* ---- a whole switch between two devices ---- */

static void plug(struct uswitch *us, uint32_t id, const struct tap_wire *w)
{
    const struct us_port_add add = { .port_id = id, .kind = US_KIND_TAP, .max_frame = 1514, .fdb_quota = 10 };
    const struct us_port_tags tags = { .port_id = id, .n = 1, .row = { { US_VID_UNTAGGED, 1 } } };
    const int page = us_state_page_create(id);

    CHECK_EQ(uswitch_port_add(us, &add, page, &w->fd, 1), 0);
    CHECK_EQ(uswitch_port_tags(us, &tags), 0);
    close(page);
}

/* Workers asleep each time a frame comes: none may get stuck. */
TEST(switch_between_two)
{
    const struct us_config config = { .n_workers = 2, .poll_us = 0, .fdb_buckets = 64, .fdb_age_s = 300,
                                      .cpu = { -1, -1 } };
    static uint8_t bytes[54 + 20000], got[30000];
    struct virtio_net_hdr hdr;
    struct tap_wire w[2] = { 0 };
    struct uswitch *us = NULL;
    unsigned lost = 0;

    REQUIRE(uswitch_create(&config, &us) == 0);
    REQUIRE(tap_wire_init(&w[0]) && tap_wire_init(&w[1]));
    plug(us, 1, &w[0]);
    plug(us, 2, &w[1]);
    for (uint32_t i = 0; i < 3000 && !lost; i++) {
        const uint32_t len = 60 + i % 1400;

        make_frame(bytes, len, i);
        bytes[5] = i % 2 ? 2 : 1;       /* addresses: each side's own is learned */
        bytes[11] = i % 2 ? 1 : 2;
        lost += !tap_wire_send(&w[i % 2], NULL, bytes, len);
        lost += tap_wire_receive(&w[1 - i % 2], &hdr, got, sizeof(got), PATIENCE_MS) != len ||
                memcmp(got, bytes, len) != 0;
    }
    CHECK_EQ(lost, 0);
    hdr = make_tso(bytes, 20000);
    bytes[5] = 1;
    bytes[11] = 2;
    CHECK(tap_wire_send(&w[0], &hdr, bytes, sizeof(bytes)));
    CHECK_EQ(tap_wire_receive(&w[1], &hdr, got, sizeof(got), PATIENCE_MS), sizeof(bytes));
    CHECK_MEM(got, bytes, sizeof(bytes));
    CHECK_EQ(uswitch_port_del(us, 1), 0);
    uswitch_destroy(us);
    tap_wire_fini(&w[0]);
    tap_wire_fini(&w[1]);
}

MAIN
{
    RUN(refuses_other_fds);
    if (!tap_wire_namespace()) {
        fprintf(stderr, "skipped: every test with a TAP device, no permission to make one (CAP_NET_ADMIN)\n");
        return;
    }
    RUN(refuses_other_devices);
    RUN(every_op_is_there);
    RUN(receives);
    RUN(receives_after_silence);
    RUN(receives_no_more_than_max_frame);
    RUN(transmits);
    RUN(transmits_with_tag);
    RUN(device_down);
    RUN(too_many_pieces);
    RUN(unreadable_source);
    RUN(device_vanishes);
    RUN(switch_between_two);
}
