/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_guest.c - see fuzz_guest.h.
 */
#include "fuzz_guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

void fuzz_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
    abort();
}

void in_bytes(struct input *in, void *out, size_t n)
{
    const size_t got = n < in->left ? n : in->left;

    memcpy(out, in->at, got);
    memset((uint8_t *)out + got, 0, n - got);
    in->at += got;
    in->left -= got;
}

uint8_t in8(struct input *in)
{
    uint8_t v;

    in_bytes(in, &v, sizeof(v));
    return v;
}

uint16_t in16(struct input *in)
{
    uint16_t v;

    in_bytes(in, &v, sizeof(v));
    return v;
}

uint32_t in32(struct input *in)
{
    uint32_t v;

    in_bytes(in, &v, sizeof(v));
    return v;
}

struct uswitch *fuzz_switch(void)
{
    const struct us_config config = { .fdb_buckets = 16, .fdb_age_s = 300 };
    struct uswitch *us;

    MUST(uswitch_create(&config, &us) == 0);
    return us;
}

static void wipe(const struct fuzz_guest *g)
{
    memset(g->file, FG_CANARY, FG_FILE);
    memset(g->file + FG_OFFSET0, 0, FG_SIZE0);
    memset(g->file + FG_OFFSET1, 0, FG_SIZE1);
}

void fuzz_plug(struct fuzz_guest *g, struct uswitch *us, uint32_t id)
{
    const struct us_port_add add = { .port_id = id, .kind = US_KIND_VHOST, .fdb_quota = 8, .max_frame = US_FRAME_MAX };
    struct us_port_tags tags = { .port_id = id, .n = 1, .row = { { US_VID_UNTAGGED, 1 } } };
    struct us_vhost_mem mem = {
        .port_id = id, .n = 2,
        .region = { { FG_GPA, FG_SIZE0, FG_GPA + FG_UVA, FG_OFFSET0 },
                    { FG_GPA + FG_SIZE0, FG_SIZE1, FG_GPA + FG_SIZE0 + FG_UVA, FG_OFFSET1 } },
    };
    const int state_fd = us_state_page_create(id);
    int fds[2];

    *g = (struct fuzz_guest){ .us = us, .id = id };
    g->memfd = fds[0] = fds[1] = memfd_create("guest", MFD_CLOEXEC);
    MUST(g->memfd >= 0 && ftruncate(g->memfd, FG_FILE) == 0);
    g->file = mmap(NULL, FG_FILE, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
    g->state = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ, MAP_SHARED, state_fd, 0);
    MUST(g->file != MAP_FAILED && g->state != MAP_FAILED);
    g->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MUST(uswitch_port_add(us, &add, state_fd, NULL, 0) == 0);
    MUST(uswitch_port_tags(us, &tags) == 0);
    MUST(uswitch_vhost_mem(us, &mem, fds) == 0);
    close(state_fd);
}

/* To look for news costs a look at every port there could be, so only if there are some. */
static void forget_news(const struct fuzz_guest *g)
{
    struct us_event event;

    while (g->state->broken && uswitch_event_next(g->us, &event) == 1)
        ;
}

void fuzz_restart(struct fuzz_guest *g, uint64_t features, uint32_t size, uint16_t base)
{
    const bool packed = features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);

    forget_news(g);
    for (unsigned ring = 0; ring < 2; ring++)
        MUST(uswitch_ring_stop(g->us, g->id, ring) >= 0);
    wipe(g);
    g->features = features;
    g->size = size;
    for (unsigned ring = 0; ring < 2; ring++) {
        const struct us_vhost_ring start = {
            .port_id = g->id, .ring = ring, .size = size, .base = base, .features = features,
            .desc_uva = FG_RING(ring) + FG_UVA, .avail_uva = FG_RING(ring) + FG_AVAIL + FG_UVA,
            .used_uva = FG_RING(ring) + FG_USED + FG_UVA, .enabled = 1, .fds = US_RING_CALL,
        };
        const le16 idx = cpu_to_le16(base);

        if (!packed) {
            fuzz_write(g, FG_RING(ring) + FG_USED + 2, &idx, sizeof(idx));
            fuzz_write(g, FG_RING(ring) + FG_AVAIL + 2, &idx, sizeof(idx));
        }
        g->avail_idx[ring] = g->used_idx[ring] = base;
        MUST(uswitch_ring_start(g->us, &start, -1, g->call) == 0);
    }
}

uint8_t *fuzz_at(const struct fuzz_guest *g, uint64_t gpa)
{
    const uint64_t off = gpa - FG_GPA;

    if (off >= FG_SIZE)
        return NULL;
    return g->file + (off < FG_SIZE0 ? FG_OFFSET0 + off : FG_OFFSET1 + off - FG_SIZE0);
}

/* Of n bytes at gpa, those before the border between the regions. */
static size_t to_border(uint64_t gpa, size_t n)
{
    const uint64_t border = FG_GPA + FG_SIZE0;

    return gpa < border && n > border - gpa ? border - gpa : n;
}

void fuzz_write(const struct fuzz_guest *g, uint64_t gpa, const void *src, size_t n)
{
    const size_t first = to_border(gpa, n);

    memcpy(fuzz_at(g, gpa), src, first);
    if (first < n)
        memcpy(fuzz_at(g, gpa + first), (const uint8_t *)src + first, n - first);
}

void fuzz_read(const struct fuzz_guest *g, uint64_t gpa, void *dst, size_t n)
{
    const size_t first = to_border(gpa, n);

    memcpy(dst, fuzz_at(g, gpa), first);
    if (first < n)
        memcpy((uint8_t *)dst + first, fuzz_at(g, gpa + first), n - first);
}

