/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * toy_guest.c - see toy_guest.h.  Memory: two rings, then a buffer a
 * descriptor.  Ring layouts are those of virtio 1.2, 2.7.
 */
#include "toy_guest.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_SIZE 0x100000u
#define RAM_UVA 0x7f1200000000ull
#define HDR_LEN 12u
#define BUF_LEN 2048u
#define DESC_F_WRITE 2

struct toy_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

static uint32_t desc_at(uint32_t ring)
{
    return ring * 0x3000;
}

static uint32_t avail_at(uint32_t ring)
{
    return ring * 0x3000 + 0x1000;
}

static uint32_t used_at(uint32_t ring)
{
    return ring * 0x3000 + 0x2000;
}

static uint32_t buf_at(uint32_t ring, uint32_t i)
{
    return 0x10000 + (ring * TOY_RING_SIZE + i) * BUF_LEN;
}

static uint16_t *u16_at(const struct toy_guest *g, uint32_t offset)
{
    return (uint16_t *)(void *)(g->ram + offset);
}

static void publish(struct toy_guest *g, uint32_t ring, uint16_t head)
{
    const uint64_t one = 1;

    *u16_at(g, avail_at(ring) + 4 + 2 * (g->avail[ring] % TOY_RING_SIZE)) = head;
    __atomic_store_n(u16_at(g, avail_at(ring) + 2), ++g->avail[ring], __ATOMIC_RELEASE);
    if (write(g->kick[ring], &one, sizeof(one)) < 0)
        return;
}

static void set_desc(const struct toy_guest *g, uint32_t ring, uint16_t i, uint32_t len, uint16_t flags)
{
    const struct toy_desc desc = { .addr = buf_at(ring, i), .len = len, .flags = flags };

    memcpy(g->ram + desc_at(ring) + i * sizeof(desc), &desc, sizeof(desc));
}

int toy_guest_create(struct toy_guest *g)
{
    memset(g, 0, sizeof(*g));
    g->memfd = memfd_create("toy-guest", MFD_CLOEXEC);
    if (g->memfd < 0 || ftruncate(g->memfd, RAM_SIZE) < 0)
        return -1;
    g->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
    if (g->ram == MAP_FAILED)
        return -1;
    for (unsigned i = 0; i < 2; i++) {
        g->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        g->call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    for (uint16_t i = 0; i < TOY_RING_SIZE; i++) {
        set_desc(g, 0, i, BUF_LEN, DESC_F_WRITE);
        publish(g, 0, i);
    }
    return 0;
}

void toy_guest_destroy(struct toy_guest *g)
{
    munmap(g->ram, RAM_SIZE);
    close(g->memfd);
    for (unsigned i = 0; i < 2; i++) {
        close(g->kick[i]);
        close(g->call[i]);
    }
}

struct us_port_add toy_guest_port(uint32_t port_id)
{
    return (struct us_port_add){
        .port_id = port_id, .kind = US_KIND_VHOST, .fdb_quota = 64, .max_frame = 1518,
    };
}

struct us_vhost_mem toy_guest_mem(uint32_t port_id)
{
    return (struct us_vhost_mem){
        .port_id = port_id, .n = 1, .region = { { .gpa = 0, .size = RAM_SIZE, .uva = RAM_UVA } },
    };
}

struct us_vhost_ring toy_guest_ring(uint32_t port_id, uint32_t ring)
{
    return (struct us_vhost_ring){
        .port_id = port_id, .ring = ring, .size = TOY_RING_SIZE, .features = TOY_FEATURES,
        .desc_uva = RAM_UVA + desc_at(ring), .avail_uva = RAM_UVA + avail_at(ring),
        .used_uva = RAM_UVA + used_at(ring), .enabled = 1, .fds = US_RING_KICK | US_RING_CALL,
    };
}

int toy_guest_plug(const struct toy_guest *g, struct uswitch *us, uint32_t port_id, uint16_t segment)
{
    return toy_guest_plug_seen(g, us, port_id, segment, NULL);
}

int toy_guest_plug_seen(const struct toy_guest *g, struct uswitch *us, uint32_t port_id, uint16_t segment,
                        struct us_state_page **state)
{
    const struct us_port_add add = toy_guest_port(port_id);
    const struct us_vhost_mem mem = toy_guest_mem(port_id);
    struct us_port_tags tags = { .port_id = port_id, .n = 1, .row = { { US_VID_UNTAGGED, segment } } };
    const int state_fd = us_state_page_create(port_id);
    int rc = uswitch_port_add(us, &add, state_fd, NULL, 0);

    if (state)
        *state = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
    close(state_fd);
    if (rc == 0)
        rc = uswitch_port_tags(us, &tags);
    if (rc == 0)
        rc = uswitch_vhost_mem(us, &mem, &g->memfd);
    for (uint32_t ring = 0; ring < 2 && rc == 0; ring++) {
        const struct us_vhost_ring start = toy_guest_ring(port_id, ring);

        rc = uswitch_ring_start(us, &start, g->kick[ring], g->call[ring]);
    }
    return rc;
}

void toy_guest_reset(struct toy_guest *g, uint32_t ring)
{
    memset(g->ram + desc_at(ring), 0, desc_at(1) - desc_at(0));
    g->avail[ring] = g->seen[ring] = 0;
}

static uint16_t used_index(const struct toy_guest *g, uint32_t ring)
{
    return __atomic_load_n(u16_at(g, used_at(ring) + 2), __ATOMIC_ACQUIRE);
}

bool toy_guest_send(struct toy_guest *g, const void *frame, uint32_t len)
{
    const uint16_t i = g->avail[1] % TOY_RING_SIZE;

    if ((uint16_t)(g->avail[1] - used_index(g, 1)) >= TOY_RING_SIZE || len > BUF_LEN - HDR_LEN)
        return false;
    memset(g->ram + buf_at(1, i), 0, HDR_LEN);
    memcpy(g->ram + buf_at(1, i) + HDR_LEN, frame, len);
    set_desc(g, 1, i, HDR_LEN + len, 0);
    publish(g, 1, i);
    return true;
}

uint32_t toy_guest_receive(struct toy_guest *g, void *frame, uint32_t size)
{
    uint32_t used[2];           /* id, len */
    uint32_t len;

    if (used_index(g, 0) == g->seen[0])
        return 0;
    memcpy(used, g->ram + used_at(0) + 4 + 8 * (g->seen[0]++ % TOY_RING_SIZE), sizeof(used));
    len = used[1] > HDR_LEN ? used[1] - HDR_LEN : 0;
    memcpy(frame, g->ram + buf_at(0, used[0]) + HDR_LEN, len < size ? len : size);
    publish(g, 0, (uint16_t)used[0]);
    return len;
}

void toy_guest_misbehave(struct toy_guest *g)
{
    g->avail[1] = (uint16_t)(g->avail[1] + 2 * TOY_RING_SIZE);
    publish(g, 1, 0);
}
