/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_packed.c - see bench_packed.h.
 */
#include "bench_packed.h"

#include "vnet.h"

static bool wrap_at(const struct bench_guest *g, uint32_t pos)
{
    return pos / g->ring_size % 2 == 0;
}

static void put(const struct bench_guest *g, struct bench_ring *r, uint32_t pos, uint64_t addr, uint32_t len,
                uint16_t id, uint16_t flags)
{
    struct pvirtq_desc *const d = &r->ring[pos % g->ring_size];
    const uint64_t high = flags | (wrap_at(g, pos) ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);

    d->addr = cpu_to_le64(addr);
    __atomic_store_n(&d->state.raw, cpu_to_le64(high << 48 | (uint64_t)id << 32 | len).raw, __ATOMIC_RELEASE);
}

/* A used descriptor's length and id, or false. */
static bool get(const struct bench_guest *g, const struct bench_ring *r, uint32_t pos, uint32_t *len, uint16_t *id)
{
    const uint64_t state = le64_to_cpu((le64){ __atomic_load_n(&r->ring[pos % g->ring_size].state.raw,
                                                               __ATOMIC_ACQUIRE) });
    const uint16_t both = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

    *len = (uint32_t)state;
    *id = (uint16_t)(state >> 32);
    return ((uint16_t)(state >> 48) & both) == (wrap_at(g, pos) ? both : 0);
}

void bench_packed_chain(struct bench_guest *g, struct bench_ring *r, uint32_t bytes, uint32_t n)
{
    const uint16_t id = (uint16_t)(r->at % g->ring_size);
    const uint32_t last = bytes - (n - 1) * g->buf_size;

    r->chain = n;
    for (uint32_t i = n; i--;)
        put(g, r, r->at + i, bench_guest_buffer(g, 1, r->offered + i), i + 1 < n ? g->buf_size : last, id,
            i + 1 < n ? VRING_DESC_F_NEXT : 0);
    r->at += n;
    r->offered += n;
}

void bench_packed_indirect(struct bench_guest *g, struct bench_ring *r, uint64_t table_gpa, uint32_t bytes, uint32_t n)
{
    struct pvirtq_desc *const table = (void *)(g->ram + table_gpa);

    r->chain = n;
    for (uint32_t i = 0; i < n; i++, bytes -= g->buf_size) {
        table[i].addr = cpu_to_le64(bench_guest_buffer(g, 1, r->offered++));
        table[i].state = cpu_to_le64(i + 1 < n ? g->buf_size : bytes);
    }
    put(g, r, r->at, table_gpa, n * (uint32_t)sizeof(*table), (uint16_t)(r->at % g->ring_size), VRING_DESC_F_INDIRECT);
    r->at++;
}

void bench_packed_offer(struct bench_guest *g, struct bench_ring *r)
{
    const uint32_t i = r->at % g->ring_size;

    put(g, r, r->at++, bench_guest_buffer(g, 0, i), g->buf_size, (uint16_t)i, VRING_DESC_F_WRITE);
    r->offered++;
}

void bench_packed_returned(struct bench_guest *g, struct bench_ring *r)
{
    const bool indirect = r->chain > 1 && g->features & VIRTIO_BIT(VIRTIO_F_RING_INDIRECT_DESC);
    uint32_t len, i;
    uint16_t id;

    while (r->returned != r->offered && get(g, r, r->back, &len, &id)) {
        /* 2.8.9: one may stand for a batch, with the id of its last. */
        do {
            i = r->back % g->ring_size;
            r->back += indirect ? 1 : r->chain;
            r->returned += r->chain;
        } while (i != id && r->returned != r->offered);
    }
}

uint32_t bench_packed_receive(struct bench_guest *g, struct bench_ring *r, uint64_t *bytes)
{
    uint32_t frames = 0, len;
    uint16_t id;

    while (get(g, r, r->back, &len, &id)) {
        const uint8_t *const hdr = g->ram + bench_guest_buffer(g, 0, id);
        uint32_t n = hdr[10] | (uint32_t)hdr[11] << 8;  /* num_buffers */

        frames++;
        for (*bytes -= VNET_WIRE_LEN_MRG; n; n--) {
            (void)get(g, r, r->back++, &len, &id);
            *bytes += len;
            bench_packed_offer(g, r);
        }
    }
    return frames;
}
