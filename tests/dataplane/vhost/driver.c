/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * driver.c - see driver.h.  Ring words are atomics here, too: tests run the
 * driver in a thread beside the worker, under ThreadSanitizer.
 */
#include "vhost/driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/guard.h"

#define FILE_SIZE (DRV_SIZE0 + DRV_GAP + DRV_SIZE1)
#define RING_ROOM (1u << 20) /* bytes for one ring of 32768: 512 KiB + 64 KiB + 256 KiB */

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(2);
    }
}

void *drv_ptr(const struct driver *d, uint64_t gpa)
{
    const uint64_t off = gpa - DRV_GPA;

    return d->ram + off + (off < DRV_SIZE0 ? 0 : DRV_GAP);
}

/* Of len bytes at gpa, those before the border. */
static size_t to_border(uint64_t gpa, size_t len)
{
    return gpa < DRV_BORDER && len > DRV_BORDER - gpa ? DRV_BORDER - gpa : len;
}

void drv_write(const struct driver *d, uint64_t gpa, const void *src, size_t len)
{
    const size_t first = to_border(gpa, len);

    memcpy(drv_ptr(d, gpa), src, first);
    if (first < len)
        memcpy(drv_ptr(d, gpa + first), (const uint8_t *)src + first, len - first);
}

void drv_read(const struct driver *d, uint64_t gpa, void *dst, size_t len)
{
    const size_t first = to_border(gpa, len);

    memcpy(dst, drv_ptr(d, gpa), first);
    if (first < len)
        memcpy((uint8_t *)dst + first, drv_ptr(d, gpa + first), len - first);
}

static uint64_t ring_gpa(uint32_t index)
{
    return DRV_GPA + (uint64_t)index % 4 * RING_ROOM + (index >= 4 ? 4 * RING_ROOM : 0);
}

void drv_ring_place(struct driver *d, struct drv_ring *r, uint32_t index, uint32_t size)
{
    uint8_t *const at = drv_ptr(d, ring_gpa(index));

    memset(at, 0, RING_ROOM - (64u << 10)); /* not what drv_table() uses */
    r->index = index;
    r->size = size;
    r->desc = (void *)at;
    r->avail = (void *)(at + (512u << 10));
    r->used = (void *)(at + (640u << 10));
    r->avail_idx = 0;
    r->used_idx = 0;
    r->in_order = d->features & VIRTIO_BIT(VIRTIO_F_IN_ORDER);
    r->in_batch = false;
}

struct us_vhost_ring drv_ring_request(const struct driver *d, const struct drv_ring *r)
{
    const uint64_t uva = ring_gpa(r->index) + DRV_UVA;

    return (struct us_vhost_ring){
        .ring = r->index, .size = r->size,
        .base = d->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED) ? 0x8000 : 0, .features = d->features, .desc_uva = uva,
        .avail_uva = uva + (512u << 10), .used_uva = uva + (640u << 10), .enabled = 1,
        .fds = US_RING_KICK | US_RING_CALL,
    };
}

static int start_ring(struct driver *d, struct drv_ring *r)
{
    const struct us_vhost_ring request = drv_ring_request(d, r);
    const int rc = vhost_port_ring_start(d->port, &request, r->kick, r->call);

    if (rc == 0)
        vhost_port_ring_run(d->port, request.ring, false);
    return rc;
}

static void create(struct driver *d, uint64_t features, uint32_t size, bool shared)
{
    const struct us_port_add add = { .kind = US_KIND_VHOST, .fdb_quota = 256, .max_frame = 9014 };
    const int flags = EFD_CLOEXEC | EFD_NONBLOCK;
    int fds[2];

    memset(d, 0, sizeof(*d));
    must(guard_install() == 0, "guard_install");
    d->features = features;
    d->memfd = memfd_create("guest", MFD_CLOEXEC);
    must(d->memfd >= 0 && ftruncate(d->memfd, FILE_SIZE) == 0, "memfd");
    d->ram = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, d->memfd, 0);
    d->state = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(d->ram != MAP_FAILED && d->state != MAP_FAILED, "mmap");
    d->news = eventfd(0, flags);
    d->rx.kick = eventfd(0, flags);
    d->rx.call = eventfd(0, flags);
    d->tx.kick = eventfd(0, flags);
    d->tx.call = eventfd(0, flags);
    must(vhost_port_create(&add, d->state, shared, d->news, &d->port) == 0, "vhost_port_create");
    d->mem.n = 2;
    d->mem.region[0] = (struct us_mem_region){ DRV_GPA, DRV_SIZE0, DRV_GPA + DRV_UVA, 0 };
    d->mem.region[1] = (struct us_mem_region){ DRV_BORDER, DRV_SIZE1, DRV_BORDER + DRV_UVA, DRV_SIZE0 + DRV_GAP };
    fds[0] = fds[1] = d->memfd;
    must(vhost_port_set_mem(d->port, &d->mem, fds) == 0, "vhost_port_set_mem");
    drv_ring_place(d, &d->rx, 0, size);
    drv_ring_place(d, &d->tx, 1, size);
    must(start_ring(d, &d->rx) == 0 && start_ring(d, &d->tx) == 0, "ring_start");
}

void drv_create(struct driver *d, uint64_t features, uint32_t size)
{
    create(d, features, size, false);
}

void drv_create_shared(struct driver *d, uint64_t features, uint32_t size)
{
    create(d, features, size, true);
}

int drv_restart(struct driver *d, uint64_t features, uint32_t size)
{
    int rc;

    vhost_port_ring_stop(d->port, 0);
    vhost_port_ring_stop(d->port, 1);
    d->features = features;
    drv_ring_place(d, &d->rx, 0, size);
    drv_ring_place(d, &d->tx, 1, size);
    rc = start_ring(d, &d->rx);
    return rc ? rc : start_ring(d, &d->tx);
}

