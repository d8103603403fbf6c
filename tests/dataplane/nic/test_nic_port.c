/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_nic_port.c - what is above every driver: life of the port and what is
 * left when a step of it fails, queues, counters, link, the fence, reset.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nic/loop_nic.h"
#include "nic/nic_counter.h"
#include "state_page.h"

static const struct us_port_add request = {
    .port_id = 5, .kind = US_KIND_NIC, .max_frame = 1514, .n_queues = 4, .ring_size = 64,
};

static struct us_state_page *page;
static struct burst burst;
static int news = -1;

/* In the place of nic_drivers.c. */
const struct nic_driver *nic_find_driver(uint16_t vendor, uint16_t device, uint32_t *variant)
{
    return loop_nic_find(vendor, device, variant);
}

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void new_page(void)
{
    const int fd = us_state_page_create(5);

    REQUIRE(fd >= 0 && state_page_map(fd, &page) == 0);
    close(fd);
}

static struct port *create(const struct us_port_add *add)
{
    struct port *p = NULL;

    loop_nic_reset();
    new_page();
    if (nic_port_create_on(add, page, loop_nic_open(), NULL, true, news, &p) < 0)
        exit(EXIT_FAILURE);
    return p;
}

static void end(struct port *p)
{
    p->ops->stop(p);
    p->ops->destroy(p);
    CHECK(!loop_nic.alive && !loop_nic.master && !loop_nic.started && !loop_nic.opened && !loop_nic.bars &&
          !loop_nic.pool);
}

/* A frame of its own flow. */
static unsigned send(struct port *p, uint32_t flow, uint16_t vid)
{
    uint8_t room[HDR_ROOM + 64] = { 0 }, payload[36] = { 0xab };
    struct iovec rest = { payload, sizeof(payload) };
    struct frame f = { .hdr = room + HDR_ROOM, .hdr_len = 64, .len = 100, .iov = &rest, .n_iov = 1, .out_vid = vid };
    struct frame *const list[1] = { &f };

    memset(f.hdr, 2, 12);
    f.hdr[12] = 0x88;
    memcpy(f.hdr + 6, &flow, sizeof(flow));
    return p->ops->tx_burst(p, list, 1);
}

/* Frames that wait at all queues. */
static unsigned receive(struct port *p)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < p->n_queues; i++) {
        n += p->ops->rx_burst(&p->rxq[i], &burst);
        p->ops->rx_complete(&p->rxq[i], &burst);
    }
    return n;
}

static uint64_t sum_out(enum drop_reason why)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < US_QUEUES_MAX; i++)
        n += why ? page->out[i].drop[why] : page->out[i].frames;
    return n;
}

TEST(a_life)
{
    const unsigned before = open_fds();
    struct port *const p = create(&request);

    CHECK_EQ(p->n_queues, 4);
    CHECK_EQ(atomic_load(&p->offloads), OFFLOAD_CSUM);
    CHECK_STR((const char *)page->nic.driver, "loop");
    CHECK_EQ(page->nic.pci_device, 0x5678);
    CHECK_EQ(page->nic.mac[5], 9);
    CHECK_EQ(page->nic.n_queues, 4);
    CHECK(page->nic.pool_bytes >= 4u * 64 * 16384);
    CHECK_EQ(page->nic.speed_mbps, 1000);
    CHECK_EQ(page->nic.counter[NIC_COUNTER_rx_packets], 42);
    CHECK(page->nic.counter[NIC_COUNTER_tx_tso] == US_NIC_COUNTER_NONE);
    CHECK(loop_nic.master && loop_nic.started);
    CHECK_EQ(send(p, 1, US_VID_UNTAGGED), 1);
    CHECK_EQ(receive(p), 1);
    end(p);
    CHECK_EQ(open_fds(), before);
}

TEST(a_failing_step_leaves_nothing)
{
    for (enum loop_step s = LOOP_MAP_BARS; s <= LOOP_START; s++) {
        const unsigned before = open_fds();
        struct nic_device *d;
        struct port *p = NULL;

        loop_nic_reset();
        loop_nic.fail = s;
        loop_nic.error = -EDQUOT;
        new_page();
        d = loop_nic_open();
        CHECK_EQ(nic_port_create_on(&request, page, d, NULL, false, -1, &p), -EDQUOT);
        CHECK(loop_nic.alive && !loop_nic.master && !loop_nic.started && !loop_nic.opened && !loop_nic.bars);
        CHECK(!loop_nic.pool);
        CHECK_EQ(page->nic.pool_bytes != 0, s >= LOOP_MAP_POOL);
        d->ops->destroy(d);
        state_page_unmap(page);
        CHECK_EQ(open_fds(), before);
    }
}

TEST(what_the_driver_cannot_do)
{
    struct nic_device *d;
    struct port *p = NULL;
    struct us_port_add add;

    loop_nic_reset();
    new_page();
    d = loop_nic_open();
#define REFUSED(field, value, rc)                                               \
    add = request;                                                              \
    add.field = (value);                                                        \
    CHECK_EQ(nic_port_create_on(&add, page, d, NULL, false, -1, &p), rc)
    REFUSED(n_queues, 5, -EINVAL);
    REFUSED(ring_size, 32, -EINVAL);
    REFUSED(ring_size, 2048, -EINVAL);
    REFUSED(ring_size, 100, -EINVAL);
    REFUSED(max_frame, 9217, -EINVAL);
    REFUSED(nic_flags, US_NIC_ZERO_COPY, -ENOTSUP);
    d->config[2] = 0;
    CHECK_EQ(nic_port_create_on(&request, page, d, NULL, false, -1, &p), -ENODEV);
    d->ops->destroy(d);
    state_page_unmap(page);
}

