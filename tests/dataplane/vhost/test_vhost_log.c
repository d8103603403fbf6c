/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_vhost_log.c - a port under a log of dirty pages: whatever page of guest
 * memory differs after a burst has its bit, for buffers of every shape and
 * for the rings themselves.  The memory is compared as a whole (what its file
 * does not even hold is zeros), so it is not a matter of where the switch
 * believes to write.
 */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/rcu.h"
#include "vhost/driver.h"
#include "vhost/packed_driver.h"
#include "vhost/virtq.h"

#define PAGE 4096ULL
#define LOG_SIZE ((DRV_END + PAGE * 8 - 1) / (PAGE * 8))
#define RING_PAGES (640u << 10) /* from a ring's start to its used ring, see driver.c */

static struct driver d;
static struct drv_frame frame[4];
static struct burst burst;
static uint64_t *before;        /* memory when it was looked at last */
static uint8_t *bits;
static int log_fd;

static uint64_t used_gpa(uint32_t ring)
{
    return DRV_GPA + (uint64_t)ring * (1u << 20) + RING_PAGES;
}

static int set_log(bool on, uint64_t used)
{
    struct us_vhost_log log = { .on = on };

    if (on) {
        log.size = LOG_SIZE;
        log.used = used;
        log.used_gpa[0] = used_gpa(0);
        log.used_gpa[1] = used_gpa(1);
    }
    return vhost_port_set_log(d.port, &log, on ? log_fd : -1);
}

static bool dirty(uint64_t gpa)
{
    return bits[gpa / PAGE / 8] >> gpa / PAGE % 8 & 1;
}

/* All of memory passes here many times, with nobody else in it: ThreadSanitizer's account of it would take minutes. */
__attribute__((no_sanitize("thread"))) static bool changed(uint64_t gpa)
{
    const uint64_t *const now = drv_ptr(&d, gpa), *const was = before + (gpa - DRV_GPA) / sizeof(*was);
    uint64_t differs = 0;

    for (unsigned i = 0; i < PAGE / sizeof(*now); i++)
        differs |= now[i] ^ was[i];
    return differs;
}

/*
 * The next page that the memory's file holds, from this one on; DRV_END if there is none.  The others nobody has
 * written, by whatever mapping: most of memory, and no need to read their zeros again after every frame.
 */
static uint64_t held(uint64_t gpa)
{
    const uint64_t off = gpa - DRV_GPA;
    const off_t at = lseek(d.memfd, (off_t)(off < DRV_SIZE0 ? off : off + DRV_GAP), SEEK_DATA);

    if (at < 0)
        return DRV_END;
    if (at >= DRV_SIZE0 && at < DRV_SIZE0 + DRV_GAP)
        return held(DRV_BORDER);
    return DRV_GPA + ((uint64_t)at < DRV_SIZE0 ? (uint64_t)at : (uint64_t)at - DRV_GAP);
}

/* What the driver has written so far is not the switch's doing. */
static void snapshot(void)
{
    for (uint64_t gpa = held(DRV_GPA); gpa < DRV_END; gpa = held(gpa + PAGE)) {
        if (changed(gpa))
            drv_read(&d, gpa, before + (gpa - DRV_GPA) / sizeof(*before), PAGE);
    }
    memset(bits, 0, LOG_SIZE);
}

/* Every page that changed has its bit; returns how many changed. */
static unsigned check_pages(void)
{
    unsigned n = 0, marked = 0;

    for (uint64_t i = 0; i < LOG_SIZE; i++)
        marked += (unsigned)__builtin_popcount(bits[i]);
    for (uint64_t gpa = held(DRV_GPA); gpa < DRV_END; gpa = held(gpa + PAGE)) {
        if (!changed(gpa))
            continue;
        n++;
        if (!CHECK(dirty(gpa)))
            fprintf(stderr, "gpa %#" PRIx64 "\n", gpa);
    }
    CHECK(marked <= n + 8); /* and not simply everything */
    return n;
}

static void begin(uint64_t features, uint32_t size)
{
    drv_create(&d, features, size);
    before = calloc(1, DRV_SIZE0 + DRV_SIZE1);
    log_fd = memfd_create("log", MFD_CLOEXEC);
    if (!before || ftruncate(log_fd, LOG_SIZE) != 0)
        abort();
    bits = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, log_fd, 0);
    CHECK_EQ(set_log(true, 3), 0);
}

static void end(void)
{
    drv_destroy(&d);
    munmap(bits, LOG_SIZE);
    close(log_fd);
    free(before);
}

