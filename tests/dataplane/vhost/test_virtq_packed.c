/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtq_packed.c - packed rings: polite drivers with chains of every shape
 * in rings of every size, round and round; event suppression; drivers that
 * break the rules; and going on where a killed process stopped.
 */
#include "harness.h"

#include "vhost/packed_driver.h"
#include "vhost/virtq_packed.h"

#define ROOM 16384u                     /* of each offer's buffers */
#define PARTS 6

static struct driver d;
static struct pk_ring rx, tx;
static struct burst b;
static uint8_t want[US_FRAME_MAX + 64], got[US_FRAME_MAX + 64];
static uint64_t state = 0x9e3779b97f4a7c15ull;

static uint32_t below(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16) % n;
}

static void open_guest(uint64_t features, uint32_t size)
{
    drv_create(&d, F_V1 | F_PACKED | features, size);
    pk_open(&rx, &d.rx);
    pk_open(&tx, &d.tx);
}

static uint64_t buffer(uint32_t i)
{
    return DRV_BUF + (uint64_t)(i % 256) * ROOM;
}

/* Header of zeros and a frame. */
static void place(uint64_t gpa, uint32_t len, uint32_t seed)
{
    static const uint8_t zero[12];

    drv_pattern(want, len, seed);
    drv_write(&d, gpa, zero, 12);
    drv_write(&d, gpa + 12, want, len);
}

static bool frame_is(unsigned i, uint32_t len, uint32_t seed)
{
    drv_pattern(want, len, seed);
    return i < b.n && b.frame[i].len == len && drv_gather(&b.frame[i], got, sizeof(got)) == len &&
           memcmp(got, want, len) == 0;
}

static bool used_is(struct pk_ring *p, uint32_t n, uint16_t want_id, uint32_t want_len)
{
    uint16_t id = 0;
    uint32_t len = 0;

    return CHECK(pk_used(p, n, &id, &len)) && CHECK_EQ(id, want_id) && CHECK_EQ(len, want_len);
}

/* Cut bytes at gpa into 1 .. most parts of a chain, or of an indirect table behind them. Returns descriptors. */
static uint32_t cut(struct pk_part part[PARTS], uint64_t gpa, uint32_t bytes, uint32_t most, uint16_t flags,
                    uint64_t table)
{
    const bool indirect = table && below(3) == 0;
    const uint32_t n = 1 + below(indirect ? PARTS : most);
    uint32_t left = bytes;

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t len = i + 1 == n ? left : below(left + 1);

        part[i] = (struct pk_part){ gpa, len, flags };
        if (indirect)
            pk_table(&d, table, i, (struct pk_part){ gpa, len, (uint16_t)(flags | (below(2) ? D_NEXT : 0) |
                                                                          (below(4) ? 0 : D_WRITE)) });
        gpa += len;
        left -= len;
    }
    if (!indirect)
        return n;
    part[0] = (struct pk_part){ table, 16 * n, D_INDIRECT };
    return 1;
}

