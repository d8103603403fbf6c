/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * packed_driver.c - see packed_driver.h.
 */
#include "vhost/packed_driver.h"

void pk_open(struct pk_ring *p, struct drv_ring *r)
{
    *p = (struct pk_ring){ .r = r, .desc = (void *)r->desc, .driver = (void *)r->avail, .device = (void *)r->used,
                           .size = r->size, .avail = PK_START, .used = PK_START };
}

uint16_t pk_add(const struct pk_ring *p, uint16_t pos, uint32_t n)
{
    while (n--) {
        pos++;
        if ((pos & 0x7fffu) == p->size)
            pos = (pos & 0x8000u) ^ 0x8000u;
    }
    return pos;
}

void pk_desc(struct pk_ring *p, uint16_t pos, struct pk_part part, uint16_t id)
{
    struct pvirtq_desc *const d = &p->desc[pos & 0x7fff];
    const uint64_t flags = part.flags | (pos & 0x8000 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);

    __atomic_store_n(&d->addr.raw, htole64(part.addr), __ATOMIC_RELAXED);
    __atomic_store_n(&d->state.raw, htole64(flags << 48 | (uint64_t)id << 32 | part.len), __ATOMIC_RELEASE);
}

void pk_offer(struct pk_ring *p, const struct pk_part *part, uint32_t n, uint16_t id)
{
    for (uint32_t i = n; i--;) {
        struct pk_part one = part[i];

        one.flags |= i + 1 < n ? VRING_DESC_F_NEXT : 0;
        pk_desc(p, pk_add(p, p->avail, i), one, i + 1 < n ? (uint16_t)~id : id);
    }
    p->avail = pk_add(p, p->avail, n);
}

void pk_table(struct driver *d, uint64_t table, uint32_t i, struct pk_part part)
{
    const struct pvirtq_desc entry = { cpu_to_le64(part.addr),
                                       cpu_to_le64((uint64_t)part.flags << 48 | 0xdeadull << 32 | part.len) };

    drv_write(d, table + (uint64_t)i * sizeof(entry), &entry, sizeof(entry));
}

bool pk_used(struct pk_ring *p, uint32_t n, uint16_t *id, uint32_t *len)
{
    const uint64_t state = le64toh(__atomic_load_n(&p->desc[p->used & 0x7fff].state.raw, __ATOMIC_ACQUIRE));
    const uint16_t both = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

    if (((uint16_t)(state >> 48) & both) != (p->used & 0x8000 ? both : 0))
        return false;
    *id = (uint16_t)(state >> 32);
    *len = (uint32_t)state;
    p->used = pk_add(p, p->used, n);
    return true;
}