/* A frame into one buffer that begins anywhere in a page. */
TEST(received_in_one_buffer)
{
    static const uint64_t features[] = { F_V1, F_V1 | F_MRG, F_V1 | F_EVENT, 0 };

    for (unsigned f = 0; f < 4; f++) {
        begin(features[f], 16);
        for (unsigned i = 0; i < 64; i++) {
            const uint64_t at = DRV_BUF + i * 3 * PAGE + i * 67;

            drv_one(&d.rx, (uint16_t)(i % 16), at, 3 * PAGE, D_WRITE);
            drv_frame(&frame[0], 14 + i * 140, i);
            snapshot();
            CHECK_EQ(drv_tx(&d, &frame[0]), 1);
            CHECK(check_pages() >= 2); /* buffer and used ring */
            CHECK(dirty(at));
            CHECK(dirty(at + 12 + 14 + i * 140 - 1));
            CHECK(dirty(used_gpa(0)));
        }
        CHECK_EQ(drv_drops(&d), 0);
        end();
    }
}

/* Chains, indirect tables, and the border between two regions. */
TEST(received_in_chains)
{
    begin(F_V1 | F_INDIRECT, 16);
    for (unsigned i = 0; i < 32; i++) {
        const uint64_t at = DRV_BORDER - 2 * PAGE + i * 251;

        if (i % 2) {
            drv_desc(&d.rx, 0, DRV_BUF + i, 100, D_WRITE | D_NEXT, 1);
            drv_desc(&d.rx, 1, at, 4 * PAGE, D_WRITE | D_NEXT, 2);
            drv_desc(&d.rx, 2, DRV_BORDER + 64 * PAGE, 4 * PAGE, D_WRITE, 0);
        } else {
            drv_table(&d, DRV_TABLE, 0, DRV_BUF + i, 100, D_WRITE | D_NEXT, 1);
            drv_table(&d, DRV_TABLE, 1, at, 9 * PAGE, D_WRITE, 0);
            drv_desc(&d.rx, 0, DRV_TABLE, 32, D_INDIRECT, 0);
        }
        drv_offer(&d.rx, 0);
        drv_publish(&d.rx);
        drv_frame(&frame[0], 9000, i);
        snapshot();
        CHECK_EQ(drv_tx(&d, &frame[0]), 1);
        CHECK(check_pages() >= 4);
        CHECK(dirty(DRV_BORDER));
    }
    CHECK_EQ(drv_drops(&d), 0);
    end();
}

/* num_buffers is written last, into a page whose bit may have been taken away meanwhile. */
TEST(received_in_merged_buffers)
{
    begin(F_V1 | F_MRG, 16);
    for (unsigned i = 0; i < 32; i++) {
        for (unsigned k = 0; k < 8; k++)
            drv_one(&d.rx, (uint16_t)((i * 8 + k) % 16), DRV_BUF + (i * 8 + k) * 4 * PAGE + 4090, 1500, D_WRITE);
        drv_frame(&frame[0], 8 * 1500 - 12, i);
        frame[0].f.len = 8 * 1500 - 12;
        snapshot();
        CHECK_EQ(drv_tx(&d, &frame[0]), 1);
        CHECK(check_pages() >= 9);
    }
    CHECK_EQ(drv_drops(&d), 0);
    end();
}

/* What the switch writes for frames that it takes: used elements, and what it asks of the driver. */
TEST(transmitted)
{
    begin(F_V1, 256);
    for (unsigned i = 0; i < 600; i++) {
        drv_one(&d.tx, (uint16_t)(i % 256), DRV_BUF, 12 + 60, 0);
        snapshot();
        CHECK_EQ(drv_rx(&d, &burst), 1);
        CHECK(check_pages() >= 1);
        CHECK(dirty(used_gpa(1)));
        snapshot();
        d.port->ops->arm(&d.port->rxq[0]);
        d.port->ops->disarm(&d.port->rxq[0]);
        CHECK(check_pages() <= 1);
        CHECK(dirty(used_gpa(1)));
    }
    end();
}

/*
 * Packed rings: what is handed back lies in the descriptors themselves, over the ring's end as well.  Chains of one
 * descriptor and of two, frames over several buffers, and rings of more than a page.
 */
TEST(packed_received)
{
    static const uint32_t sizes[] = { 5, 64, 300, 1000 };

    for (unsigned k = 0; k < 8; k++) {
        const uint32_t size = sizes[k / 2], descs = 1 + k % 2, frames = size < 16 ? 1 : 4;
        struct frame *list[4] = { &frame[0].f, &frame[1].f, &frame[2].f, &frame[3].f };
        struct pk_ring rx;
        uint32_t offered = 0, back = 0, len;
        uint16_t id;

        begin(F_V1 | F_PACKED | F_MRG | (k & 1 ? F_EVENT : 0), size);
        pk_open(&rx, &d.rx);
        for (unsigned i = 0; i < 80; i++) {
            for (; (offered - back + 1) * descs <= size && offered - back < 8; offered++) {
                const uint64_t at = DRV_BUF + offered % 200 * 3 * PAGE + offered % 4001;
                const struct pk_part part[2] = { { at, 800, D_WRITE }, { at + 5000, 800, D_WRITE } };

                pk_offer(&rx, part, descs, (uint16_t)offered);
            }
            for (uint32_t f = 0; f < frames; f++)
                drv_frame(&frame[f], 60 + (i * 97 + f) % 1400, i + f);
            snapshot();
            CHECK_EQ(d.port->ops->tx_burst(d.port, list, frames), frames);
            CHECK(check_pages() >= 2); /* buffer and ring */
            for (; pk_used(&rx, descs, &id, &len); back++)
                CHECK_EQ(id, (uint16_t)back);
        }
        CHECK_EQ(drv_drops(&d), 0);
        end();
    }
}

