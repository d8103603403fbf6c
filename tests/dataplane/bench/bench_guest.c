/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_guest.c - see bench_guest.h.  Memory: a megabyte a ring, then the
 * buffers of the receive ring, then those of the transmit ring.
 */
#include "bench_guest.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench_packed.h"
#include "vnet.h"

#define HDR_LEN VNET_WIRE_LEN_MRG
#define RING_ROOM (1u << 20)
#define TABLE_ROOM (RING_ROOM / 8)      /* where indirect tables begin, behind the descriptors */
#define TABLE_DESCS 64
#define TABLES 256
#define UVA 0x7f1200000000ull
#define FDB_QUOTA 1000000

static bool is_packed(const struct bench_guest *g)
{
    return g->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
}

uint64_t bench_guest_buffer(const struct bench_guest *g, uint32_t ring, uint32_t i)
{
    return 2ull * RING_ROOM + ((uint64_t)ring * g->ring_size + i % g->ring_size) * g->stride;
}

static void place_ring(struct bench_guest *g, uint32_t ring)
{
    struct bench_ring *const r = &g->ring[ring];
    uint8_t *const at = g->ram + (size_t)ring * RING_ROOM;

    r->desc = (void *)at;
    r->avail = (void *)(at + RING_ROOM / 2);
    r->used = (void *)(at + RING_ROOM / 2 + RING_ROOM / 4);
    r->buf = g->ram + bench_guest_buffer(g, ring, 0);
    if (is_packed(g))
        return;
    for (uint32_t i = 0; i < g->ring_size; i++) {
        r->desc[i].addr = cpu_to_le64(bench_guest_buffer(g, ring, i));
        r->desc[i].len = cpu_to_le32(g->buf_size);
        r->desc[i].flags = cpu_to_le16(ring == 0 ? VRING_DESC_F_WRITE : 0);
    }
}

static void offer_chain(struct bench_guest *g, struct bench_ring *r)
{
    r->avail->ring[r->chains++ % g->ring_size] = cpu_to_le16((uint16_t)(r->offered % g->ring_size));
}

static void publish(struct bench_ring *r)
{
    __atomic_store_n(&r->avail->idx.raw, cpu_to_le16(r->chains).raw, __ATOMIC_RELEASE);
}

static uint16_t used_index(const struct bench_ring *r)
{
    return le16_to_cpu((le16){ __atomic_load_n(&r->used->idx.raw, __ATOMIC_ACQUIRE) });
}

int bench_guest_create(struct bench_guest *g)
{
    g->stride = (g->buf_size + 63) / 64 * 64 + 128;     /* as if a pool's object had a head of its own */
    g->bytes = (bench_guest_buffer(g, 1, g->ring_size - 1) + g->stride + 4095) / 4096 * 4096;
    g->memfd = memfd_create("bench-guest", MFD_CLOEXEC);
    if (g->memfd < 0 || ftruncate(g->memfd, (off_t)g->bytes) < 0)
        return -errno;
    g->ram = mmap(NULL, g->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, g->memfd, 0);
    if (g->ram == MAP_FAILED)
        return -errno;
    for (uint32_t ring = 0; ring < 2; ring++) {
        place_ring(g, ring);
        /* The driver polls. */
        if (is_packed(g))
            g->ring[ring].driver->state = cpu_to_le32(RING_EVENT_FLAGS_DISABLE << 16);
        else if (g->features & VIRTIO_BIT(VIRTIO_F_RING_EVENT_IDX))
            g->ring[ring].avail->ring[g->ring_size] = cpu_to_le16(UINT16_MAX);
        else
            g->ring[ring].avail->flags = cpu_to_le16(VRING_AVAIL_F_NO_INTERRUPT);
    }
    for (uint32_t i = 0; i < g->ring_size; i++) {
        if (is_packed(g)) {
            bench_packed_offer(g, &g->ring[0]);
            continue;
        }
        offer_chain(g, &g->ring[0]);
        g->ring[0].offered++;
    }
    if (!is_packed(g))
        publish(&g->ring[0]);
    return 0;
}

