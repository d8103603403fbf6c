/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * xdp_ring.c - see xdp_ring.h.
 */
#include "xdp/xdp_ring.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* How the kernel calls each ring: option that makes it, place in the socket where it is mapped, size of an entry. */
static const struct {
    int option;
    uint64_t where;
    uint32_t entry;
} kinds[XDP_RING_KINDS] = {
    [XDP_RING_RECEIVE] = { XDP_RX_RING, XDP_PGOFF_RX_RING, sizeof(struct xdp_desc) },
    [XDP_RING_TRANSMIT] = { XDP_TX_RING, XDP_PGOFF_TX_RING, sizeof(struct xdp_desc) },
    [XDP_RING_FILL] = { XDP_UMEM_FILL_RING, XDP_UMEM_PGOFF_FILL_RING, sizeof(uint64_t) },
    [XDP_RING_COMPLETION] = { XDP_UMEM_COMPLETION_RING, XDP_UMEM_PGOFF_COMPLETION_RING, sizeof(uint64_t) },
};

static const struct xdp_ring_offset *offsets_of(const struct xdp_mmap_offsets *all, enum xdp_ring_kind kind)
{
    switch (kind) {
    case XDP_RING_RECEIVE:
        return &all->rx;
    case XDP_RING_TRANSMIT:
        return &all->tx;
    case XDP_RING_FILL:
        return &all->fr;
    default:
        return &all->cr;
    }
}

int xdp_ring_open(struct xdp_ring *r, int fd, enum xdp_ring_kind kind, uint32_t size)
{
    const bool we_produce = kind == XDP_RING_TRANSMIT || kind == XDP_RING_FILL;
    struct xdp_mmap_offsets all = { 0 };
    const struct xdp_ring_offset *const off = offsets_of(&all, kind);
    socklen_t len = sizeof(all);
    uint8_t *base;

    if (setsockopt(fd, SOL_XDP, kinds[kind].option, &size, sizeof(size)) < 0)
        return -errno;
    if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &all, &len) < 0)
        return -errno;
    if (len != sizeof(all))
        return -ENOTSUP;        /* before Linux 5.4: rings without flags */
    r->map_len = off->desc + (size_t)size * kinds[kind].entry;
    base = mmap(NULL, r->map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)kinds[kind].where);
    if (base == MAP_FAILED)
        return -errno;
    r->map = base;
    r->ours = (uint32_t *)(base + (we_produce ? off->producer : off->consumer));
    r->theirs = (const uint32_t *)(base + (we_produce ? off->consumer : off->producer));
    r->flags = (const uint32_t *)(base + off->flags);
    r->entry = base + off->desc;
    r->mask = size - 1;
    r->at = 0;
    return 0;
}

void xdp_ring_close(struct xdp_ring *r)
{
    if (r->map)
        munmap(r->map, r->map_len);
    r->map = NULL;
}
