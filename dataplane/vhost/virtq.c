/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtq.c - the life of a virtqueue: geometry check, start and stop, and
 * signals to the guest.  Control thread, except virtq_signal(), which is the
 * worker's.
 */
#include "vhost/virtq.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/rcu.h"
#include "vhost/virtq_hold.h"
#include "vhost/virtq_packed.h"
#include "vnet.h"

void virtq_init(struct virtq *vq, struct port *port, uint32_t index)
{
    vq->port = port;
    vq->index = index;
    vq->state = &port->state->ring[index];
    vq->count = (index & 1) ? &port->state->in[index / 2] : &port->state->out[index / 2];
    vq->kick_fd = -1;
    atomic_init(&vq->call_fd, -1);
    spin_init(&vq->lock);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void virtq_fini(struct virtq *vq)
{
    free(vq->owned);
    vq->owned = NULL;
    virtq_hold_destroy(vq->hold);
    vq->hold = NULL;
    vq->n_held = 0;
    close_fd(atomic_exchange(&vq->call_fd, -1));
    close_fd(vq->kick_fd);
    vq->kick_fd = -1;
}

/* Bytes and alignment of the three parts. */
struct part {
    size_t bytes, align;
};

static void parts_of(bool packed, uint32_t size, struct part part[3])
{
    part[0] = (struct part){ VRING_DESC_BYTES(size), VRING_DESC_ALIGN };
    part[1] = (struct part){ VRING_AVAIL_BYTES(size), VRING_AVAIL_ALIGN };
    part[2] = (struct part){ VRING_USED_BYTES(size), VRING_USED_ALIGN };
    if (packed)
        part[1] = part[2] = (struct part){ sizeof(struct pvirtq_event_suppress), VIRTQ_EVENT_ALIGN };
}

int virtq_map_create(const struct guest_mem *mem, const struct dirty_log *log, uint32_t size, bool packed,
                     const uint64_t uva[3], struct virtq_map **out)
{
    struct part part[3];
    struct virtq_map *map;
    void *at[3];

    parts_of(packed, size, part);
    for (unsigned i = 0; i < 3; i++) {
        if (uva[i] % part[i].align)
            return -EINVAL;
    }
    for (unsigned i = 0; i < 3; i++) {
        at[i] = guest_mem_uva(mem, uva[i], part[i].bytes);
        /* Aligned there and not here: the front-end's address and its offset in the file disagree. */
        if (!at[i] || (uintptr_t)at[i] % part[i].align)
            return -EFAULT;
    }
    map = calloc(1, sizeof(*map));
    if (!map)
        return -ENOMEM;
    map->mem = mem;
    map->log = log;
    map->packed = packed;
    map->desc = at[0];
    map->avail = at[1];
    map->used = at[2];
    map->desc_gpa = guest_mem_gpa(mem, uva[0]);
    map->device_gpa = guest_mem_gpa(mem, uva[2]);
    *out = map;
    return 0;
}

uint32_t virtq_offloads(uint64_t features, bool tx_ring)
{
    static const struct {
        uint8_t from_guest, to_guest, offload;
    } table[] = {
        { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, OFFLOAD_CSUM },
        { VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4, OFFLOAD_TSO4 },
        { VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6, OFFLOAD_TSO6 },
        { VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN, OFFLOAD_ECN },
        { VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO4, OFFLOAD_USO4 },
        { VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO6, OFFLOAD_USO6 },
    };
    uint32_t offloads = 0;

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (features & VIRTIO_BIT(tx_ring ? table[i].from_guest : table[i].to_guest))
            offloads |= table[i].offload;
    }
    return offloads;
}

/* Size, base and features that this implementation can run with. */
static int check_setup(const struct virtq_setup *s)
{
    if (s->size < 2 || s->size > US_RING_SIZE_MAX)
        return -EINVAL;
    if (!(s->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED)) && (s->size & (s->size - 1)))
        return -EINVAL; /* 2.7; a packed ring may have any size (2.8.10.1) */
    if (s->base > UINT16_MAX && s->base != US_BASE_FROM_USED)
        return -EINVAL;
    if (s->features & VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM))
        return -EINVAL;
    return 0;
}

