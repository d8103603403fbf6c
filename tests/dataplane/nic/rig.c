/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * rig.c - see rig.h.
 */
#include "nic/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "harness.h"

#define PAGE 4096u
#define SNAP_AT 12u     /* of a frame's rest, where its second piece begins */

static const struct port_ops rig_ops = { .kind = "rig" };

/* ---- the devices ---- */

static void igb_init(struct rig *r, uint16_t device)
{
    (void)device;
    igm_init(&r->igb, &r->n.pool);
    r->n.bar[0] = (struct bar){ .size = IGM_BAR_SIZE, .model = &r->igb.bar };
}

static bool igb_is_quiet(const struct rig *r)
{
    bool quiet = true;

    for (uint32_t q = 0; q < IGM_QUEUES; q++)
        quiet = quiet && !r->igb.rx[q].size && !r->igb.tx[q].size;
    return quiet;
}

static bool igb_is_content(const struct rig *r)
{
    if (r->igb.e.faults)
        fprintf(stderr, "%u accesses outside of the pool\n", r->igb.e.faults);
    return r->igb.e.breaches == 0 && r->igb.e.faults == 0;
}

static void igb_fini(struct rig *r)
{
    igm_fini(&r->igb);
}

const struct rig_kind rig_igb = {
    .driver = &igb_driver, .device = 0x10c9, .init = igb_init, .is_quiet = igb_is_quiet,
    .is_content = igb_is_content, .fini = igb_fini,
};

static void ixgbe_init(struct rig *r, uint16_t device)
{
    ixm_init(&r->ixgbe, &r->n.pool, device);
    r->n.bar[0] = (struct bar){ .size = IXM_BAR_SIZE, .model = &r->ixgbe.bar };
}

static bool ixgbe_is_quiet(const struct rig *r)
{
    bool quiet = true;

    for (uint32_t q = 0; q < IXM_QUEUES; q++)
        quiet = quiet && !r->ixgbe.rx[q].on && !r->ixgbe.tx[q].on;
    return quiet;
}

static bool ixgbe_is_content(const struct rig *r)
{
    return r->ixgbe.breaches == 0;
}

static void ixgbe_fini(struct rig *r)
{
    ixm_fini(&r->ixgbe);
}

const struct rig_kind rig_ixgbe = {
    .driver = &ixgbe_driver, .device = IXM_82599, .init = ixgbe_init, .is_quiet = ixgbe_is_quiet,
    .is_content = ixgbe_is_content, .fini = ixgbe_fini,
};

/* ---- life ---- */

struct nic_config rig_config(void)
{
    return (struct nic_config){ .n_queues = 1, .ring_size = 128, .max_frame = 1514, .promiscuous = true };
}

struct nic_config rig_rsc_config(void)
{
    struct nic_config cfg = rig_config();

    cfg.lro = true;
    cfg.irq_us = 50;
    return cfg;
}

struct rig *rig_create(const struct rig_kind *kind, uint16_t device)
{
    struct rig *const r = calloc(1, sizeof(*r));
    const struct nic_id *id = kind->driver->ids;

    while (id->vendor && id->device != device)
        id++;
    if (!r || !id->vendor) {
        free(r);
        return NULL;
    }
    r->kind = kind;
    r->n.driver = kind->driver;
    r->n.pci_vendor = id->vendor;
    r->n.pci_device = id->device;
    r->n.variant = id->variant;
    r->n.port.ops = &rig_ops;
    r->n.port.state = &r->page;
    r->n.port.news_fd = -1;
    for (uint32_t q = 0; q < US_QUEUES_MAX; q++) {
        r->n.queue[q].nic = &r->n;
        r->n.queue[q].index = q;
    }
    kind->init(r, device);
    return r;
}

static void drop_pool(struct rig *r)
{
    if (r->n.pool.base)
        munmap(r->n.pool.base - PAGE, r->n.pool.size + 2 * PAGE);
    memset(&r->n.pool, 0, sizeof(r->n.pool));
}

/* The pool is made anew for each start, between pages that nobody may touch. */
static int make_pool(struct rig *r)
{
    const size_t size = (r->n.driver->pool_size(&r->n.cfg) + PAGE - 1) / PAGE * PAGE;
    uint8_t *base;

    drop_pool(r);
    base = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + PAGE, size, PROT_READ | PROT_WRITE) < 0)
        return -1;
    r->n.pool = (struct dma_pool){ .base = base + PAGE, .size = size, .iova = RIG_IOVA };
    return 0;
}