TEST(packed_transmitted)
{
    static const uint32_t sizes[] = { 3, 256, 1000 };

    for (unsigned k = 0; k < 6; k++) {
        const uint32_t most = sizes[k / 2] < 40 ? 1 : 20;
        struct pk_ring tx;

        begin(F_V1 | F_PACKED | (k & 1 ? F_EVENT : 0), sizes[k / 2]);
        pk_open(&tx, &d.tx);
        for (unsigned i = 0; i < 80; i++) {
            const struct pk_part part[2] = { { DRV_BUF, 12, 0 }, { DRV_BUF + 12, 60, 0 } };
            const struct pk_part whole = { DRV_BUF, 12 + 60, 0 };

            for (unsigned f = 0; f < most; f++)
                pk_offer(&tx, i % 3 ? &whole : part, i % 3 ? 1 : 2, (uint16_t)i);
            snapshot();
            CHECK_EQ(drv_rx(&d, &burst), most);
            CHECK(check_pages() >= 1);
            snapshot();
            d.port->ops->arm(&d.port->rxq[0]);
            CHECK_EQ(check_pages(), 1);
            CHECK(dirty(used_gpa(1)));
            snapshot();
            d.port->ops->disarm(&d.port->rxq[0]);
            CHECK_EQ(check_pages(), 1);
        }
        end();
    }
}

/* With the event index, behind a used ring of more than a page. */
TEST(asked_to_kick)
{
    begin(F_V1 | F_EVENT, 1024);
    snapshot();
    d.port->ops->arm(&d.port->rxq[0]);
    CHECK(dirty(used_gpa(1) + 4 + 8 * 1024));
    end();
}

/* A malformed chain is given back with nothing in it; but what it got before is in memory. */
TEST(malformed_chain)
{
    begin(F_V1, 16);
    drv_desc(&d.rx, 0, DRV_BUF, 100, D_WRITE | D_NEXT, 1);
    drv_desc(&d.rx, 1, DRV_END + PAGE, 4 * PAGE, D_WRITE, 0);
    drv_offer(&d.rx, 0);
    drv_publish(&d.rx);
    drv_frame(&frame[0], 1000, 1);
    snapshot();
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(check_pages(), 2);
    end();
}

/* The rings only where the front-end wants them, and nothing without a log. */
TEST(only_what_was_asked_for)
{
    begin(F_V1, 16);
    CHECK_EQ(set_log(true, 2), 0);
    drv_one(&d.rx, 0, DRV_BUF, PAGE, D_WRITE);
    drv_frame(&frame[0], 100, 1);
    snapshot();
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    CHECK(dirty(DRV_BUF));
    CHECK(!dirty(used_gpa(0)));
    CHECK_EQ(set_log(false, 0), 0);
    drv_one(&d.rx, 1, DRV_BUF, PAGE, D_WRITE);
    snapshot();
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    for (unsigned i = 0; i < LOG_SIZE; i++)
        CHECK_EQ(bits[i], 0);
    end();
}

/* A ring that starts while a log is in force may have been left by a process that died before it recorded. */
TEST(started_rings_are_recorded)
{
    begin(F_V1, 1024);
    memset(bits, 0, LOG_SIZE);
    CHECK_EQ(drv_restart(&d, F_V1, 1024), 0);
    for (uint32_t ring = 0; ring < 2; ring++) {
        for (uint64_t off = 0; off < 4 + 8 * 1024; off += PAGE)
            CHECK(dirty(used_gpa(ring) + off));
    }
    CHECK_EQ(set_log(false, 0), 0);
    memset(bits, 0, LOG_SIZE);
    CHECK_EQ(set_log(true, 3), 0);
    CHECK(dirty(used_gpa(0)) && dirty(used_gpa(1)));
    end();
}