static const uint32_t sizes[] = { 2, 3, 5, 7, 64, 200, 256, 1000, 32768 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* What is on the ring. */
struct offer {
    uint32_t n, len, seed;
    uint16_t id;
};

TEST(transmit_random_chains)
{
    for (unsigned k = 0; k < SIZES; k++) {
        struct offer offers[256];
        uint32_t first = 0, last = 0, free = sizes[k];

        open_guest(F_INDIRECT, sizes[k]);
        for (unsigned turn = 0; turn < 300; turn++) {
            for (unsigned i = below(80); i; i--) {
                const uint32_t most = free < PARTS ? free : PARTS, at = last % 256;
                struct offer *const o = &offers[at];
                struct pk_part part[PARTS];

                if (free == 0 || last - first == 256)
                    break;
                *o = (struct offer){ .len = 14 + below(below(4) ? 200 : 9000), .seed = last,
                                     .id = (uint16_t)below(65536) };
                place(buffer(at), o->len, last);
                o->n = cut(part, buffer(at), o->len + 12, most, 0, buffer(at) + 12000);
                pk_offer(&tx, part, o->n, o->id);
                free -= o->n;
                last++;
            }
            for (unsigned n; (n = drv_rx(&d, &b));) {
                for (unsigned i = 0; i < n; i++, first++) {
                    const struct offer *const o = &offers[first % 256];

                    CHECK(frame_is(i, o->len, o->seed));
                    CHECK(used_is(&tx, o->n, o->id, 0));
                    free += o->n;
                }
            }
            if (!CHECK_EQ(first, last))
                break;
        }
        CHECK_EQ(drv_drops(&d), 0);
        CHECK_EQ(d.state->ring[1].last_avail, tx.avail);
        CHECK_EQ(d.state->ring[1].used_idx, tx.used);
        drv_destroy(&d);
    }
}

/* The next frame out of the ring: its bytes into got, header first. */
static uint32_t receive(const struct offer *offers, uint32_t *first, uint32_t *free)
{
    uint32_t bytes = 0, n = 1;

    for (uint32_t i = 0; i < n; i++, ++*first) {
        const struct offer *const o = &offers[*first % 256];
        uint16_t id;
        uint32_t len;

        if (!CHECK(pk_used(&rx, o->n, &id, &len)) || !CHECK_EQ(id, o->id) || !CHECK(len && len <= o->len))
            return 0;
        drv_read(&d, buffer(*first % 256), got + bytes, len);
        if (i == 0)
            n = got[10] | (uint32_t)got[11] << 8;
        bytes += len;
        *free += o->n;
    }
    return bytes;
}

TEST(receive_random_chains)
{
    static struct drv_frame f[64];
    struct frame *list[64];

    for (unsigned i = 0; i < 64; i++)
        list[i] = &f[i].f;
    for (unsigned k = 0; k < SIZES; k++) {
        struct offer offers[256];
        uint32_t first = 0, last = 0, free = sizes[k];

        open_guest(F_INDIRECT | F_MRG, sizes[k]);
        for (unsigned turn = 0; turn < 300; turn++) {
            const unsigned n = 1 + below(64);
            uint64_t full = 0, delivered = 0;

            while (free && last - first < 256) {
                const uint32_t most = free < 3 ? free : 3, at = last % 256;
                struct offer *const o = &offers[at];
                struct pk_part part[PARTS];

                *o = (struct offer){ .len = 64 + below(below(3) ? 2000 : 200), .id = (uint16_t)below(65536) };
                o->n = cut(part, buffer(at), o->len, below(2) ? 1 : most, D_WRITE, buffer(at) + 12000);
                pk_offer(&rx, part, o->n, o->id);
                free -= o->n;
                last++;
            }
            for (unsigned i = 0; i < n; i++)
                drv_frame(&f[i], 14 + below(below(3) ? 200 : 3000), turn * 64 + i);
            full = drv_drops(&d);
            delivered = d.port->ops->tx_burst(d.port, list, n);
            CHECK_EQ(delivered + drv_drops(&d) - full, n);
            for (unsigned i = 0; i < n && delivered; i++) {
                const uint32_t was = first;
                uint32_t bytes;

                /* Drops are of frames that found no room; the rest comes in order. */
                bytes = receive(offers, &first, &free);
                while (i < n && (f[i].f.len != bytes - 12 || memcmp(got + 12, f[i].data, bytes - 12)))
                    i++;
                if (!CHECK(i < n && first > was))
                    break;
                delivered--;
            }
            CHECK_EQ(delivered, 0);
        }
        CHECK_EQ(d.state->ring[0].used_idx, rx.used);
        CHECK_EQ(drv_drops_out(&d, DROP_out_chain), 0);
        drv_destroy(&d);
    }
}

/* 2.8.14, counted out one descriptor after the other. */
static bool wants(uint32_t event, uint16_t from, uint32_t n, bool event_idx)
{
    const uint32_t flags = event >> 16 & 3;

    if (!event_idx || flags != RING_EVENT_FLAGS_DESC)
        return flags != RING_EVENT_FLAGS_DISABLE;
    for (; n; n--, from = pk_add(&tx, from, 1)) {
        if (from == (uint16_t)event)
            return true;
    }
    return false;
}

/* The decision by itself: every position, number of descriptors and event of small rings. */
TEST(decision_to_signal)
{
    for (uint32_t size = 2; size <= 9; size++) {
        uint32_t wrong = 0;

        tx.size = size;
        for (uint32_t p = 0; p < 2 * size; p++) {
            for (uint32_t e = 0; e < 2 * size * 8; e++) {
                const uint16_t from = pk_add(&tx, PK_START, p);
                const uint32_t event = pk_add(&tx, PK_START, e / 8) | e % 4 << 16;

                for (uint32_t n = 1; n <= size; n++)
                    wrong += packed_wants_signal(event, e & 4, pk_add(&tx, from, n), n, size) !=
                             wants(event, from, n, e & 4);
            }
        }
        CHECK_EQ(wrong, 0);
    }
}

/*
 * A driver that offers buffers again while a burst is under way.  It is played by the frames: each has an indirect
 * table as its buffer, the table's second entry points to the ring's other descriptor, and what a frame carries
 * makes that one available again.  So a burst of n goes n / 2 times around a ring of two.
 */
TEST(more_than_a_turn_in_one_burst)
{
    static struct drv_frame f[8];
    struct frame *list[8];
    const uint64_t ring_gpa[] = { 0, sizeof(struct pvirtq_desc) };
    const struct pk_part table[2] = { { DRV_TABLE, 32, D_INDIRECT }, { DRV_TABLE + 32, 32, D_INDIRECT } };

    for (uint32_t n = 1; n <= 8; n++) {
        uint16_t pos = PK_START;

        open_guest(F_INDIRECT | F_MRG | F_EVENT, 2);
        for (uint32_t i = 0; i < 2; i++) {
            const uint64_t other = (uint64_t)((uint8_t *)rx.desc - d.ram) + DRV_GPA + ring_gpa[!i];

            pk_table(&d, table[i].addr, 0, (struct pk_part){ DRV_BUF, 26, D_WRITE });
            pk_table(&d, table[i].addr, 1, (struct pk_part){ other, 64, D_WRITE });
        }
        pk_offer(&rx, &table[0], 1, 0);
        for (uint32_t i = 0; i < n; i++) {
            const uint16_t next = pk_add(&rx, pos, 1);
            const uint64_t flags = D_INDIRECT | (next & 0x8000 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);
            const struct pvirtq_desc again = { cpu_to_le64(table[next & 1].addr), cpu_to_le64(flags << 48 | 32) };

            drv_frame(&f[i], 30, i);
            memcpy(f[i].f.hdr + 14, &again, sizeof(again));
            list[i] = &f[i].f;
            pos = next;
        }
        *rx.driver = pk_add(&rx, PK_START, n - 1) | RING_EVENT_FLAGS_DESC << 16; /* the last one back */
        CHECK_EQ(d.port->ops->tx_burst(d.port, list, n), n);
        CHECK_EQ(d.state->ring[0].used_idx, pos);
        CHECK_EQ(drv_calls(rx.r), 1);
        drv_destroy(&d);
    }
}

TEST(driver_event_suppression)
{
    static const uint32_t odd[] = { 2, 5, 64, 200 };

    for (unsigned k = 0; k < 8; k++) {
        open_guest(k & 1 ? F_EVENT : 0, odd[k / 2]);
        for (unsigned turn = 0; turn < 2000; turn++) {
            const uint32_t n = 1 + below(tx.size < 64 ? tx.size : 64);
            const uint16_t from = tx.used;
            const uint32_t event = pk_add(&tx, from, below(2 * tx.size)) | below(3) << 16;

            for (uint32_t i = 0; i < n; i++) {
                const struct pk_part part = { DRV_BUF, 76, 0 };

                pk_offer(&tx, &part, 1, (uint16_t)i);
            }
            *tx.driver = event;
            CHECK_EQ(drv_rx(&d, &b), n);
            CHECK_EQ(drv_calls(tx.r), wants(event, from, n, k & 1));
            for (uint32_t i = 0; i < n; i++)
                CHECK(used_is(&tx, 1, (uint16_t)i, 0));
        }
        drv_destroy(&d);
    }
}

TEST(device_event_suppression)
{
    struct rxq *q;
    const struct pk_part part = { DRV_BUF, 76, 0 };

    for (unsigned k = 0; k < 2; k++) {
        open_guest(k ? F_EVENT : 0, 5);
        q = &d.port->rxq[0];
        CHECK_EQ(*rx.device >> 16, RING_EVENT_FLAGS_DISABLE);
        CHECK_EQ(*tx.device, k ? RING_EVENT_FLAGS_DESC << 16 | PK_START : PK_START);
        d.port->ops->disarm(q);
        CHECK_EQ(*tx.device >> 16, RING_EVENT_FLAGS_DISABLE);
        for (unsigned i = 0; i < 13; i++) {
            CHECK(!d.port->ops->arm(q));
            CHECK_EQ(*tx.device, tx.avail | (k ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE) << 16);
            pk_offer(&tx, &part, 1, 0);
            CHECK(d.port->ops->arm(q));
            d.port->ops->disarm(q);
            CHECK_EQ(drv_rx(&d, &b), 1);
            CHECK(used_is(&tx, 1, 0, 0));
        }
        drv_destroy(&d);
    }
}

/* Drops, and the chain comes back. */
TEST(malformed_chains_come_back)
{
    static const struct {
        struct pk_part part[2];
        uint32_t n;
        enum drop_reason why;
    } row[] = {
        { { { DRV_END - 4, 100, 0 } }, 1, DROP_chain_addr },
        { { { 0, 100, 0 } }, 1, DROP_chain_addr },
        { { { DRV_BUF, 100, D_WRITE } }, 1, DROP_chain_direction },
        { { { DRV_BUF, 12, 0 }, { DRV_BUF, 100, D_WRITE } }, 2, DROP_chain_direction },
        { { { DRV_BUF, 12, 0 }, { DRV_TABLE, 16, D_INDIRECT } }, 2, DROP_chain_indirect },
        { { { DRV_TABLE, 16, D_INDIRECT }, { DRV_BUF, 100, 0 } }, 2, DROP_chain_indirect },
        { { { DRV_TABLE, 0, D_INDIRECT } }, 1, DROP_chain_indirect },
        { { { DRV_TABLE, 17, D_INDIRECT } }, 1, DROP_chain_indirect },
        { { { DRV_END - 8, 16, D_INDIRECT } }, 1, DROP_chain_indirect },
        { { { DRV_BUF, 11, 0 } }, 1, DROP_hdr_short },
        { { { DRV_BUF, 25, 0 } }, 1, DROP_frame_short },
        { { { DRV_BUF, ~0u, 0 }, { DRV_BUF, 100, 0 } }, 2, DROP_frame_long },
    };
    const struct pk_part good = { DRV_BUF, 112, 0 };

    open_guest(F_INDIRECT, 7);
    place(DRV_BUF, 100, 1);
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        const uint64_t before = drv_drops_in(&d, row[i].why);

        pk_offer(&tx, &good, 1, 4);
        pk_offer(&tx, row[i].part, row[i].n, 5);
        pk_offer(&tx, &good, 1, 0xffff);
        CHECK_EQ(drv_rx(&d, &b), 2);
        CHECK(frame_is(0, 100, 1) && frame_is(1, 100, 1));
        CHECK_EQ(drv_drops_in(&d, row[i].why) - before, 1);
        CHECK(used_is(&tx, 1, 4, 0));
        CHECK(used_is(&tx, row[i].n, 5, 0));
        CHECK(used_is(&tx, 1, 0xffff, 0));
    }
    drv_destroy(&d);
}