static bool all_canary(const uint8_t *from, const uint8_t *to)
{
    /* Equal to itself shifted by one, and the first one is right. */
    return *from == FG_CANARY && memcmp(from, from + 1, (size_t)(to - from) - 1) == 0;
}

bool fuzz_canary_alive(const struct fuzz_guest *g)
{
    const uint8_t *const f = g->file;

    return all_canary(f, f + FG_OFFSET0) && all_canary(f + FG_OFFSET0 + FG_SIZE0, f + FG_OFFSET1) &&
           all_canary(f + FG_OFFSET1 + FG_SIZE1, f + FG_FILE);
}

struct vring_desc fuzz_desc(struct input *in, uint32_t entries)
{
    const uint8_t flags = in8(in), next = in8(in);
    const uint16_t at = in16(in), len = in16(in);
    struct vring_desc d = { .flags = cpu_to_le16(flags & 0x3f), .next = cpu_to_le16(next) };

    /* Often enough a few bytes beyond memory, on either side. */
    d.addr = cpu_to_le64(FG_GPA - 8 + at % (FG_SIZE + 16));
    d.len = cpu_to_le32(len % 2048);
    if (!(flags & 0x20))
        d.next = cpu_to_le16(next % entries);
    if (flags & 0x40)
        d.len = cpu_to_le32((uint32_t)in16(in) << 16 | len);
    if (flags & 0x80)
        d.addr = cpu_to_le64((uint64_t)in32(in) << 32 | in32(in));
    if ((flags & 0x14) == (0x10 | VRING_DESC_F_INDIRECT)) { /* a table as it should be */
        d.addr = cpu_to_le64(FG_TABLE + at % 16 * sizeof(d));
        d.len = cpu_to_le32((1 + len % 16) * (uint32_t)sizeof(d));
    }
    return d;
}

void fuzz_put_desc(const struct fuzz_guest *g, uint64_t table, uint32_t i, const struct vring_desc *d)
{
    fuzz_write(g, table + i * sizeof(*d), d, sizeof(*d));
}

void fuzz_offer(struct fuzz_guest *g, unsigned ring, uint16_t head)
{
    const le16 v = cpu_to_le16(head);

    fuzz_write(g, FG_RING(ring) + FG_AVAIL + 4 + 2 * (g->avail_idx[ring] % g->size), &v, sizeof(v));
    g->avail_idx[ring]++;
}

void fuzz_publish(const struct fuzz_guest *g, unsigned ring, uint16_t idx)
{
    const le16 v = cpu_to_le16(idx);

    fuzz_write(g, FG_RING(ring) + FG_AVAIL + 2, &v, sizeof(v));
}

bool fuzz_used(struct fuzz_guest *g, unsigned ring, uint32_t *id, uint32_t *len)
{
    struct vring_used_elem e;
    le16 idx;

    fuzz_read(g, FG_RING(ring) + FG_USED + 2, &idx, sizeof(idx));
    if (le16_to_cpu(idx) == g->used_idx[ring])
        return false;
    fuzz_read(g, FG_RING(ring) + FG_USED + 4 + sizeof(e) * (g->used_idx[ring]++ % g->size), &e, sizeof(e));
    *id = le32_to_cpu(e.id);
    *len = le32_to_cpu(e.len);
    return true;
}

bool fuzz_pieces(const struct fuzz_guest *g, uint64_t gpa, uint32_t len, struct piece *piece, unsigned *n)
{
    if (len > FG_SIZE || (len && gpa - FG_GPA > FG_SIZE - len))
        return false;
    while (len) {
        const uint32_t part = (uint32_t)to_border(gpa, len);

        MUST(*n < FG_PIECES_MAX);
        piece[(*n)++] = (struct piece){ fuzz_at(g, gpa), part };
        gpa += part;
        len -= part;
    }
    return true;
}

long fuzz_chain(const struct fuzz_guest *g, unsigned ring, uint16_t head, struct piece *piece, unsigned *n)
{
    const uint16_t direction = ring ? 0 : VRING_DESC_F_WRITE;
    uint64_t table = FG_RING(ring);
    uint32_t entries = g->size, i = head;
    bool indirect = false;
    long bytes = 0;

    *n = 0;
    for (uint32_t steps = 0; i < entries && steps < entries && *n < FG_PIECES_MAX - 2; steps++) {
        struct vring_desc d;
        uint16_t flags;

        fuzz_read(g, table + i * sizeof(d), &d, sizeof(d));
        flags = le16_to_cpu(d.flags);
        if (flags & VRING_DESC_F_INDIRECT) {
            const uint32_t len = le32_to_cpu(d.len);

            table = le64_to_cpu(d.addr);
            entries = len / sizeof(d);
            if (indirect || steps || (flags & VRING_DESC_F_NEXT) || len == 0 || len % sizeof(d) || len > FG_SIZE ||
                table - FG_GPA > FG_SIZE - len || !(g->features & VIRTIO_BIT(VIRTIO_F_RING_INDIRECT_DESC)))
                return -1;
            indirect = true;
            i = 0;
            steps--;
            continue;
        }
        if ((flags & VRING_DESC_F_WRITE) != direction ||
            !fuzz_pieces(g, le64_to_cpu(d.addr), le32_to_cpu(d.len), piece, n))
            return -1;
        bytes += le32_to_cpu(d.len);
        if (!(flags & VRING_DESC_F_NEXT))
            return bytes;
        i = le16_to_cpu(d.next);
    }
    return -1;
}

uint64_t fuzz_drops(const struct us_queue_counters *c)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < US_DROPS_MAX; i++)
        n += c->drop[i];
    return n;
}
