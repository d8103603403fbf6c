/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_zero_copy_switch.c - zero copy on a whole switch: which adapter gets
 * which guest's memory, as ports come and go in any order.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nic/lend_rig.h"
#include "nic/vfio.h"
#include "toy_guest.h"

#define FRAME 1500u
#define NIC 2

static struct lend_rig *k;
static struct us_state_page *page;

/* In the place of vfio.c. */
int vfio_open(int iommu_fd, int device_fd, bool iommufd, struct nic_device **out)
{
    (void)iommu_fd;
    (void)device_fd;
    (void)iommufd;
    k->alive = true;
    *out = &k->dev;
    return 0;
}

static struct uswitch *start_with(uint32_t workers)
{
    const struct us_config config = { .n_workers = workers, .fdb_buckets = 64, .fdb_age_s = 300, .cpu = { -1, -1 } };
    struct uswitch *us = NULL;

    k = lend_rig_create();
    k->alive = false;
    if (uswitch_create(&config, &us) < 0)
        exit(EXIT_FAILURE);
    return us;
}

static struct uswitch *start(void)
{
    return start_with(0);
}

static void end(struct uswitch *us)
{
    uswitch_destroy(us);
    CHECK(lend_rig_free(k));
}

static int add_nic(struct uswitch *us)
{
    const struct us_port_add add = { .port_id = NIC, .kind = US_KIND_NIC, .max_frame = 1514, .fdb_quota = 100,
                                     .n_queues = 1, .nic_flags = US_NIC_ZERO_COPY };
    const struct us_port_tags tags = { .port_id = NIC, .n = 1, .row = { { 10, 1 } } };
    const int state_fd = us_state_page_create(NIC), fds[2] = { 0, 0 };
    int rc;

    if (page)
        munmap(page, US_STATE_PAGE_SIZE);
    page = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ, MAP_SHARED, state_fd, 0);
    rc = uswitch_port_add(us, &add, state_fd, fds, 2);
    close(state_fd);
    return rc < 0 ? rc : uswitch_port_tags(us, &tags);
}

static void plug(struct uswitch *us, struct toy_guest *g, uint32_t id)
{
    struct us_port_macs macs = { .port_id = id, .n = 1, .mac = { { 2, 0, 0, 0, 0, (uint8_t)id } } };

    CHECK_EQ(toy_guest_create(g), 0);
    CHECK_EQ(toy_guest_plug(g, us, id, 1), 0);
    CHECK_EQ(uswitch_port_macs(us, &macs), 0);
}

/* To everybody, so to the wire and to the other guests. */
static void send_all(struct toy_guest *g, uint8_t from)
{
    uint8_t frame[FRAME] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, from, 0x88, 0xb5 };

    memset(frame + 14, from, FRAME - 14);
    CHECK(toy_guest_send(g, frame, FRAME));
}

/* Used entries of the guest's transmit ring. */
static unsigned used(const struct toy_guest *g)
{
    return __atomic_load_n((const uint16_t *)(const void *)(g->ram + 0x3000 + 0x2000 + 2), __ATOMIC_ACQUIRE);
}

TEST(memory_of_who_is_there)
{
    struct uswitch *const us = start();
    struct toy_guest first, second;
    uint64_t pool;

    plug(us, &first, 1);
    CHECK_EQ(add_nic(us), 0);
    CHECK_EQ(k->n, 1);
    plug(us, &second, 3);
    CHECK_EQ(k->n, 2);
    pool = page->nic.pool_bytes;
    send_all(&first, 1);
    send_all(&second, 3);
    (void)uswitch_poll(us);
    CHECK_EQ(k->m.n_sent, 2);
    CHECK_EQ(k->m.e.guest_reads, 2);
    (void)uswitch_poll(us);
    CHECK_EQ(used(&first), 1);
    CHECK_EQ(used(&second), 1);
    CHECK_EQ(uswitch_port_del(us, 1), 0);
    CHECK_EQ(k->n, 1);
    CHECK_EQ(pool - page->nic.pool_bytes, toy_guest_mem(1).region[0].size);
    CHECK_EQ(uswitch_port_del(us, NIC), 0);
    CHECK_EQ(k->n, 0);
    CHECK(!k->alive);
    send_all(&second, 3);
    (void)uswitch_poll(us);
    CHECK_EQ(used(&second), 2);
    end(us);
    toy_guest_destroy(&first);
    toy_guest_destroy(&second);
}

