/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_nic_switch.c - a guest and an adapter on one switch: what the guest
 * sends goes out with its tag, comes back by the loop and is received by the
 * guest again; while workers sleep, while the adapter is reset, fenced, taken
 * away.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "drop.h"
#include "nic/loop_nic.h"
#include "nic/nic_counter.h"
#include "nic/vfio.h"
#include "toy_guest.h"

#define VID 10
#define FRAME 200

static struct us_state_page *page;
static int page_fd = -1;
static struct toy_guest guest;

/* In the place of nic_drivers.c. */
const struct nic_driver *nic_find_driver(uint16_t vendor, uint16_t device, uint32_t *variant)
{
    return loop_nic_find(vendor, device, variant);
}

/* In the place of vfio.c. */
int vfio_open(int iommu_fd, int device_fd, bool iommufd, struct nic_device **out)
{
    return loop_nic_vfio_open(iommu_fd, device_fd, iommufd, out);
}

static struct uswitch *start(uint32_t workers)
{
    const struct us_config config = {
        .n_workers = workers, .poll_us = 0, .fdb_buckets = 64, .fdb_age_s = 300, .cpu = { -1, -1 },
    };
    const struct us_port_add add = {
        .port_id = 2, .kind = US_KIND_NIC, .max_frame = 1514, .fdb_quota = 100, .n_queues = 2,
    };
    const struct us_port_tags tags = { .port_id = 2, .n = 1, .row = { { VID, 1 } } };
    const struct us_port_macs macs = { .port_id = 1, .n = 1, .mac = { { 2, 0, 0, 0, 0, 1 } } };
    const int state_fd = us_state_page_create(2), fds[2] = { 0, 0 };
    struct uswitch *us = NULL;

    page = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ, MAP_SHARED, state_fd, 0);
    loop_nic_reset();
    if (uswitch_create(&config, &us) < 0 || toy_guest_create(&guest) < 0)
        exit(EXIT_FAILURE);
    CHECK_EQ(toy_guest_plug(&guest, us, 1, 1), 0);
    CHECK_EQ(uswitch_port_macs(us, &macs), 0);
    CHECK_EQ(uswitch_port_add(us, &add, state_fd, fds, 2), 0);
    CHECK_EQ(uswitch_port_tags(us, &tags), 0);
    page_fd = state_fd;
    return us;
}

static void end(struct uswitch *us)
{
    uswitch_destroy(us);
    CHECK(!loop_nic.alive && !loop_nic.pool && !loop_nic.bars);
    toy_guest_destroy(&guest);
    munmap(page, US_STATE_PAGE_SIZE);
    close(page_fd);
}

static bool send(uint8_t mark)
{
    uint8_t frame[FRAME] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, mark };

    return toy_guest_send(&guest, frame, sizeof(frame));
}

/* The guest's next frame, without the tag that it had on the wire; within two seconds. */
static bool echoed(struct uswitch *us, uint8_t mark)
{
    uint8_t got[2048];

    for (unsigned i = 0; i < 2000; i++) {
        uint32_t len;

        (void)uswitch_poll(us);
        len = toy_guest_receive(&guest, got, sizeof(got));
        if (len)
            return len == FRAME && got[12] == 0x88 && got[14] == mark;
        poll(NULL, 0, 1);
    }
    return false;
}

static void echoes(uint32_t workers)
{
    struct uswitch *const us = start(workers);

    for (unsigned i = 0; i < 200; i++) {
        CHECK(send((uint8_t)i));
        if (!CHECK(echoed(us, (uint8_t)i)))
            break;
    }
    CHECK_EQ(page->in[0].frames + page->in[1].frames, 200);
    CHECK_EQ(page->out[0].frames + page->out[1].frames, 200);
    CHECK_EQ(page->out[0].bytes + page->out[1].bytes, 200 * (FRAME + 4));
    CHECK_EQ(uswitch_port_del(us, 2), 0);
    CHECK(!loop_nic.alive);
    end(us);
}

TEST(tagged_out_and_back)
{
    echoes(0);
    echoes(2);
}

/* Frames fly while the device is stopped under them. */
static void resets(uint32_t workers)
{
    struct uswitch *const us = start(workers);
    uint8_t got[2048];

    for (unsigned i = 0; i < 50; i++) {
        for (unsigned n = 0; n < 20; n++)
            (void)send(0);
        (void)uswitch_poll(us);
        CHECK_EQ(uswitch_nic_reset(us, 2), 0);
        while (toy_guest_receive(&guest, got, sizeof(got)))
            ;
    }
    CHECK_EQ(page->nic.resets, 50);
    CHECK_EQ(page->broken, BREAK_none);
    for (unsigned i = 0; i < 300 && toy_guest_receive(&guest, got, sizeof(got)); i++)
        poll(NULL, 0, 1);
    end(us);
}