int rig_start(struct rig *r, const struct nic_config *cfg)
{
    int rc = r->n.priv ? 0 : r->n.driver->open(&r->n);

    if (rc < 0)
        return rc;
    r->n.cfg = *cfg;
    if (r->n.irq.n == 0 && !r->no_vectors)
        r->n.irq = (struct nic_irq){ .n = cfg->n_queues + 1, .msix = true };
    atomic_store(&r->n.port.max_frame, cfg->max_frame);
    if (make_pool(r) < 0)
        return -1;
    rc = r->n.driver->start(&r->n);
    if (rc == 0)
        atomic_store(&r->n.failed, 0);
    return rc;
}

struct rig *rig_up(const struct rig_kind *kind, uint32_t n_queues, uint32_t ring_size, uint32_t max_frame)
{
    struct rig *const r = rig_create(kind, kind->device);
    struct nic_config cfg = rig_config();

    cfg.n_queues = n_queues;
    cfg.ring_size = ring_size;
    cfg.max_frame = max_frame;
    if (r && rig_start(r, &cfg) == 0)
        return r;
    rig_destroy(r);
    return NULL;
}

void rig_destroy(struct rig *r)
{
    if (!r)
        return;
    r->n.driver->stop(&r->n);
    r->n.driver->close(&r->n);
    r->kind->fini(r);
    drop_pool(r);
    free(r);
}

bool rig_stop(struct rig *r)
{
    bool quiet;

    r->n.driver->stop(&r->n);
    quiet = r->kind->is_quiet(r);
    r->n.driver->close(&r->n);
    if (!quiet)
        fprintf(stderr, "a queue is still on after stop\n");
    return r->kind->is_content(r) && quiet;
}

bool rig_down(struct rig *r)
{
    const bool good = rig_stop(r);

    rig_destroy(r);
    return good;
}

struct us_nic_state rig_state(struct rig *r)
{
    struct us_nic_state state = { 0 };

    r->n.driver->read(&r->n, &state);
    return state;
}

/* ---- frames ---- */

void rig_arrive(struct rig *r, struct rig_flow *flow, uint32_t n, uint32_t payload, bool push)
{
    static uint8_t data[ENGINE_FRAME_MAX];

    for (uint32_t i = 0; i < n; i++) {
        flow->flags = push && i == n - 1 ? 0x18 : 0x10;
        CHECK_EQ(ixm_receive(&r->ixgbe, data, rig_packet(data, flow, payload)), 0);
        flow->seq += payload;
    }
}

unsigned rig_rx(struct rig *r, uint32_t queue)
{
    return r->n.driver->rx_burst(&r->n.queue[queue], &r->b);
}

void rig_complete(struct rig *r, uint32_t queue)
{
    r->n.driver->rx_complete(&r->n.queue[queue], &r->b);
}

uint32_t rig_bytes(const struct frame *f, uint8_t *to, uint32_t room)
{
    uint32_t at = f->hdr_len < room ? f->hdr_len : room;

    memcpy(to, f->hdr, at);
    for (uint32_t i = 0; i < f->n_iov && at + f->iov[i].iov_len <= room; i++) {
        memcpy(to + at, f->iov[i].iov_base, f->iov[i].iov_len);
        at += (uint32_t)f->iov[i].iov_len;
    }
    return at;
}

/* The rest in two pieces of odd places, as a guest may have it. */
enum drop_reason rig_tx(struct rig *r, uint32_t queue, const uint8_t *data, uint32_t len, uint16_t vid,
                        const struct vnet *vnet)
{
    const uint32_t want = vnet ? SNAP_SIZE : SNAP_SHORT, head = len < want ? len : want, rest = len - head;
    const uint32_t first = rest > SNAP_AT ? SNAP_AT + 1 : rest;
    struct iovec iov[2] = {
        { (void *)(uintptr_t)(data + head), first },
        { (void *)(uintptr_t)(data + head + first), rest - first },
    };
    uint8_t snap[HDR_ROOM + SNAP_SIZE] = { 0 }, why = DROP_COUNT;
    struct frame f = { .hdr = snap + HDR_ROOM, .hdr_len = head, .len = len, .out_vid = vid, .iov = iov,
                       .n_iov = (first != 0) + (rest != first), .pcp = vid == US_VID_UNTAGGED ? 0 : 0x6000 };
    struct frame *const frames[1] = { &f };

    memcpy(f.hdr, data, head);
    if (vnet)
        f.vnet = *vnet;
    r->n.driver->tx_burst(&r->n.queue[queue], frames, 1, &why);
    return why;
}