/* Where the next chain begins nobody knows. */
TEST(endless_chains_break_the_port)
{
    const struct pk_part next = { DRV_BUF, 0, D_NEXT }, last = { DRV_BUF, 100, 0 };
    static struct drv_frame f;

    for (unsigned k = 0; k < 4; k++) {
        struct pk_ring *const p = k & 1 ? &rx : &tx;
        const uint16_t write = k & 1 ? D_WRITE : 0;

        open_guest(F_MRG, 5);
        for (uint32_t i = 0; i < 5; i++) {
            struct pk_part part = i < 4 || k < 2 ? next : last;

            part.flags |= write;
            if (k < 2 || i != 2) /* all of them go on; or one in the middle is not available */
                pk_desc(p, pk_add(p, PK_START, i), part, 0);
        }
        drv_frame(&f, 60, 1);
        CHECK_EQ(k & 1 ? drv_tx(&d, &f) : drv_rx(&d, &b), 0);
        CHECK_EQ(d.state->broken, BREAK_ring_chain);
        CHECK_EQ(d.state->broken_ring, k & 1 ? 0 : 1);
        drv_destroy(&d);
    }
}

/* A driver that makes everything available again while it is looked at gets no more than a turn. */
TEST(not_more_than_a_turn_in_flight)
{
    const struct pk_part part = { DRV_BUF, 76, 0 };

    open_guest(0, 3);
    for (unsigned i = 0; i < 3; i++)
        pk_offer(&tx, &part, 1, (uint16_t)i);
    CHECK_EQ(d.port->ops->rx_burst(&d.port->rxq[0], &b), 3);
    for (unsigned i = 0; i < 3; i++)
        pk_offer(&tx, &part, 1, (uint16_t)(10 + i));
    CHECK_EQ(d.port->ops->rx_burst(&d.port->rxq[0], &b), 0);
    d.port->ops->rx_complete(&d.port->rxq[0], &b);
    CHECK_EQ(d.state->ring[1].used_idx, 0x0000);
    drv_destroy(&d);
}

