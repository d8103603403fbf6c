/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_uswitch.c - the library as a whole: every argument is checked, what is
 * refused changes nothing, and two guests talk through the parts together.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "drop.h"
#include "include/uswitch.h"
#include "toy_guest.h"

static struct us_config config(uint32_t workers)
{
    struct us_config c = { .n_workers = workers, .poll_us = 20, .fdb_buckets = 64, .fdb_age_s = 300 };

    for (unsigned i = 0; i < US_WORKERS_MAX; i++)
        c.cpu[i] = -1;
    return c;
}

static struct uswitch *make_switch(uint32_t workers)
{
    const struct us_config c = config(workers);
    struct uswitch *us = NULL;

    if (!CHECK_EQ(uswitch_create(&c, &us), 0))
        exit(EXIT_FAILURE);
    return us;
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

static int add_port(struct uswitch *us, const struct us_port_add *add, uint32_t page_of)
{
    const int fd = us_state_page_create(page_of);
    const int rc = uswitch_port_add(us, add, fd, NULL, 0);

    close(fd);
    return rc;
}

static int add_simple(struct uswitch *us, uint32_t id)
{
    const struct us_port_add add = toy_guest_port(id);

    return add_port(us, &add, id);
}

static int create_with(struct us_config c)
{
    struct uswitch *us = NULL;
    const int rc = uswitch_create(&c, &us);

    CHECK_EQ(rc == 0, us != NULL);
    uswitch_destroy(us);
    return rc;
}

#define BAD_CONFIG(field, value)                        \
    do {                                                \
        struct us_config bad = config(1);               \
        bad.field = (value);                            \
        CHECK_EQ(create_with(bad), -EINVAL);            \
    } while (0)

TEST(configuration)
{
    const unsigned before = open_fds();

    CHECK_EQ(create_with(config(0)), 0);
    CHECK_EQ(create_with(config(3)), 0);
    BAD_CONFIG(n_workers, US_WORKERS_MAX + 1);
    BAD_CONFIG(poll_us, 1000001);
    BAD_CONFIG(fdb_buckets, 0);
    BAD_CONFIG(fdb_buckets, 8);
    BAD_CONFIG(fdb_buckets, 65);
    BAD_CONFIG(fdb_buckets, 2097152);
    BAD_CONFIG(fdb_age_s, 0);
    BAD_CONFIG(fdb_age_s, 65001);
    BAD_CONFIG(cpu[0], -2);
    BAD_CONFIG(cpu[0], 1024);
    CHECK_EQ(open_fds(), before);
    uswitch_destroy(NULL);
}

TEST(a_cpu_that_is_not_there)
{
    const unsigned before = open_fds();
    struct us_config c = config(2);

    c.cpu[1] = 1023;
    CHECK(create_with(c) < 0);
    CHECK_EQ(open_fds(), before);
}

TEST(switch_page)
{
    struct uswitch *us = make_switch(2);
    const struct us_switch_page *page =
        mmap(NULL, US_SWITCH_PAGE_SIZE, PROT_READ, MAP_SHARED, uswitch_page_fd(us), 0);

    REQUIRE(page != MAP_FAILED);
    CHECK_EQ(page->magic, US_SWITCH_MAGIC);
    CHECK_EQ(page->n_workers, 2);
    CHECK_EQ(page->pid, getpid());
    CHECK_EQ(page->fdb_capacity, 64 * 5);
    CHECK(page->worker[0].tid > 0 && page->worker[1].tid > 0 && page->worker[2].tid == 0);
    CHECK_EQ(uswitch_poll(us), -EBUSY);
    munmap((void *)(uintptr_t)page, US_SWITCH_PAGE_SIZE);
    uswitch_destroy(us);
}

#define BAD_PORT(field, value, error)                   \
    do {                                                \
        struct us_port_add bad = toy_guest_port(1);     \
        bad.field = (value);                            \
        CHECK_EQ(add_port(us, &bad, 1), error);         \
    } while (0)

TEST(ports_come_and_go)
{
    struct uswitch *us = make_switch(0);
    const unsigned before = open_fds();
    const struct us_port_add tap = { .port_id = 1, .kind = US_KIND_TAP, .max_frame = 1514 };

    CHECK_EQ(add_simple(us, 1), 0);
    CHECK_EQ(add_simple(us, 1), -EEXIST);
    CHECK_EQ(uswitch_port_del(us, 1), 0);
    CHECK_EQ(uswitch_port_del(us, 1), -ENOENT);
    CHECK_EQ(uswitch_port_del(us, US_PORTS_MAX), -EINVAL);
    BAD_PORT(port_id, US_PORTS_MAX, -EINVAL);
    BAD_PORT(port_id, UINT32_MAX, -EINVAL);
    BAD_PORT(port_id, 2, -EINVAL);      /* not the page's */
    BAD_PORT(kind, 0, -EINVAL);
    BAD_PORT(kind, US_KIND_XDP + 1, -EINVAL);
    BAD_PORT(n_queues, 1, -EINVAL);     /* an adapter's */
    BAD_PORT(ring_size, 512, -EINVAL);
    BAD_PORT(irq_us, 1, -EINVAL);
    BAD_PORT(nic_flags, US_NIC_IOMMUFD, -EINVAL);
    BAD_PORT(kind, US_KIND_TAP, -EINVAL);       /* without a device */
    BAD_PORT(max_frame, US_FRAME_MIN - 1, -EINVAL);
    BAD_PORT(max_frame, US_FRAME_MAX + 1, -EINVAL);
    BAD_PORT(flood_rate, 1, -EINVAL);   /* without depth */
    CHECK_EQ(uswitch_port_add(us, &tap, STDIN_FILENO, &(int){ STDIN_FILENO }, 1), -EINVAL);
    CHECK(uswitch_port_add(us, &(struct us_port_add){ .port_id = 1, .kind = US_KIND_VHOST, .max_frame = 1514 },
                           -1, NULL, 0) < 0);
    CHECK_EQ(add_simple(us, 1), 0);
    CHECK_EQ(uswitch_port_del(us, 1), 0);
    CHECK_EQ(open_fds(), before);
    uswitch_destroy(us);
}

/* A port of a kind of its own: a kernel device that is none is turned away, and the page stays unharmed. */
TEST(tap_needs_a_tap)
{
    const struct us_port_add tap = { .port_id = 3, .kind = US_KIND_TAP, .max_frame = 1514 };
    struct uswitch *us = make_switch(0);
    const int state_fd = us_state_page_create(3);
    const unsigned before = open_fds();
    int pipes[2];

    REQUIRE(pipe(pipes) == 0);
    CHECK_EQ(uswitch_port_add(us, &tap, state_fd, &pipes[0], 1), -EINVAL);
    close(pipes[0]);
    close(pipes[1]);
    CHECK_EQ(open_fds(), before);
    CHECK_EQ(uswitch_port_del(us, 3), -ENOENT);
    close(state_fd);
    uswitch_destroy(us);
}

/* What an adapter's request may hold; no driver looks at its fds before that is right. */
TEST(adapter_arguments)
{
    struct us_port_add good = { .port_id = 3, .kind = US_KIND_NIC, .max_frame = 1514, .n_queues = 2 };
    struct uswitch *us = make_switch(0);
    const int state_fd = us_state_page_create(3), fds[3] = { STDIN_FILENO, STDIN_FILENO, STDIN_FILENO };
    struct us_port_add bad;

    CHECK_EQ(uswitch_port_add(us, &good, state_fd, fds, 1), -EINVAL);
    CHECK_EQ(uswitch_port_add(us, &good, state_fd, fds, 3), -EINVAL);
#define BAD_NIC(field, value, n_fds)                                            \
    do {                                                                        \
        bad = good;                                                             \
        bad.field = (value);                                                    \
        CHECK_EQ(uswitch_port_add(us, &bad, state_fd, fds, n_fds), -EINVAL);    \
    } while (0)
    BAD_NIC(n_queues, 0, 2);
    BAD_NIC(n_queues, US_QUEUES_MAX + 1, 2);
    BAD_NIC(ring_size, US_RING_SIZE_MAX + 1, 2);
    BAD_NIC(irq_us, 100001, 2);
    BAD_NIC(nic_flags, 8, 2);
    BAD_NIC(ifindex, 1, 2);
    BAD_NIC(kind, US_KIND_XDP, 2);      /* no device named */
    good.kind = US_KIND_XDP;
    good.ifindex = 1;
    BAD_NIC(kind, US_KIND_XDP, 3);      /* two queues, three sockets */
    CHECK_EQ(uswitch_nic_read(us, 3), -ENOENT);
    CHECK_EQ(uswitch_nic_reset(us, US_PORTS_MAX), -ENOENT);
    CHECK_EQ(add_simple(us, 3), 0);
    CHECK_EQ(uswitch_nic_read(us, 3), -ENOTSUP);
    CHECK_EQ(uswitch_nic_reset(us, 3), -ENOTSUP);
    close(state_fd);
    uswitch_destroy(us);
}

TEST(every_port_id)
{
    struct uswitch *us = make_switch(2);
    const unsigned before = open_fds();

    for (uint32_t id = 0; id < US_PORTS_MAX; id++)
        REQUIRE(add_simple(us, id) == 0);
    for (uint32_t id = 0; id < US_PORTS_MAX; id += 2)
        CHECK_EQ(uswitch_port_del(us, id), 0);
    for (uint32_t id = 0; id < US_PORTS_MAX; id++)
        CHECK_EQ(add_simple(us, id), id % 2 ? -EEXIST : 0);
    for (uint32_t id = 1; id < US_PORTS_MAX; id++)
        CHECK_EQ(uswitch_port_del(us, id), 0);
    CHECK_EQ(uswitch_port_del(us, 0), 0);
    CHECK_EQ(open_fds(), before);
    uswitch_destroy(us);
}

/* What is left is cleaned up by the end. */
TEST(destroy_with_ports)
{
    const unsigned before = open_fds();
    struct uswitch *us = make_switch(1);
    struct toy_guest g;

    REQUIRE(toy_guest_create(&g) == 0);
    CHECK_EQ(toy_guest_plug(&g, us, 7, 1), 0);
    CHECK_EQ(add_simple(us, 8), 0);
    uswitch_destroy(us);
    toy_guest_destroy(&g);
    CHECK_EQ(open_fds(), before);
}

TEST(tables_and_limits)
{
    struct uswitch *us = make_switch(0);
    static struct us_port_tags tags = { .port_id = 1, .n = US_TAG_ROWS_MAX + 1 };
    struct us_port_macs macs = { .port_id = 1, .n = US_MACS_MAX + 1 };
    struct us_port_limits limits = { .port_id = 1, .max_frame = 1514 };

    CHECK_EQ(uswitch_port_tags(us, &tags), -ENOENT);
    CHECK_EQ(uswitch_port_macs(us, &macs), -ENOENT);
    CHECK_EQ(uswitch_port_limits(us, &limits), -ENOENT);
    CHECK_EQ(add_simple(us, 1), 0);
    CHECK_EQ(uswitch_port_tags(us, &tags), -E2BIG);
    tags.n = UINT32_MAX;
    CHECK_EQ(uswitch_port_tags(us, &tags), -E2BIG);
    tags.n = 1;
    tags.row[0] = (struct us_tag_row){ 4095, 1 };
    CHECK_EQ(uswitch_port_tags(us, &tags), -EINVAL);
    tags.row[0] = (struct us_tag_row){ 1, US_SEGMENTS_MAX };
    CHECK_EQ(uswitch_port_tags(us, &tags), -EINVAL);
    tags.row[0] = (struct us_tag_row){ US_VID_UNTAGGED, US_SEGMENTS_MAX - 1 };
    CHECK_EQ(uswitch_port_tags(us, &tags), 0);
    CHECK_EQ(uswitch_port_macs(us, &macs), -E2BIG);
    macs.n = 1;
    memcpy(macs.mac[0], "\x01\0\0\0\0\1", 6);
    CHECK_EQ(uswitch_port_macs(us, &macs), -EINVAL);
    memcpy(macs.mac[0], "\x02\0\0\0\0\1", 6);
    CHECK_EQ(uswitch_port_macs(us, &macs), 0);
    CHECK_EQ(uswitch_port_limits(us, &limits), 0);
    limits.flood_rate = 1;
    CHECK_EQ(uswitch_port_limits(us, &limits), -EINVAL);
    limits = (struct us_port_limits){ .port_id = 1, .max_frame = 1514, .spare = 1 };
    CHECK_EQ(uswitch_port_limits(us, &limits), -EINVAL);
    limits = (struct us_port_limits){ .port_id = 1, .max_frame = US_FRAME_MAX + 1 };
    CHECK_EQ(uswitch_port_limits(us, &limits), -EINVAL);
    uswitch_destroy(us);
}

#define BAD_RING(field, value)                                                  \
    do {                                                                        \
        struct us_vhost_ring bad = toy_guest_ring(1, 1);                        \
        bad.field = (value);                                                    \
        CHECK_EQ(uswitch_ring_start(us, &bad, g.kick[1], g.call[1]), -EINVAL);  \
    } while (0)

/* M4, M7 */
TEST(ring_arguments)
{
    static const uint32_t indices[] = { US_RINGS_MAX, 0x10000, 0x10001, UINT32_MAX };
    struct uswitch *us = make_switch(0);
    struct us_vhost_mem mem = toy_guest_mem(1);
    struct us_vhost_ring ring = toy_guest_ring(2, 1);
    struct toy_guest g;

    REQUIRE(toy_guest_create(&g) == 0);
    CHECK_EQ(toy_guest_plug(&g, us, 1, 1), 0);
    CHECK_EQ(uswitch_ring_start(us, &ring, -1, -1), -ENOENT);
    CHECK_EQ(uswitch_ring_stop(us, 2, 0), -ENOENT);
    CHECK_EQ(uswitch_ring_call(us, 2, 0, -1), -ENOENT);
    CHECK_EQ(uswitch_ring_enable(us, US_PORTS_MAX, 0, 1), -ENOENT);
    for (unsigned i = 0; i < 4; i++) {
        BAD_RING(ring, indices[i]);
        CHECK_EQ(uswitch_ring_stop(us, 1, indices[i]), -EINVAL);
        CHECK_EQ(uswitch_ring_call(us, 1, indices[i], -1), -EINVAL);
        CHECK_EQ(uswitch_ring_enable(us, 1, indices[i], 1), -EINVAL);
    }
    BAD_RING(size, 0);
    BAD_RING(size, 1);
    BAD_RING(size, 3);
    BAD_RING(size, 32769);
    BAD_RING(size, 65536);
    BAD_RING(base, US_BASE_FROM_USED + 1);
    BAD_RING(base, UINT32_MAX);
    BAD_RING(enabled, 2);
    BAD_RING(resume, 2);
    BAD_RING(spare, 1);
    BAD_RING(fds, 4);
    CHECK_EQ(uswitch_ring_enable(us, 1, 1, 2), -EINVAL);
    mem.n = US_REGIONS_MAX + 1;
    CHECK_EQ(uswitch_vhost_mem(us, &mem, &g.memfd), -E2BIG);
    mem.n = 1;
    CHECK_EQ(uswitch_vhost_mem(us, &mem, NULL), -EINVAL);
    mem.port_id = 3;
    CHECK_EQ(uswitch_vhost_mem(us, &mem, &g.memfd), -ENOENT);
    uswitch_destroy(us);
    toy_guest_destroy(&g);
}

static void make_frame(uint8_t frame[60], uint8_t to, uint8_t from, uint8_t fill)
{
    memset(frame, fill, 60);
    memcpy(frame, (uint8_t[]){ 0x02, 0, 0, 0, 0, to, 0x02, 0, 0, 0, 0, from, 0x88, 0xb5 }, 14);
}

/* Lets the switch work until the guest has a frame, or two seconds are over. */
static uint32_t await_frame(struct uswitch *us, struct toy_guest *g, uint8_t *frame, uint32_t size)
{
    struct timespec start, now;
    uint32_t len;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        (void)uswitch_poll(us);
        len = toy_guest_receive(g, frame, size);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (len == 0 && now.tv_sec - start.tv_sec < 2);
    return len;
}

static void exchange(uint32_t workers)
{
    struct uswitch *us = make_switch(workers);
    struct us_fdb_entry entry[8];
    uint8_t frame[60], got[2048];
    struct toy_guest a, b, other;
    uint64_t cursor = 0;

    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0 && toy_guest_create(&other) == 0);
    CHECK_EQ(toy_guest_plug(&a, us, 1, 10), 0);
    CHECK_EQ(toy_guest_plug(&b, us, 2, 10), 0);
    CHECK_EQ(toy_guest_plug(&other, us, 3, 11), 0);
    for (unsigned i = 0; i < 200; i++) {
        make_frame(frame, 2, 1, (uint8_t)i);
        CHECK(toy_guest_send(&a, frame, 60));
        CHECK_EQ(await_frame(us, &b, got, sizeof(got)), 60);
        CHECK_MEM(got, frame, 60);
        make_frame(frame, 1, 2, (uint8_t)~i);
        CHECK(toy_guest_send(&b, frame, 60));
        CHECK_EQ(await_frame(us, &a, got, sizeof(got)), 60);
        CHECK_MEM(got, frame, 60);
    }
    CHECK_EQ(toy_guest_receive(&other, got, sizeof(got)), 0);
    CHECK_EQ(uswitch_fdb_dump(us, &cursor, entry, 8), 2);
    CHECK_EQ(cursor, 0);
    CHECK_EQ(entry[0].segment, 10);
    CHECK_EQ(entry[0].port_id + entry[1].port_id, 3);
    CHECK_EQ(uswitch_fdb_flush(us, US_PORTS_MAX, US_ANY), -EINVAL);
    CHECK_EQ(uswitch_fdb_flush(us, US_ANY, 0), -EINVAL);
    CHECK_EQ(uswitch_fdb_flush(us, US_ANY, US_SEGMENTS_MAX), -EINVAL);
    CHECK_EQ(uswitch_fdb_flush(us, 1, 11), 0);
    CHECK_EQ(uswitch_fdb_flush(us, 1, US_ANY), 1);
    CHECK_EQ(uswitch_fdb_flush(us, US_ANY, US_ANY), 1);
    /* Moved elsewhere by its tags, b hears no more. */
    CHECK_EQ(uswitch_port_tags(us, &(struct us_port_tags){ .port_id = 2, .n = 0 }), 0);
    CHECK(toy_guest_send(&a, frame, 60));
    (void)uswitch_poll(us);
    usleep(20000);
    CHECK_EQ(toy_guest_receive(&b, got, sizeof(got)), 0);
    uswitch_destroy(us);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
    toy_guest_destroy(&other);
}

