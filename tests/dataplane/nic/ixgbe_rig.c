/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_rig.c - see ixgbe_rig.h.
 */
#include "nic/ixgbe_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "nic/nic_math.h"

static const struct port_ops rig_ops = { .kind = "rig" };

struct nic_config rig_config(void)
{
    return (struct nic_config){ .n_queues = 1, .ring_size = 128, .max_frame = 1514, .promiscuous = true };
}

static const struct nic_id *find_id(uint16_t device)
{
    for (const struct nic_id *id = ixgbe_driver.ids; id->vendor; id++)
        if (id->device == device)
            return id;
    return NULL;
}

struct rig *rig_create(uint16_t device)
{
    const struct nic_id *id = find_id(device);
    struct rig *r = calloc(1, sizeof(*r));

    if (!r || !id) {
        free(r);
        return NULL;
    }
    r->n.driver = &ixgbe_driver;
    r->n.pci_vendor = id->vendor;
    r->n.pci_device = id->device;
    r->n.variant = id->variant;
    r->n.port.ops = &rig_ops;
    r->n.port.state = &r->page;
    r->n.port.news_fd = -1;
    ixm_init(&r->m, &r->n.pool, device);
    r->n.bar[0] = (struct bar){ .size = IXM_BAR_SIZE, .model = &r->m.bar };
    return r;
}

static void drop_pool(struct rig *r)
{
    if (r->n.pool.base)
        munmap(r->n.pool.base, r->n.pool.size);
    memset(&r->n.pool, 0, sizeof(r->n.pool));
}

void rig_destroy(struct rig *r)
{
    if (!r)
        return;
    r->n.driver->stop(&r->n);
    r->n.driver->close(&r->n);
    ixm_fini(&r->m);
    drop_pool(r);
    free(r);
}

/* The pool is made anew for each start, with a page behind it that nobody may touch. */
static int make_pool(struct rig *r)
{
    const size_t size = (r->n.driver->pool_size(&r->n.cfg) + 4095) & ~(size_t)4095;
    uint8_t *base;

    drop_pool(r);
    base = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return -1;
    mprotect(base + size, 4096, PROT_NONE);
    r->n.pool = (struct dma_pool){ .base = base, .size = size, .iova = RIG_IOVA };
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
    for (uint32_t q = 0; q < cfg->n_queues; q++) {
        r->n.queue[q].nic = &r->n;
        r->n.queue[q].index = q;
    }
    if (make_pool(r) < 0)
        return -1;
    rc = r->n.driver->start(&r->n);
    if (rc == 0)
        atomic_store(&r->n.failed, 0);
    return rc;
}

int rig_stop(struct rig *r)
{
    bool quiet = true;

    r->n.driver->stop(&r->n);
    for (uint32_t q = 0; q < IXM_QUEUES; q++)
        quiet = quiet && !r->m.rx[q].on && !r->m.tx[q].on;
    r->n.driver->close(&r->n);
    if (!quiet)
        fprintf(stderr, "a queue is still on after stop\n");
    return quiet && r->m.breaches == 0;
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

enum drop_reason rig_tx(struct rig *r, uint32_t queue, const uint8_t *data, uint32_t len, uint16_t vid,
                        const struct vnet *vnet)
{
    uint8_t snap[HDR_ROOM + SNAP_SIZE];
    const uint32_t n = vnet ? SNAP_SIZE : SNAP_SHORT;
    struct frame f = { .hdr = snap + HDR_ROOM, .len = len, .out_vid = vid, .hdr_len = len < n ? len : n };
    struct frame *const frames[1] = { &f };
    struct iovec iov = { .iov_base = (void *)(uintptr_t)(data + f.hdr_len), .iov_len = len - f.hdr_len };
    uint8_t why = DROP_COUNT;

    memcpy(f.hdr, data, f.hdr_len);
    f.iov = &iov;
    f.n_iov = iov.iov_len ? 1 : 0;
    if (vnet)
        f.vnet = *vnet;
    r->n.driver->tx_burst(&r->n.queue[queue], frames, 1, &why);
    return why;
}

static uint32_t put_ip(uint8_t *out, const struct rig_flow *flow, uint32_t l4_len)
{
    const uint8_t protocol = flow->udp ? 17 : 6;

    if (flow->ip6) {
        memset(out, 0, 40);
        out[0] = 0x60;
        nic_put16(out + 4, l4_len);
        out[6] = protocol;
        out[7] = 64;
        out[8] = out[24] = 0xfd;
        nic_put32(out + 20, flow->from);
        nic_put32(out + 36, flow->to);
        return 40;
    }
    memset(out, 0, 20);
    out[0] = 0x45;
    nic_put16(out + 2, 20 + l4_len);
    nic_put16(out + 4, 0x1234);
    out[8] = 64;
    out[9] = protocol;
    nic_put32(out + 12, flow->from);
    nic_put32(out + 16, flow->to);
    return 20;
}

uint32_t rig_packet(uint8_t *out, const struct rig_flow *flow, uint32_t payload)
{
    const uint32_t l4_hdr = flow->udp ? 8 : 32;
    const uint32_t l3 = flow->tagged ? 18 : 14;
    struct nic_packet p;
    uint32_t l4;

    memcpy(out, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
    if (flow->tagged)
        memcpy(out + 12, "\x81\x00\x20\x64", 4);
    nic_put16(out + l3 - 2, flow->ip6 ? 0x86dd : 0x0800);
    l4 = l3 + put_ip(out + l3, flow, l4_hdr + payload);
    memset(out + l4, 0, l4_hdr);
    nic_put16(out + l4, flow->sport);
    nic_put16(out + l4 + 2, flow->dport);
    if (flow->udp) {
        nic_put16(out + l4 + 4, 8 + payload);
    } else {
        nic_put32(out + l4 + 4, flow->seq);
        nic_put32(out + l4 + 8, 77);
        out[l4 + 12] = 8 << 4;  /* 12 bytes of options: a time stamp */
        out[l4 + 13] = flow->flags;
        nic_put16(out + l4 + 14, 500);
        memcpy(out + l4 + 20, "\x01\x01\x08\x0a\x00\x00\x00\x07\x00\x00\x00\x08", 12);
    }
    for (uint32_t i = 0; i < payload; i++)
        out[l4 + l4_hdr + i] = (uint8_t)((flow->seq + i) * 7 + ((flow->seq + i) >> 8));
    nic_packet_parse(out, l4 + l4_hdr + payload, &p);
    nic_csum_fill(out, &p);
    return l4 + l4_hdr + payload;
}