/* Another process takes the ring over. */
static int take_over(uint32_t index)
{
    struct drv_ring *const r = index ? &d.tx : &d.rx;
    struct us_vhost_ring request = drv_ring_request(&d, r);
    const struct us_ring_state kept = d.state->ring[index];
    int rc;

    vhost_port_ring_stop(d.port, index);
    d.state->ring[index] = kept;
    request.base = US_BASE_FROM_USED;
    rc = vhost_port_ring_start(d.port, &request, r->kick, r->call);
    if (rc == 0)
        vhost_port_ring_run(d.port, index, false);
    return rc;
}

/* Killed after k of n chains were handed back: the rest is taken again, nothing else. */
TEST(resume_transmit)
{
    for (uint32_t len = 1; len <= 3; len++) {
        for (uint32_t k = 0; k <= 6; k++) {
            open_guest(0, 20);
            tx.avail = tx.used = PK_START; /* the burst goes over the end: 6 * 3 of 20, after a burst of 6 */
            for (unsigned turn = 0; turn < 2; turn++) {
                const uint16_t start = tx.avail;

                for (uint32_t i = 0; i < 6; i++) {
                    const struct pk_part part[3] = {
                        { buffer(i), 12, 0 }, { buffer(i) + 12, 100, 0 }, { DRV_BUF, 0, 0 },
                    };
                    const struct pk_part whole = { buffer(i), 112, 0 };

                    place(buffer(i), 100, i);
                    pk_offer(&tx, len == 1 ? &whole : part, len, (uint16_t)i);
                }
                CHECK_EQ(drv_rx(&d, &b), 6);
                if (turn == 0) {
                    for (uint32_t i = 0; i < 6; i++)
                        CHECK(used_is(&tx, len, (uint16_t)i, 0));
                    continue;
                }
                /* What had not been handed back is as the driver left it. */
                tx.avail = pk_add(&tx, start, k * len);
                for (uint32_t i = k; i < 6; i++) {
                    const struct pk_part part[3] = {
                        { buffer(i), 12, 0 }, { buffer(i) + 12, 100, 0 }, { DRV_BUF, 0, 0 },
                    };
                    const struct pk_part whole = { buffer(i), 112, 0 };

                    pk_offer(&tx, len == 1 ? &whole : part, len, (uint16_t)i);
                }
            }
            CHECK_EQ(take_over(1), 0);
            CHECK_EQ(d.state->ring[1].last_avail, pk_add(&tx, tx.used, k * len));
            CHECK_EQ(drv_rx(&d, &b), 6 - k);
            for (uint32_t i = k; i < 6; i++)
                CHECK(frame_is(i - k, 100, i));
            for (uint32_t i = 0; i < 6; i++)
                CHECK(used_is(&tx, len, (uint16_t)i, 0));
            drv_destroy(&d);
        }
    }
}