/* A flooded frame is read in place by the device, copied for a guest, and waits once. */
TEST(flooded_frame)
{
    struct uswitch *const us = start();
    struct toy_guest first, second;
    uint8_t got[2048];

    plug(us, &first, 1);
    plug(us, &second, 3);
    CHECK_EQ(add_nic(us), 0);
    k->m.tx_hold = true;
    send_all(&first, 1);
    (void)uswitch_poll(us);
    CHECK_EQ(toy_guest_receive(&second, got, sizeof(got)), FRAME);
    CHECK_EQ(got[FRAME - 1], 1);
    CHECK_EQ(used(&first), 0);
    igm_send(&k->m);
    (void)uswitch_poll(us);
    CHECK_EQ(used(&first), 1);
    CHECK_EQ(k->m.n_sent, 1);
    end(us);
    toy_guest_destroy(&first);
    toy_guest_destroy(&second);
}

/* With guests that do not fit the adapter is refused, and says how much it would have been. */
TEST(refused_with_numbers)
{
    struct uswitch *const us = start();
    struct toy_guest first, second;
    const uint64_t size = toy_guest_mem(1).region[0].size;
    uint64_t pool;

    CHECK_EQ(add_nic(us), 0);
    pool = page->nic.pool_bytes;
    CHECK_EQ(uswitch_port_del(us, NIC), 0);
    plug(us, &first, 1);
    plug(us, &second, 3);
    k->refuse = -EDQUOT;
    CHECK_EQ(add_nic(us), -EDQUOT);
    CHECK_EQ(page->nic.pool_bytes, pool + 2 * size);
    CHECK(!k->alive);
    CHECK_EQ(k->n, 0);
    send_all(&first, 1);
    (void)uswitch_poll(us);
    CHECK_EQ(used(&first), 1);
    end(us);
    toy_guest_destroy(&first);
    toy_guest_destroy(&second);
}

/* A guest that comes when no more fits is served, by copying. */
TEST(latecomer_is_copied)
{
    struct uswitch *const us = start();
    struct toy_guest guest;

    CHECK_EQ(add_nic(us), 0);
    k->refuse = -EDQUOT;
    plug(us, &guest, 1);
    k->m.tx_hold = true;
    send_all(&guest, 1);
    (void)uswitch_poll(us);
    CHECK_EQ(used(&guest), 1);
    igm_send(&k->m);
    CHECK_EQ(k->m.n_sent, 1);
    CHECK_EQ(k->m.e.guest_reads, 0);
    end(us);
    toy_guest_destroy(&guest);
}

/* The device is started anew while a guest waits for it. */
TEST(reset_frees)
{
    struct uswitch *const us = start();
    struct toy_guest guest;

    plug(us, &guest, 1);
    CHECK_EQ(add_nic(us), 0);
    for (unsigned i = 0; i < 3; i++) {
        k->m.tx_hold = true;
        send_all(&guest, 1);
        (void)uswitch_poll(us);
        CHECK_EQ(used(&guest), 2 * i);
        CHECK_EQ(uswitch_nic_reset(us, NIC), 0);
        (void)uswitch_poll(us);
        CHECK_EQ(used(&guest), 2 * i + 1);
        k->m.tx_hold = false;
        send_all(&guest, 1);
        (void)uswitch_poll(us);
        (void)uswitch_poll(us);
        CHECK_EQ(used(&guest), 2 * i + 2);
        CHECK_EQ(k->m.n_sent, i + 1);
    }
    end(us);
    toy_guest_destroy(&guest);
}

