/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_nic_hang.c - a transmit queue that stands still is found, on every
 * model, and mended by a reset; one that is idle, slow or blocked by its link
 * is left alone.  Time is the test's.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "nic/igb_model.h"
#include "nic/ixgbe_model.h"
#include "nic/loop_nic.h"
#include "nic/model_device.h"
#include "nic/nic_port_priv.h"
#include "nic/pci.h"
#include "nic/virtio_fixture.h"
#include "state_page.h"

#define RING 128
/* Milliseconds; none of the looks would do alone. */
#define STEP 2000
#define LIMIT 5000

static struct us_state_page *page;
static struct burst burst;
static int64_t now;

static struct us_state_page *new_page(void)
{
    const int fd = us_state_page_create(3);

    if (fd < 0 || state_page_map(fd, &page) < 0)
        exit(EXIT_FAILURE);
    close(fd);
    return page;
}

static struct port *create_on(struct nic_device *d, const struct nic_driver *driver)
{
    const struct us_port_add add = { .port_id = 3, .kind = US_KIND_NIC, .max_frame = 1514, .n_queues = 1,
                                     .ring_size = RING };
    struct port *p = NULL;

    if (nic_port_create_on(&add, new_page(), d, driver, false, -1, &p) < 0)
        exit(EXIT_FAILURE);
    return p;
}

static void end(struct port *p)
{
    p->ops->stop(p);
    p->ops->destroy(p);
}

/* One look after some time; true: the port is fenced. */
static bool look(struct port *p, int64_t after)
{
    now += after;
    nic_port_check_tx(nic_port_of(p), now);
    return port_is_broken(p);
}

static unsigned send(struct port *p, uint32_t len)
{
    uint8_t room[HDR_ROOM + 64] = { 0 };
    static const uint8_t rest[1514];
    struct iovec iov = { (void *)(uintptr_t)rest, len - 64 };
    struct frame f = { .hdr = room + HDR_ROOM, .hdr_len = 64, .len = len, .out_vid = US_VID_UNTAGGED, .iov = &iov,
                       .n_iov = len > 64 };
    struct frame *const list[1] = { &f };

    memset(f.hdr, 2, 12);
    f.hdr[12] = 0x88;
    return p->ops->tx_burst(p, list, 1);
}

/* ---- what is a hang: a driver that says what the test wants ---- */

static struct port *loop_port(void)
{
    struct port *p;

    loop_nic_reset();
    p = create_on(loop_nic_open(), &loop_driver);
    now = 1000000;
    return p;
}

static void stand(uint32_t pending, uint32_t position)
{
    loop_nic.progress[0] = (struct nic_tx_progress){ .pending = pending, .position = position, .around = 4 };
}

TEST(a_hang_takes_its_time)
{
    struct port *const p = loop_port();
    int64_t stood = 0;

    stand(5, 7);
    CHECK(!look(p, STEP));
    for (; stood + STEP < LIMIT; stood += STEP)
        CHECK(!look(p, STEP));
    CHECK(look(p, STEP));
    CHECK(page->broken == BREAK_nic_tx_hang && page->broken_ring == 0 && page->broken_detail == 7);
    CHECK_EQ(nic_port_reset(p), 0);
    CHECK(!look(p, STEP) && !look(p, STEP));
    end(p);
}

TEST(looking_often_changes_nothing)
{
    struct port *const p = loop_port();

    stand(1, 0);
    CHECK(!look(p, 0));
    for (unsigned ms = 10; ms < LIMIT; ms += 10)
        CHECK(!look(p, 10));
    CHECK(look(p, 10));
    end(p);
}

TEST(idle_and_slow_are_no_hang)
{
    struct port *const p = loop_port();

    for (unsigned i = 0; i < 50; i++) {
        stand(0, 7);            /* all taken, reported or not */
        CHECK(!look(p, STEP));
    }
    for (unsigned i = 0; i < 50; i++) {
        stand(100, i / 2);      /* one descriptor in two looks */
        CHECK(!look(p, STEP));
    }
    for (unsigned i = 0; i < 50; i++) {
        stand(i % 2, 7);
        CHECK(!look(p, STEP));
    }
    end(p);
}

TEST(once_around_is_no_hang)
{
    struct port *const p = loop_port();

    for (unsigned i = 0; i < 50; i++) {
        stand(10, 7);
        for (unsigned k = 0; k < 4; k++)        /* as many frames as bring it around */
            CHECK_EQ(send(p, 64), 1);
        (void)p->ops->rx_burst(&p->rxq[0], &burst);
        p->ops->rx_complete(&p->rxq[0], &burst);
        CHECK(!look(p, STEP));
    }
    for (unsigned i = 0; i < 50; i++) {         /* around with what was there already: then less is left */
        stand(100 - i, 7);
        CHECK(!look(p, STEP));
    }
    end(p);
}