void bench_guest_destroy(struct bench_guest *g)
{
    munmap(g->ram, g->bytes);
    close(g->memfd);
}

static int start_ring(const struct bench_guest *g, struct uswitch *us, uint32_t ring)
{
    const uint64_t at = UVA + (uint64_t)ring * RING_ROOM;
    const struct us_vhost_ring start = {
        .port_id = g->port_id, .ring = ring, .size = g->ring_size, .features = g->features,
        .desc_uva = at, .avail_uva = at + RING_ROOM / 2, .used_uva = at + RING_ROOM / 2 + RING_ROOM / 4,
        .base = is_packed(g) ? 0x8000 : 0, .enabled = 1, .fds = US_RING_KICK | US_RING_CALL,
    };
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int rc = uswitch_ring_start(us, &start, fd, fd);

    close(fd);
    return rc;
}

int bench_guest_plug(const struct bench_guest *g, struct uswitch *us)
{
    const struct us_port_add add = { .port_id = g->port_id, .kind = US_KIND_VHOST, .fdb_quota = FDB_QUOTA,
                                     .max_frame = US_FRAME_MAX };
    const struct us_port_tags tags = { .port_id = g->port_id, .n = 1, .row = { { US_VID_UNTAGGED, 1 } } };
    const struct us_vhost_mem mem = { .port_id = g->port_id, .n = 1,
                                      .region = { { .gpa = 0, .size = g->bytes, .uva = UVA } } };
    const int state_fd = us_state_page_create(g->port_id);
    int rc = uswitch_port_add(us, &add, state_fd, NULL, 0);

    close(state_fd);
    if (rc == 0)
        rc = uswitch_port_tags(us, &tags);
    if (rc == 0)
        rc = uswitch_vhost_mem(us, &mem, &g->memfd);
    for (uint32_t ring = 0; ring < 2 && rc == 0; ring++)
        rc = start_ring(g, us, ring);
    return rc;
}

uint32_t bench_guest_descs(const struct bench_guest *g, uint32_t len)
{
    return (HDR_LEN + len + g->buf_size - 1) / g->buf_size;
}

static void chain_direct(struct bench_guest *g, struct bench_ring *r, uint32_t left)
{
    offer_chain(g, r);
    while (left) {
        struct vring_desc *const d = &r->desc[r->offered % g->ring_size];
        const uint32_t part = left < g->buf_size ? left : g->buf_size;

        left -= part;
        r->offered++;
        d->len = cpu_to_le32(part);
        d->flags = cpu_to_le16(left ? VRING_DESC_F_NEXT : 0);
        d->next = cpu_to_le16((uint16_t)(r->offered % g->ring_size));
    }
}

/* The next chain's indirect table. */
static uint64_t table_at(const struct bench_ring *r)
{
    return RING_ROOM + TABLE_ROOM + r->chains % TABLES * TABLE_DESCS * sizeof(struct vring_desc);
}

static void send_packed(struct bench_guest *g, struct bench_ring *r, uint32_t bytes, uint32_t n)
{
    if (n > 1 && (g->features & VIRTIO_BIT(VIRTIO_F_RING_INDIRECT_DESC)))
        bench_packed_indirect(g, r, table_at(r), bytes, n);
    else
        bench_packed_chain(g, r, bytes, n);
    r->chains++;
}

/* The table is that of the head; the descriptors that the buffers would be stay unused. */
static void chain_indirect(struct bench_guest *g, struct bench_ring *r, uint32_t left, uint32_t n)
{
    const uint32_t head = r->offered % g->ring_size;
    const uint64_t at = table_at(r);
    struct vring_desc *const table = (void *)(g->ram + at);

    offer_chain(g, r);
    r->desc[head].addr = cpu_to_le64(at);
    r->desc[head].len = cpu_to_le32(n * (uint32_t)sizeof(*table));
    r->desc[head].flags = cpu_to_le16(VRING_DESC_F_INDIRECT);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t part = left < g->buf_size ? left : g->buf_size;

        left -= part;
        table[i].addr = cpu_to_le64(bench_guest_buffer(g, 1, r->offered++));
        table[i].len = cpu_to_le32(part);
        table[i].flags = cpu_to_le16(left ? VRING_DESC_F_NEXT : 0);
        table[i].next = cpu_to_le16((uint16_t)(i + 1));
    }
}