TEST(guests_talk_by_poll_calls)
{
    exchange(0);
}

TEST(guests_talk_by_one_worker)
{
    exchange(1);
}

TEST(guests_talk_by_three_workers)
{
    exchange(3);
}

/* Waits until a worker has so many queues; it says so at its next turn. */
static bool has_queues(const struct us_switch_page *page, unsigned worker, uint64_t want)
{
    for (unsigned i = 0; i < 2000; i++) {
        if (__atomic_load_n(&page->worker[worker].queues, __ATOMIC_RELAXED) == want)
            return true;
        usleep(1000);
    }
    return false;
}

/* A queue is polled while its ring runs, by the worker that has fewest. */
TEST(queues_are_spread_over_workers)
{
    struct uswitch *us = make_switch(2);
    const struct us_switch_page *page =
        mmap(NULL, US_SWITCH_PAGE_SIZE, PROT_READ, MAP_SHARED, uswitch_page_fd(us), 0);
    struct toy_guest g[4];

    REQUIRE(page != MAP_FAILED);
    for (uint32_t i = 0; i < 4; i++) {
        REQUIRE(toy_guest_create(&g[i]) == 0);
        CHECK_EQ(toy_guest_plug(&g[i], us, i, 1), 0);
    }
    CHECK(has_queues(page, 0, 2));
    CHECK(has_queues(page, 1, 2));
    CHECK(uswitch_ring_stop(us, 0, 1) >= 0);
    CHECK(uswitch_ring_stop(us, 2, 1) >= 0);
    CHECK(uswitch_ring_stop(us, 2, 1) >= 0);
    CHECK(has_queues(page, 0, 0));
    CHECK(has_queues(page, 1, 2));
    {
        const struct us_vhost_ring ring = toy_guest_ring(0, 1);

        CHECK_EQ(uswitch_ring_start(us, &ring, g[0].kick[1], g[0].call[1]), 0);
        CHECK_EQ(uswitch_ring_start(us, &ring, g[0].kick[1], g[0].call[1]), -EBUSY);
            CHECK(has_queues(page, 0, 1));
        /* A start that fails leaves nobody with the queue. */
        CHECK_EQ(uswitch_ring_start(us, &(struct us_vhost_ring){ .port_id = 2, .ring = 1, .size = 64 }, -1, -1) < 0,
                 1);
            CHECK(has_queues(page, 0, 1));
    }
    munmap((void *)(uintptr_t)page, US_SWITCH_PAGE_SIZE);
    uswitch_destroy(us);
    for (uint32_t i = 0; i < 4; i++)
        toy_guest_destroy(&g[i]);
}