TEST(few_frames_do_not_hide_it)
{
    struct port *const p = loop_port();

    stand(5, 7);
    CHECK(!look(p, STEP));
    CHECK(!look(p, STEP));
    CHECK_EQ(send(p, 64), 1);
    stand(6, 7);
    CHECK(!look(p, STEP));
    CHECK(look(p, STEP));
    end(p);
}

TEST(without_a_link_nothing_goes)
{
    struct port *const p = loop_port();

    stand(5, 7);
    CHECK(!look(p, STEP) && !look(p, STEP));
    loop_nic.link_up = false;
    CHECK_EQ(nic_port_read(p), 0);
    for (unsigned i = 0; i < 10; i++)
        CHECK(!look(p, STEP));
    loop_nic.link_up = true;
    CHECK_EQ(nic_port_read(p), 0);
    now += 1000000000;          /* the reading had the machine's time */
    CHECK(!look(p, STEP) && !look(p, STEP));
    end(p);
}

/* The machine stood still: that is one look. */
TEST(time_that_nobody_saw)
{
    struct port *const p = loop_port();

    stand(5, 7);
    CHECK(!look(p, STEP));
    CHECK(!look(p, 3600000));
    stand(5, 8);
    CHECK(!look(p, STEP));
    CHECK(!look(p, 3600000) && !look(p, STEP) && look(p, STEP));
    end(p);
}

/* ---- models that stop sending ---- */

/**
 * struct model - how a model is stopped
 * @name: for messages
 * @create: a port of a new device
 * @hold: it sends nothing any more, or goes on
 * @sent: frames that it took since the last call
 * @end: after the port
 */
struct model {
    const char *name;
    struct port *(*create)(void);
    void (*hold)(bool on);
    unsigned (*sent)(void);
    void (*end)(void);
};

static struct model_device device;
static struct igb_model igb;
static struct ixgbe_model ixgbe;
static struct vm vm;
static uint32_t seen;
static bool held;

static void set_ids(uint16_t vendor, uint16_t id)
{
    uint8_t *const c = device.dev.config;

    c[PCI_VENDOR] = (uint8_t)vendor;
    c[PCI_VENDOR + 1] = (uint8_t)(vendor >> 8);
    c[PCI_DEVICE] = (uint8_t)id;
    c[PCI_DEVICE + 1] = (uint8_t)(id >> 8);
}

static struct port *igb_create(void)
{
    igm_init(&igb, NULL);
    model_device_init(&device, 0, IGM_BAR_SIZE, &igb.bar, &igb.e.pool);
    set_ids(0x8086, 0x10c9);
    seen = 0;
    return create_on(&device.dev, NULL);
}

static void igb_hold(bool on)
{
    igb.tx_hold = on;
    if (!on)
        igm_send(&igb);
}

static unsigned igb_sent(void)
{
    const unsigned n = igb.n_sent - seen;

    seen = igb.n_sent;
    return n;
}

static void igb_end(void)
{
    CHECK(igb.e.faults == 0 && igb.e.breaches == 0);
    igm_fini(&igb);
}

static struct port *ixgbe_create(void)
{
    ixm_init(&ixgbe, NULL, IXM_82599);
    model_device_init(&device, 0, IXM_BAR_SIZE, &ixgbe.bar, &ixgbe.pool);
    set_ids(0x8086, IXM_82599);
    seen = 0;
    return create_on(&device.dev, NULL);
}

static void ixgbe_hold(bool on)
{
    if (on)
        ixgbe.tx_hold = true;
    else
        ixm_send(&ixgbe);
}

static unsigned ixgbe_sent(void)
{
    const unsigned n = ixgbe.n_sent - seen;

    seen = ixgbe.n_sent;
    return n;
}

static void ixgbe_end(void)
{
    CHECK_EQ(ixgbe.breaches, 0);
    ixm_fini(&ixgbe);
}

static struct port *vm_create(unsigned shape)
{
    vm_init(&vm, NULL, shape_features(shape), 64);
    model_device_init(&device, VM_BAR, VM_BAR_SIZE, &vm.model, &vm.pool);
    memcpy(device.dev.config, vm.config, sizeof(device.dev.config));
    held = false;
    return create_on(&device.dev, NULL);
}

static struct port *split_create(void)
{
    return vm_create(SHAPE_EVENT_IDX);
}

static struct port *packed_create(void)
{
    return vm_create(SHAPE_PACKED);
}

static struct port *packed_in_order_create(void)
{
    return vm_create(SHAPE_PACKED | SHAPE_IN_ORDER | SHAPE_EVENT_IDX);
}

static void vm_hold(bool on)
{
    held = on;
}

static unsigned vm_sent(void)
{
    static uint8_t frame[VFIX_FRAME_MAX], hdr[VM_HDR_LEN];
    unsigned n = 0;

    while (!held && vm_send(&vm, 0, hdr, frame, sizeof(frame)) >= 0)
        n++;
    return n;
}

static void vm_end(void)
{
    CHECK_EQ(vm.violations, 0);
}