void bench_guest_send(struct bench_guest *g, uint64_t to, uint64_t from, uint32_t len)
{
    /* As far as anybody looks. */
    static const uint8_t ipv4[] = { 0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1 };
    struct bench_ring *const r = &g->ring[1];
    uint8_t *const frame = g->ram + bench_guest_buffer(g, 1, r->offered) + HDR_LEN;
    const uint64_t to_le = cpu_to_le64(to).raw, from_le = cpu_to_le64(from).raw;
    const uint32_t n = bench_guest_descs(g, len);

    memset(frame - HDR_LEN, 0, HDR_LEN);
    memcpy(frame, &to_le, 6);
    memcpy(frame + 6, &from_le, 6);
    memcpy(frame + 12, ipv4, sizeof(ipv4));
    if (is_packed(g))
        send_packed(g, r, HDR_LEN + len, n);
    else if (n > 1 && (g->features & VIRTIO_BIT(VIRTIO_F_RING_INDIRECT_DESC)))
        chain_indirect(g, r, HDR_LEN + len, n);
    else
        chain_direct(g, r, HDR_LEN + len);
}

void bench_guest_publish(struct bench_guest *g)
{
    if (!is_packed(g)) /* which sees each descriptor as it is written */
        publish(&g->ring[1]);
}

uint32_t bench_guest_free(struct bench_guest *g)
{
    struct bench_ring *const r = &g->ring[1];
    const uint16_t idx = is_packed(g) ? r->taken : used_index(r);

    if (is_packed(g))
        bench_packed_returned(g, r);
    for (; r->taken != idx; r->taken++) {
        uint32_t i = g->features & VIRTIO_BIT(VIRTIO_F_IN_ORDER) ?
                     r->returned % g->ring_size : le32_to_cpu(r->used->ring[r->taken % g->ring_size].id);

        if (le16_to_cpu(r->desc[i].flags) & VRING_DESC_F_INDIRECT) {
            r->returned += le32_to_cpu(r->desc[i].len) / (uint32_t)sizeof(struct vring_desc);
            continue;
        }
        for (r->returned++; le16_to_cpu(r->desc[i].flags) & VRING_DESC_F_NEXT; r->returned++)
            i = (i + 1) % g->ring_size;
    }
    return g->ring_size - (r->offered - r->returned);
}

uint32_t bench_guest_receive(struct bench_guest *g, uint64_t *bytes)
{
    struct bench_ring *const r = &g->ring[0];
    const uint16_t idx = used_index(r);
    uint32_t frames = 0;

    if (is_packed(g))
        return bench_packed_receive(g, r, bytes);
    while (r->taken != idx) {
        const struct vring_used_elem *e = &r->used->ring[r->taken % g->ring_size];
        const uint8_t *const hdr = g->ram + bench_guest_buffer(g, 0, le32_to_cpu(e->id));
        uint32_t n = hdr[10] | (uint32_t)hdr[11] << 8;  /* num_buffers */

        frames++;
        for (*bytes -= HDR_LEN; n; n--) {
            *bytes += le32_to_cpu(r->used->ring[r->taken++ % g->ring_size].len);
            offer_chain(g, r);
            r->offered++;
        }
    }
    publish(r);
    return frames;
}

void bench_guest_copy(const struct bench_guest *from, const struct bench_guest *to, uint32_t len, uint32_t first,
                      uint32_t frames)
{
    uint32_t src = from->ring[1].offered + first * bench_guest_descs(from, len);
    uint32_t dst = to->ring[0].offered + first * bench_guest_descs(from, len);

    while (frames--) {
        for (uint32_t left = HDR_LEN + len; left;) {
            const uint32_t part = left < from->buf_size ? left : from->buf_size;

            memcpy(to->ram + bench_guest_buffer(to, 0, dst++), from->ram + bench_guest_buffer(from, 1, src++), part);
            left -= part;
        }
    }
}