TEST(refused_logs_change_nothing)
{
    const struct us_vhost_log longer = { .on = 1, .size = LOG_SIZE + 1 };

    begin(F_V1, 16);
    CHECK_EQ(vhost_port_set_log(d.port, &longer, log_fd), -EFBIG);
    CHECK(vhost_port_set_log(d.port, &longer, d.news) < 0);
    drv_one(&d.rx, 0, DRV_BUF, PAGE, D_WRITE);
    drv_frame(&frame[0], 100, 1);
    snapshot();
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    CHECK(dirty(DRV_BUF));
    end();
}

/* F3: the front-end truncates its log under way; its port is fenced, until its rings start with another one. */
TEST(truncated_log)
{
    begin(F_V1, 16);
    if (ftruncate(log_fd, 0) != 0)
        abort();
    drv_one(&d.rx, 0, DRV_BUF, PAGE, D_WRITE);
    drv_frame(&frame[0], 100, 1);
    drv_tx(&d, &frame[0]);
    CHECK_EQ(d.state->broken, BREAK_log_gone);
    CHECK_EQ(drv_restart(&d, F_V1, 16), 0);
    CHECK_EQ(d.state->broken, BREAK_log_gone);
    CHECK_EQ(set_log(false, 0), 0);
    CHECK_EQ(drv_restart(&d, F_V1, 16), 0);
    CHECK_EQ(d.state->broken, BREAK_none);
    if (ftruncate(log_fd, LOG_SIZE) != 0)
        abort();
    end();
}

/* ---- the log comes and goes under traffic; for ThreadSanitizer and for lost bits ---- */

static _Atomic bool stop;
static _Atomic unsigned sent;

static void *deliver(void *arg)
{
    (void)arg;
    rcu_worker_register();
    for (uint32_t number = 0; !atomic_load(&stop); number++) {
        memcpy(frame[0].f.hdr + ETH_HDR_LEN, &number, sizeof(number)); /* a page that is copied too early shows */
        if (drv_tx(&d, &frame[0]))
            atomic_fetch_add(&sent, 1);
        rcu_worker_quiescent();
    }
    rcu_worker_unregister();
    return NULL;
}

/*
 * The front-end's part: take the bits away, then copy the pages that had one.  When the worker has stopped and the
 * last bits are collected the copy must equal the memory: no write may have slipped between a bit and its page.
 */
TEST(copied_under_traffic)
{
    static uint8_t copy[256 * PAGE];
    pthread_t worker;
    unsigned rounds = 0;

    begin(F_V1, 256);
    drv_frame(&frame[0], 1000, 1);
    for (unsigned i = 0; i < 256; i++)
        drv_desc(&d.rx, i, DRV_BUF + i * PAGE, PAGE, D_WRITE, 0);
    drv_read(&d, DRV_BUF, copy, sizeof(copy));
    atomic_store(&stop, false);
    atomic_store(&sent, 0);
    if (pthread_create(&worker, NULL, deliver, NULL))
        abort();
    while (atomic_load(&sent) < 20000) {
        for (unsigned i = 0; i < 64; i++)
            drv_offer(&d.rx, (uint16_t)((rounds * 64 + i) & 255));
        drv_publish(&d.rx);
        rounds++;
        for (uint64_t gpa = DRV_BUF; gpa < DRV_BUF + sizeof(copy); gpa += 8 * PAGE) {
            const uint8_t had = __atomic_exchange_n(&bits[gpa / PAGE / 8], 0, __ATOMIC_SEQ_CST);

            for (unsigned i = 0; i < 8; i++) {
                if (had >> i & 1)
                    guest_copy(copy + (gpa - DRV_BUF) + i * PAGE, drv_ptr(&d, gpa + i * PAGE), PAGE);
            }
        }
        if (rounds % 64 == 0) {
            CHECK_EQ(set_log(true, 3), 0);
            while (drv_used(&d.rx, &(uint32_t){ 0 }, &(uint32_t){ 0 }))
                ;
        }
        while ((uint16_t)(d.rx.avail_idx - guest_load16_acquire(&d.rx.used->idx)) > 128)
            ;
    }
    atomic_store(&stop, true);
    pthread_join(worker, NULL);
    for (uint64_t gpa = DRV_BUF; gpa < DRV_BUF + sizeof(copy); gpa += PAGE) {
        if (!dirty(gpa))
            CHECK_MEM(copy + (gpa - DRV_BUF), drv_ptr(&d, gpa), PAGE);
    }
    CHECK_EQ(d.state->broken, 0);
    end();
}

MAIN
{
    RUN(received_in_one_buffer);
    RUN(received_in_chains);
    RUN(received_in_merged_buffers);
    RUN(transmitted);
    RUN(packed_received);
    RUN(packed_transmitted);
    RUN(asked_to_kick);
    RUN(malformed_chain);
    RUN(only_what_was_asked_for);
    RUN(started_rings_are_recorded);
    RUN(refused_logs_change_nothing);
    RUN(truncated_log);
    RUN(copied_under_traffic);
}