static const struct model models[] = {
    { "igb", igb_create, igb_hold, igb_sent, igb_end },
    { "ixgbe", ixgbe_create, ixgbe_hold, ixgbe_sent, ixgbe_end },
    { "virtio, split", split_create, vm_hold, vm_sent, vm_end },
    { "virtio, packed", packed_create, vm_hold, vm_sent, vm_end },
    { "virtio, packed in order", packed_in_order_create, vm_hold, vm_sent, vm_end },
};

#define N_MODELS (sizeof(models) / sizeof(models[0]))

static void end_model(const struct model *m, struct port *p)
{
    end(p);
    m->end();
}

/* From a few frames that are not taken to a full ring; a reset makes it work again. */
TEST(every_model_is_caught_and_mended)
{
    for (unsigned i = 0; i < N_MODELS; i++) {
        const struct model *const m = &models[i];
        struct port *const p = m->create();

        for (unsigned frames = 1; frames <= 4 * RING; frames *= 16) {
            unsigned looks = 1;

            m->hold(true);
            for (unsigned k = 0; k < frames; k++)
                (void)send(p, 64);
            CHECK(!look(p, STEP));
            while (!look(p, STEP) && looks < 10)
                looks++;
            if (!CHECK(page->broken == BREAK_nic_tx_hang && looks == LIMIT / STEP + 1))
                fprintf(stderr, "%s, %u frames, %u looks\n", m->name, frames, looks);
            m->hold(false);
            (void)m->sent();
            CHECK_EQ(nic_port_reset(p), 0);
            CHECK_EQ(page->broken, BREAK_none);
            (void)m->sent();
            CHECK_EQ(send(p, 64), 1);
            CHECK_EQ(m->sent(), 1);
        }
        CHECK_EQ(page->nic.resets, 3);
        end_model(m, p);
    }
}

/* Frames that were taken and never reported, since nobody sends: the tail of every burst. */
TEST(no_model_is_idle_and_suspected)
{
    for (unsigned i = 0; i < N_MODELS; i++) {
        const struct model *const m = &models[i];
        struct port *const p = m->create();

        for (unsigned n = 1; n < 3 * RING; n++) {
            CHECK_EQ(send(p, n % 2 ? 64 : 1514), 1);
            CHECK_EQ(m->sent(), 1);
            if (n % 7)
                continue;
            for (unsigned k = 0; k < 4; k++) {
                if (!CHECK(!look(p, STEP)))
                    fprintf(stderr, "%s after %u frames\n", m->name, n);
            }
        }
        end_model(m, p);
    }
}

/* Exactly one ring between two looks, and something waits at each of them. */
TEST(no_model_is_at_the_same_place_and_suspected)
{
    for (unsigned i = 0; i < N_MODELS; i++) {
        const struct model *const m = &models[i];
        struct port *const p = m->create();

        for (unsigned n = 0; n < 20; n++) {
            m->hold(true);
            CHECK_EQ(send(p, 64), 1);
            if (!CHECK(!look(p, STEP)))
                fprintf(stderr, "%s, round %u\n", m->name, n);
            m->hold(false);
            (void)m->sent();
            for (unsigned k = 1; k < RING; k++) {
                CHECK_EQ(send(p, 64), 1);
                (void)m->sent();
            }
        }
        end_model(m, p);
    }
}

/**
 * struct worker - a thread that sends
 * @m: model, sends at once
 * @p: port
 * @done: it is through
 */
struct worker {
    const struct model *m;
    struct port *p;
    _Atomic bool done;
};

static void *work(void *arg)
{
    struct worker *const w = arg;
    unsigned sent = 0;

    for (unsigned i = 0; i < 20000; i++) {
        (void)send(w->p, 64);
        sent += w->m->sent();
    }
    CHECK_EQ(sent, 20000);
    atomic_store(&w->done, true);
    return NULL;
}

/* What is read is written by a worker meanwhile; the registers of the other models know one thread only. */
TEST(virtio_is_looked_at_beside_a_worker)
{
    for (unsigned i = 0; i < N_MODELS; i++) {
        struct worker w = { .m = &models[i] };
        pthread_t thread;

        if (models[i].create == igb_create || models[i].create == ixgbe_create)
            continue;
        w.p = w.m->create();
        REQUIRE(pthread_create(&thread, NULL, work, &w) == 0);
        while (!atomic_load(&w.done))
            CHECK(!look(w.p, 0));
        pthread_join(thread, NULL);
        end_model(w.m, w.p);
    }
}

MAIN
{
    RUN(a_hang_takes_its_time);
    RUN(looking_often_changes_nothing);
    RUN(idle_and_slow_are_no_hang);
    RUN(once_around_is_no_hang);
    RUN(few_frames_do_not_hide_it);
    RUN(without_a_link_nothing_goes);
    RUN(time_that_nobody_saw);
    RUN(every_model_is_caught_and_mended);
    RUN(no_model_is_idle_and_suspected);
    RUN(no_model_is_at_the_same_place_and_suspected);
    RUN(virtio_is_looked_at_beside_a_worker);
}