TEST(flows_have_their_queues)
{
    struct port *const p = create(&request);
    unsigned used = 0;

    for (uint32_t flow = 0; flow < 100; flow++)
        CHECK_EQ(send(p, flow, flow % 2 ? US_VID_UNTAGGED : 100), 1);
    for (uint32_t i = 0; i < 4; i++)
        used += page->out[i].frames > 0;
    CHECK_EQ(used, 4);
    CHECK_EQ(sum_out(DROP_none), 100);
    CHECK_EQ(receive(p), 100);
    for (unsigned i = 0; i < 10; i++)
        CHECK_EQ(send(p, 7, 5), 1);
    for (uint32_t i = 0; i < 4; i++) {
        const unsigned n = p->ops->rx_burst(&p->rxq[i], &burst);

        CHECK(n == 0 || n == 10);
        if (n) {
            CHECK_EQ(burst.frame[0].len, 104);
            CHECK(burst.frame[0].hdr[12] == 0x81 && burst.frame[0].hdr[15] == 5 && burst.frame[0].hdr[16] == 0x88);
        }
        p->ops->rx_complete(&p->rxq[i], &burst);
    }
    loop_nic.full = true;
    CHECK_EQ(send(p, 1, 5), 0);
    CHECK_EQ(sum_out(DROP_ring_full), 1);
    end(p);
}

TEST(link)
{
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    uint64_t count;
    struct port *p;

    news = eventfd(0, EFD_NONBLOCK);
    p = create(&request);
    CHECK_EQ(nic_port_watch(p, epoll), 0);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
    loop_nic.link_up = false;
    loop_nic_signal(loop_nic.irq_fd[4]);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 1000), 1);
    CHECK_EQ(event.data.u32, 5);
    nic_port_other(p);
    CHECK_EQ(loop_nic.others, 1);
    CHECK_EQ(page->nic.link_up, 0);
    CHECK_EQ(page->nic.link_changes, 1);
    CHECK(read(news, &count, sizeof(count)) == sizeof(count));
    CHECK_EQ(send(p, 1, 5), 0);
    CHECK_EQ(sum_out(DROP_link_down), 1);
    loop_nic.link_up = true;
    CHECK_EQ(nic_port_read(p), 0);
    CHECK_EQ(page->nic.link_changes, 2);
    CHECK_EQ(send(p, 1, 5), 1);
    nic_port_read(p);
    CHECK_EQ(page->nic.link_changes, 2);
    end(p);
    close(epoll);
    close(news);
    news = -1;
}

TEST(fence_and_reset)
{
    struct port *const p = create(&request);

    CHECK_EQ(send(p, 1, 5), 1);
    loop_nic.lost(loop_nic.lost_arg);   /* a register's page is gone */
    CHECK_EQ(page->broken, BREAK_device_gone);
    CHECK_EQ(receive(p), 0);
    CHECK_EQ(send(p, 1, 5), 0);
    CHECK_EQ(sum_out(DROP_broken), 1);
    CHECK(!p->ops->arm(&p->rxq[0]));
    loop_nic.fail = LOOP_RESET;
    loop_nic.error = -EIO;
    CHECK_EQ(nic_port_reset(p), -EIO);
    CHECK_EQ(page->broken, BREAK_device_gone);
    CHECK(!loop_nic.master && !loop_nic.started);
    CHECK_EQ(nic_port_read(p), -EIO);
    loop_nic.fail = LOOP_NONE;
    CHECK_EQ(nic_port_reset(p), 0);
    CHECK_EQ(page->broken, BREAK_none);
    CHECK_EQ(page->nic.resets, 1);
    CHECK_EQ(send(p, 1, 5), 1);
    CHECK_EQ(receive(p), 1);
    end(p);
}

TEST(errors_and_storms)
{
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    struct port *const p = create(&request);

    CHECK_EQ(nic_port_watch(p, epoll), 0);
    loop_nic_signal(loop_nic.error_fd);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 1000), 1);
    nic_port_other(p);
    CHECK_EQ(page->broken, BREAK_nic_error);
    CHECK_EQ(nic_port_reset(p), 0);
    loop_nic_signal(loop_nic.request_fd);
    nic_port_other(p);
    CHECK_EQ(page->broken, BREAK_device_gone);
    CHECK_EQ(nic_port_reset(p), 0);
    for (unsigned i = 0; i < 100000 && !page->broken; i++)
        nic_port_other(p);
    CHECK_EQ(page->broken, BREAK_nic_error);
    while (epoll_wait(epoll, &event, 1, 0) > 0)
        ;
    loop_nic_signal(loop_nic.irq_fd[4]);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);       /* nobody listens any more */
    CHECK_EQ(nic_port_reset(p), 0);
    loop_nic_signal(loop_nic.irq_fd[4]);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 1000), 1);
    end(p);
    close(epoll);
}

MAIN
{
    RUN(a_life);
    RUN(a_failing_step_leaves_nothing);
    RUN(what_the_driver_cannot_do);
    RUN(flows_have_their_queues);
    RUN(link);
    RUN(fence_and_reset);
    RUN(errors_and_storms);
}