void drv_destroy(struct driver *d)
{
    d->port->ops->stop(d->port);
    d->port->ops->destroy(d->port);
    munmap(d->ram, FILE_SIZE);
    close(d->memfd);
    close(d->news);
    close(d->rx.kick);
    close(d->rx.call);
    close(d->tx.kick);
    close(d->tx.call);
}

void drv_desc(struct drv_ring *r, uint32_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    struct vring_desc *const d = &r->desc[i];

    __atomic_store_n(&d->addr.raw, htole64(addr), __ATOMIC_RELAXED);
    __atomic_store_n(&d->len.raw, htole32(len), __ATOMIC_RELAXED);
    __atomic_store_n(&d->flags.raw, htole16(flags), __ATOMIC_RELAXED);
    __atomic_store_n(&d->next.raw, htole16(next), __ATOMIC_RELAXED);
}

void drv_table(struct driver *d, uint64_t table, uint32_t i, uint64_t addr, uint32_t len, uint16_t flags,
               uint16_t next)
{
    const struct vring_desc entry = { cpu_to_le64(addr), cpu_to_le32(len), cpu_to_le16(flags), cpu_to_le16(next) };

    drv_write(d, table + (uint64_t)i * sizeof(entry), &entry, sizeof(entry));
}

void drv_offer(struct drv_ring *r, uint16_t head)
{
    __atomic_store_n(&r->avail->ring[r->avail_idx++ & (r->size - 1)].raw, htole16(head), __ATOMIC_RELAXED);
}

void drv_publish(struct drv_ring *r)
{
    __atomic_store_n(&r->avail->idx.raw, htole16(r->avail_idx), __ATOMIC_RELEASE);
}

void drv_one(struct drv_ring *r, uint16_t head, uint64_t addr, uint32_t len, uint16_t flags)
{
    drv_desc(r, head, addr, len, flags, 0);
    drv_offer(r, head);
    drv_publish(r);
}

bool drv_used(struct drv_ring *r, uint32_t *id, uint32_t *len)
{
    const uint16_t at = r->used_idx & (r->size - 1);

    if (le16toh(__atomic_load_n(&r->used->idx.raw, __ATOMIC_ACQUIRE)) == r->used_idx) {
        must(!r->in_batch, "a batch that goes on behind the used index");
        return false;
    }
    r->used_idx++;
    if (!r->in_batch) {
        r->batch_id = le32toh(__atomic_load_n(&r->used->ring[at].id.raw, __ATOMIC_RELAXED));
        r->batch_len = le32toh(__atomic_load_n(&r->used->ring[at].len.raw, __ATOMIC_RELAXED));
    }
    *id = r->in_order ? le16toh(r->avail->ring[at].raw) : r->batch_id;
    *len = *id == r->batch_id ? r->batch_len : 0;
    r->in_batch = *id != r->batch_id;
    return true;
}

uint64_t drv_calls(const struct drv_ring *r)
{
    uint64_t n = 0;

    return read(r->call, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

unsigned drv_rx(struct driver *d, struct burst *b)
{
    struct rxq *const q = &d->port->rxq[0];
    const unsigned n = d->port->ops->rx_burst(q, b);

    d->port->ops->rx_complete(q, b);
    return n;
}

uint32_t drv_gather(const struct frame *f, uint8_t *out, uint32_t room)
{
    uint32_t n = f->hdr_len;

    if (f->hdr_len > room)
        return 0;
    memcpy(out, f->hdr, f->hdr_len);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        if (f->iov[i].iov_len == 0 || f->iov[i].iov_len > room - n)
            return 0;
        memcpy(out + n, f->iov[i].iov_base, f->iov[i].iov_len);
        n += (uint32_t)f->iov[i].iov_len;
    }
    return n;
}

uint64_t drv_drops_in(const struct driver *d, enum drop_reason why)
{
    return d->state->in[0].drop[why];
}

uint64_t drv_drops_out(const struct driver *d, enum drop_reason why)
{
    return d->state->out[0].drop[why];
}

uint64_t drv_drops(const struct driver *d)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < DROP_COUNT; i++)
        n += d->state->in[0].drop[i] + d->state->out[0].drop[i];
    return n;
}

void drv_pattern(uint8_t *frame, uint32_t len, uint32_t seed)
{
    static const uint8_t front[ETH_HDR_LEN] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };

    for (uint32_t i = 0; i < len; i++)
        frame[i] = i < sizeof(front) ? front[i] : (uint8_t)(seed * 29 + i + (i >> 8) * 7);
}

void drv_frame(struct drv_frame *out, uint32_t len, uint32_t seed)
{
    const uint32_t snap = len < SNAP_SHORT ? len : SNAP_SHORT;
    const uint32_t rest = len - snap, half = rest / 2;

    drv_pattern(out->data, len, seed);
    memset(out->hdr, 0xee, sizeof(out->hdr));
    memcpy(out->hdr + HDR_ROOM, out->data, snap);
    out->f = (struct frame){ .hdr = out->hdr + HDR_ROOM, .hdr_len = snap, .len = len, .iov = out->iov,
                             .out_vid = US_VID_UNTAGGED };
    if (half)
        out->iov[out->f.n_iov++] = (struct iovec){ out->data + snap, half };
    if (rest - half)
        out->iov[out->f.n_iov++] = (struct iovec){ out->data + snap + half, rest - half };
}

unsigned drv_tx(struct driver *d, struct drv_frame *f)
{
    struct frame *list[1] = { &f->f };

    return d->port->ops->tx_burst(d->port, list, 1);
}