/* A fenced adapter is stopped when that is told, so that nobody waits until it is started anew. */
TEST(fence_frees)
{
    struct uswitch *const us = start();
    struct us_event event;
    struct toy_guest guest;

    plug(us, &guest, 1);
    CHECK_EQ(add_nic(us), 0);
    k->m.tx_hold = true;
    send_all(&guest, 1);
    (void)uswitch_poll(us);
    for (unsigned long i = 0; i < 1000000000ul && page->broken == BREAK_none; i++)
        (void)uswitch_poll(us);
    CHECK_EQ(page->broken, BREAK_nic_error);
    CHECK_EQ(used(&guest), 0);
    CHECK_EQ(uswitch_event_next(us, &event), 1);
    CHECK_EQ(event.port_id, NIC);
    (void)uswitch_poll(us);
    CHECK_EQ(used(&guest), 1);
    k->m.tx_hold = false;
    CHECK_EQ(uswitch_nic_reset(us, NIC), 0);
    send_all(&guest, 1);
    (void)uswitch_poll(us);
    CHECK_EQ(k->m.n_sent, 1);
    end(us);
    toy_guest_destroy(&guest);
}

/* The ring stops, is forgotten and started again, as at a guest's reboot. */
TEST(ring_stops_and_starts)
{
    struct uswitch *const us = start();
    struct toy_guest guest;
    struct us_vhost_ring again;

    plug(us, &guest, 1);
    CHECK_EQ(add_nic(us), 0);
    k->m.tx_hold = true;
    send_all(&guest, 1);
    (void)uswitch_poll(us);
    lend_rig_fetch_later(k);
    CHECK_EQ(uswitch_ring_stop(us, 1, 1), 1);
    lend_rig_fetched(k);
    CHECK_EQ(used(&guest), 1);
    CHECK_EQ(k->m.n_sent, 1);
    again = toy_guest_ring(1, 1);
    again.base = 1;
    CHECK_EQ(uswitch_ring_start(us, &again, guest.kick[1], guest.call[1]), 0);
    k->m.tx_hold = false;
    send_all(&guest, 1);
    (void)uswitch_poll(us);
    (void)uswitch_poll(us);
    CHECK_EQ(used(&guest), 2);
    CHECK_EQ(k->m.e.guest_reads, 2);
    end(us);
    toy_guest_destroy(&guest);
}

/* Workers send for two guests while one's memory is mapped anew and the adapter is reset, again and again. */
TEST(moves_beside_workers)
{
    struct uswitch *const us = start_with(2);
    const struct us_vhost_mem mem = toy_guest_mem(1);
    struct toy_guest first, second;
    uint8_t frame[FRAME] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };
    unsigned sent[2] = { 0 };

    k->m.discard = true;
    plug(us, &first, 1);
    plug(us, &second, 3);
    CHECK_EQ(add_nic(us), 0);
    for (unsigned i = 0; i < 200; i++) {
        for (unsigned j = 0; j < 8; j++) {
            frame[11] = 1;
            sent[0] += toy_guest_send(&first, frame, FRAME);
            frame[11] = 3;
            sent[1] += toy_guest_send(&second, frame, FRAME);
        }
        CHECK_EQ(uswitch_vhost_mem(us, &mem, &first.memfd), 0);
        if (i % 20 == 0)
            CHECK_EQ(uswitch_nic_reset(us, NIC), 0);
    }
    for (unsigned i = 0; i < 5000 && (used(&first) != sent[0] % 65536 || used(&second) != sent[1] % 65536); i++)
        (void)poll(NULL, 0, 1);
    CHECK_EQ(used(&first), sent[0] % 65536);
    CHECK_EQ(used(&second), sent[1] % 65536);
    CHECK_EQ(page->broken, BREAK_none);
    uswitch_destroy(us); /* until then workers may be sending copies, and count */
    CHECK(k->m.e.guest_reads > 0);
    CHECK(lend_rig_free(k));
    toy_guest_destroy(&first);
    toy_guest_destroy(&second);
}

MAIN
{
    RUN(memory_of_who_is_there);
    RUN(flooded_frame);
    RUN(refused_with_numbers);
    RUN(latecomer_is_copied);
    RUN(reset_frees);
    RUN(fence_frees);
    RUN(ring_stops_and_starts);
    RUN(moves_beside_workers);
}