static bool readable(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) == 1;
}

/* One broken port is news once; its neighbours do not notice; started anew it works and may break again. */
static void break_and_mend(uint32_t workers)
{
    struct uswitch *us = make_switch(workers);
    struct us_event event = { 0 };
    uint8_t frame[60], got[2048];
    struct toy_guest a, b;

    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    CHECK_EQ(toy_guest_plug(&a, us, 5, 10), 0);
    CHECK_EQ(toy_guest_plug(&b, us, 6, 10), 0);
    CHECK_EQ(uswitch_event_next(us, &event), 0);
    CHECK_EQ(event.kind, US_EVENT_NONE);
    for (unsigned round = 0; round < 3; round++) {
        struct us_vhost_ring ring = toy_guest_ring(5, 1);

        CHECK(!readable(uswitch_event_fd(us), 0));
        toy_guest_misbehave(&a);
        (void)uswitch_poll(us);
        CHECK(readable(uswitch_event_fd(us), 2000));
        CHECK_EQ(uswitch_event_next(us, &event), 1);
        CHECK_EQ(event.kind, US_EVENT_PORT_BROKEN);
        CHECK_EQ(event.port_id, 5);
        CHECK_EQ(event.ring, 1);
        CHECK_EQ(event.reason, BREAK_avail_index);
        CHECK_EQ(uswitch_event_next(us, &event), 0);
        CHECK_EQ(uswitch_event_next(us, &event), 0);
        CHECK_EQ(uswitch_ring_stop(us, 5, 0) >= 0, 1);
        CHECK_EQ(uswitch_ring_stop(us, 5, 1) >= 0, 1);
        toy_guest_destroy(&a);
        REQUIRE(toy_guest_create(&a) == 0);
        CHECK_EQ(uswitch_vhost_mem(us, &(struct us_vhost_mem){ .port_id = 5 }, NULL), 0);
        {
            const struct us_vhost_mem mem = toy_guest_mem(5);

            CHECK_EQ(uswitch_vhost_mem(us, &mem, &a.memfd), 0);
        }
        CHECK_EQ(uswitch_ring_start(us, &ring, a.kick[1], a.call[1]), 0);
        ring = toy_guest_ring(5, 0);
        CHECK_EQ(uswitch_ring_start(us, &ring, a.kick[0], a.call[0]), 0);
        make_frame(frame, 2, 1, (uint8_t)round);
        CHECK(toy_guest_send(&a, frame, 60));
        CHECK_EQ(await_frame(us, &b, got, sizeof(got)), 60);
    }
    uswitch_destroy(us);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

TEST(broken_ports_are_news)
{
    break_and_mend(0);
}

TEST(broken_ports_are_news_from_workers)
{
    break_and_mend(2);
}

/* L7: ports come and go while two guests talk; nothing they send is lost. */
TEST(plugging_under_traffic)
{
    struct uswitch *us = make_switch(2);
    uint8_t frame[60], got[2048];
    struct toy_guest a, b;

    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    CHECK_EQ(toy_guest_plug(&a, us, 1, 10), 0);
    CHECK_EQ(toy_guest_plug(&b, us, 2, 10), 0);
    for (unsigned i = 0; i < 100; i++) {
        struct toy_guest c;

        REQUIRE(toy_guest_create(&c) == 0);
        make_frame(frame, 2, 1, (uint8_t)i);
        CHECK(toy_guest_send(&a, frame, 60));
        CHECK_EQ(toy_guest_plug(&c, us, 3, 10), 0);
        CHECK(toy_guest_send(&a, frame, 60));
        make_frame(frame, 9, 3, 0);
        CHECK(toy_guest_send(&c, frame, 60));
        CHECK_EQ(uswitch_port_del(us, 3), 0);
        for (unsigned n = 0; n < 2; n++) {
            CHECK_EQ(await_frame(us, &b, got, sizeof(got)), 60);
            if (got[11] == 3)   /* from c, whose frame may have made it */
                n--;
        }
        toy_guest_destroy(&c);
        while (toy_guest_receive(&b, got, sizeof(got)) || toy_guest_receive(&a, got, sizeof(got)))
            continue;
    }
    uswitch_destroy(us);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

MAIN
{
    alarm(200);
    RUN(configuration);
    RUN(a_cpu_that_is_not_there);
    RUN(switch_page);
    RUN(ports_come_and_go);
    RUN(tap_needs_a_tap);
    RUN(adapter_arguments);
    RUN(every_port_id);
    RUN(destroy_with_ports);
    RUN(tables_and_limits);
    RUN(ring_arguments);
    RUN(guests_talk_by_poll_calls);
    RUN(guests_talk_by_one_worker);
    RUN(guests_talk_by_three_workers);
    RUN(queues_are_spread_over_workers);
    RUN(broken_ports_are_news);
    RUN(broken_ports_are_news_from_workers);
    RUN(plugging_under_traffic);
}