/* Killed in the middle of a frame over three buffers: the driver gets all three, as a frame or empty. */
TEST(resume_receive_of_merged_buffers)
{
    static struct drv_frame f;

    for (uint32_t left = 0; left <= 3; left++) { /* so many had not been handed back: the first ones */
        const struct pk_part part = { DRV_BUF, 200, D_WRITE };
        static const uint32_t full[3] = { 200, 200, 112 };

        open_guest(F_MRG, 4);
        for (uint32_t turn = 0; turn < 2; turn++) {
            for (uint16_t i = 0; i < 3; i++)
                pk_offer(&rx, &part, 1, i);
            drv_frame(&f, 500, 1);
            CHECK_EQ(drv_tx(&d, &f), 1);
            for (uint16_t i = 0; turn == 0 && i < 3; i++)
                CHECK(used_is(&rx, 1, i, full[i]));
        }
        for (uint16_t i = 0; i < left; i++)
            pk_desc(&rx, pk_add(&rx, rx.used, i), part, i);
        CHECK_EQ(take_over(0), 0);
        for (uint16_t i = 0; i < 3; i++)
            CHECK(used_is(&rx, 1, i, left ? 0 : full[i]));
        pk_offer(&rx, &part, 1, 9);
        drv_frame(&f, 60, 2);
        CHECK_EQ(drv_tx(&d, &f), 1);
        CHECK(used_is(&rx, 1, 9, 72));
        drv_destroy(&d);
    }
}