/* The adapter comes back, or another process starts it: its port has the same page. */
TEST(counters_go_on)
{
    const struct us_port_add add = {
        .port_id = 2, .kind = US_KIND_NIC, .max_frame = 1514, .fdb_quota = 100, .n_queues = 2,
    };
    struct uswitch *const us = start(0);
    const int fds[2] = { 0, 0 };

    CHECK_EQ(uswitch_nic_reset(us, 2), 0);
    for (uint64_t lives = 1; lives < 4; lives++) {
        CHECK_EQ(uswitch_nic_read(us, 2), 0);
        CHECK_EQ(page->nic.counter[NIC_COUNTER_rx_packets], lives * 42);
        CHECK_EQ(page->nic.counter[NIC_COUNTER_rx_missed], US_NIC_COUNTER_NONE);
        CHECK_EQ(page->nic.resets, 1);
        CHECK_EQ(uswitch_port_del(us, 2), 0);
        CHECK_EQ(page->nic.counter[NIC_COUNTER_rx_packets], lives * 42);
        CHECK_EQ(uswitch_port_add(us, &add, page_fd, fds, 2), 0);
    }
    end(us);
}

TEST(reset_under_traffic)
{
    resets(0);
    resets(2);
}

TEST(fenced_and_mended)
{
    struct uswitch *const us = start(2);
    struct pollfd news = { .fd = uswitch_event_fd(us), .events = POLLIN };
    struct us_event event;

    CHECK(send(1) && echoed(us, 1));
    loop_nic.lost(loop_nic.lost_arg);
    CHECK_EQ(poll(&news, 1, 2000), 1);
    CHECK_EQ(uswitch_event_next(us, &event), 1);
    CHECK_EQ(event.reason, BREAK_device_gone);
    CHECK_EQ(event.port_id, 2);
    loop_nic.fail = LOOP_START;
    loop_nic.error = -EIO;
    CHECK_EQ(uswitch_nic_reset(us, 2), -EIO);
    loop_nic.fail = LOOP_NONE;
    CHECK_EQ(uswitch_nic_reset(us, 2), 0);
    CHECK_EQ(uswitch_event_next(us, &event), 0);
    CHECK(send(2) && echoed(us, 2));
    end(us);
}

TEST(link_is_news)
{
    struct uswitch *const us = start(1);
    struct pollfd device = { .fd = uswitch_device_fd(us), .events = POLLIN };
    struct us_event event;

    CHECK_EQ(uswitch_nic_read(us, 2), 0);
    CHECK_EQ(uswitch_event_next(us, &event), 0);
    loop_nic.link_up = false;
    loop_nic_signal(loop_nic.irq_fd[2]);
    CHECK_EQ(poll(&device, 1, 2000), 1);
    uswitch_device_work(us);
    CHECK_EQ(uswitch_event_next(us, &event), 1);
    CHECK_EQ(event.kind, US_EVENT_LINK);
    CHECK_EQ(event.ring, 0);
    loop_nic.link_up = true;
    loop_nic.speed = 10000;
    CHECK_EQ(uswitch_nic_read(us, 2), 0);
    CHECK_EQ(uswitch_event_next(us, &event), 1);
    CHECK_EQ(event.ring, 1);
    CHECK_EQ(event.detail, 10000);
    CHECK_EQ(uswitch_event_next(us, &event), 0);
    end(us);
}

/* A device that does not say that its link went is asked now and then; one that is fenced is left alone. */
TEST(devices_are_read)
{
    struct uswitch *const us = start(1);

    CHECK(uswitch_device_check(us) > 0);
    CHECK_EQ(page->nic.link_up, 1);
    loop_nic.link_up = false;
    CHECK(uswitch_device_check(us) > 0);
    CHECK_EQ(page->nic.link_up, 0);
    CHECK_EQ(page->nic.link_changes, 1);
    loop_nic.lost(loop_nic.lost_arg);
    loop_nic.link_up = true;
    CHECK(uswitch_device_check(us) > 0);
    CHECK_EQ(page->nic.link_changes, 1);
    CHECK_EQ(uswitch_port_del(us, 2), 0);
    CHECK_EQ(uswitch_device_check(us), -1);
    end(us);
}

TEST(limits_and_refusals)
{
    struct uswitch *const us = start(0);
    struct us_port_limits limits = { .port_id = 2, .max_frame = 1515, .fdb_quota = 1 };
    const struct us_port_add add = { .port_id = 3, .kind = US_KIND_NIC, .max_frame = 1514, .n_queues = 1 };
    const int state_fd = us_state_page_create(3), fds[2] = { 0, 0 };

    CHECK_EQ(uswitch_port_limits(us, &limits), -ERANGE);
    limits.max_frame = 600;
    CHECK_EQ(uswitch_port_limits(us, &limits), 0);
    loop_nic.fail = LOOP_OPEN_DEVICE;
    loop_nic.error = -EPERM;
    CHECK_EQ(uswitch_port_add(us, &add, state_fd, fds, 2), -EPERM);
    CHECK_EQ(uswitch_nic_reset(us, 1), -ENOTSUP);
    close(state_fd);
    loop_nic.fail = LOOP_NONE;
    end(us);
}

MAIN
{
    RUN(tagged_out_and_back);
    RUN(counters_go_on);
    RUN(reset_under_traffic);
    RUN(fenced_and_mended);
    RUN(link_is_news);
    RUN(devices_are_read);
    RUN(limits_and_refusals);
}