static int reset(struct virtq *vq, const struct virtq_map *map, uint32_t base)
{
    if (map->packed)
        return packed_reset(vq, map, base);
    split_reset(vq, map, base);
    return 0;
}

int virtq_start(struct virtq *vq, const struct guest_mem *mem, const struct dirty_log *log,
                const struct virtq_setup *setup)
{
    const uint64_t features = setup->features;
    struct virtq_map *map;
    int rc;

    if (vq->owned)
        return -EBUSY;
    rc = check_setup(setup);
    if (rc)
        return rc;
    rc = virtq_map_create(mem, log, setup->size, features & VIRTIO_BIT(VIRTIO_F_RING_PACKED), setup->uva, &map);
    if (rc)
        return rc;
    vq->mask = (uint16_t)(setup->size - 1);
    vq->merged = 1;
    vq->longest = 1;
    vq->packed = features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    vq->event_idx = features & VIRTIO_BIT(VIRTIO_F_RING_EVENT_IDX);
    vq->indirect = features & VIRTIO_BIT(VIRTIO_F_RING_INDIRECT_DESC);
    vq->mergeable = features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
    vq->in_order = features & VIRTIO_BIT(VIRTIO_F_IN_ORDER);
    vq->hdr_len = features & (VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF))
                      ? VNET_WIRE_LEN_MRG : VNET_WIRE_LEN;
    vq->offloads = virtq_offloads(features, virtq_is_tx(vq));
    for (unsigned i = 0; i < 3; i++)
        vq->uva[i] = setup->uva[i];
    rc = reset(vq, map, setup->base);
    if (!rc && virtq_is_tx(vq)) {
        vq->hold = virtq_hold_create(setup->size);
        rc = vq->hold ? 0 : -ENOMEM;
    }
    if (rc) {
        free(map);
        return rc;
    }
    vq->state->last_avail = vq->last_avail;
    vq->state->used_idx = vq->used_idx;
    vq->state->size = (uint16_t)setup->size;
    vq->state->features = features;
    vq->state->active = 1;
    vq->owned = map;
    virtq_mark_ring(vq);
    atomic_store_explicit(&vq->map, map, memory_order_release); /* pairs with the acquire in virtq_io.c */
    return 0;
}

void virtq_mark_ring(const struct virtq *vq)
{
    const struct virtq_map *const map = vq->owned;

    if (!map || !map->log)
        return;
    if (map->packed)
        packed_mark_ring(vq, map);
    else
        dirty_log_mark_used(map->log, vq->index, 0, VRING_USED_BYTES(vq->mask + 1u));
}

void virtq_unpublish(struct virtq *vq)
{
    atomic_store_explicit(&vq->map, NULL, memory_order_release);
}

uint16_t virtq_stop(struct virtq *vq)
{
    if (vq->owned) {
        virtq_unpublish(vq);
        rcu_wait();
        if (vq->n_held)
            virtq_hold_settle(vq, vq->owned);
        vq->state->active = 0;
        virtq_fini(vq);
    }
    return vq->last_avail;
}

struct virtq_map *virtq_remap(struct virtq *vq, struct virtq_map *map)
{
    struct virtq_map *const old = vq->owned;

    vq->owned = map;
    atomic_store_explicit(&vq->map, map, memory_order_release); /* pairs as in virtq_start() */
    return old;
}

/*
 * EAGAIN: the counter is at its maximum, so the guest is notified already.  EINTR: the write slept, because
 * the peer made the eventfd blocking, and the thread's nudge ended that.
 */
static void write_call(struct virtq *vq, int fd)
{
    const uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        port_break(vq->port, vq->index, BREAK_call_stuck, one);
}

void virtq_signal(struct virtq *vq)
{
    const int fd = atomic_load_explicit(&vq->call_fd, memory_order_relaxed);

    if (fd < 0)
        return;
    vq->count->signals++;
    write_call(vq, fd);
}

void virtq_signal_again(struct virtq *vq)
{
    const int fd = atomic_load_explicit(&vq->call_fd, memory_order_relaxed);

    if (fd >= 0)
        write_call(vq, fd);
}