/* A damaged state page starts no ring. */
TEST(resume_from_nonsense)
{
    static const uint64_t bad[] = {
        0, 7ull << 16 | 1ull << 32, 0x8000ull | 9ull << 16 | 1ull << 32, 0x8000ull | 0x8003ull << 16 | 2ull << 32,
        0x8003ull | 0x8001ull << 16 | 1ull << 32, 0x8000ull | 0x8002ull << 16 | 2ull << 32 | 1ull << 48,
    };

    open_guest(F_MRG, 7);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        d.state->ring[0].burst = bad[i];
        CHECK_EQ(take_over(0), -22);
    }
    d.state->ring[0].burst = 0x8000ull | 0x8000ull << 16 | 1ull << 32;
    CHECK_EQ(take_over(0), 0);
    drv_destroy(&d);
}

TEST(geometry)
{
    struct us_vhost_ring request;

    open_guest(0, 200);
    vhost_port_ring_stop(d.port, 1);
    request = drv_ring_request(&d, &d.tx);
    request.base = 0x8000 + 200;
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, d.tx.call), -22);
    request.base = 0x8000 + 199;
    request.avail_uva += 2;
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, d.tx.call), -22);
    request.avail_uva = DRV_END + DRV_UVA - 4; /* its last four bytes suffice for the driver's area */
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, d.tx.call), 0);
    CHECK_EQ(vhost_port_ring_stop(d.port, 1), 0x8000 + 199);
    request.size = 1;
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, d.tx.call), -22);
    drv_destroy(&d);
}

MAIN
{
    RUN(transmit_random_chains);
    RUN(receive_random_chains);
    RUN(decision_to_signal);
    RUN(more_than_a_turn_in_one_burst);
    RUN(driver_event_suppression);
    RUN(device_event_suppression);
    RUN(malformed_chains_come_back);
    RUN(endless_chains_break_the_port);
    RUN(not_more_than_a_turn_in_flight);
    RUN(resume_transmit);
    RUN(resume_receive_of_merged_buffers);
    RUN(resume_from_nonsense);
    RUN(geometry);
}
