/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_rig.c - see igb_rig.h.
 */
#include "nic/igb_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "nic/nic_math.h"

#define PAGE 4096u
#define SNAP_AT 12u     /* of a frame's rest, where its second piece begins */

static const struct port_ops rig_ops = { .kind = "rig" };

struct nic_config igr_config(void)
{
    return (struct nic_config){ .n_queues = 1, .ring_size = 128, .max_frame = 1514, .promiscuous = true };
}

struct igr *igr_create(uint16_t device)
{
    struct igr *const r = calloc(1, sizeof(*r));
    const struct nic_id *id = igb_driver.ids;

    while (id->vendor && id->device != device)
        id++;
    if (!r || !id->vendor) {
        free(r);
        return NULL;
    }
    r->n.driver = &igb_driver;
    r->n.pci_vendor = id->vendor;
    r->n.pci_device = id->device;
    r->n.variant = id->variant;
    r->n.port.ops = &rig_ops;
    r->n.port.state = &r->page;
    r->n.port.news_fd = -1;
    igm_init(&r->m, &r->n.pool);
    r->n.bar[0] = (struct bar){ .size = IGM_BAR_SIZE, .model = &r->m.bar };
    for (uint32_t q = 0; q < US_QUEUES_MAX; q++) {
        r->n.queue[q].nic = &r->n;
        r->n.queue[q].index = q;
    }
    return r;
}

static void drop_pool(struct igr *r)
{
    if (r->n.pool.base)
        munmap(r->n.pool.base - PAGE, r->n.pool.size + 2 * PAGE);
    memset(&r->n.pool, 0, sizeof(r->n.pool));
}

/* The pool is made anew for each start, between pages that nobody may touch. */
static int make_pool(struct igr *r)
{
    const size_t size = (r->n.driver->pool_size(&r->n.cfg) + PAGE - 1) / PAGE * PAGE;
    uint8_t *base;

    drop_pool(r);
    base = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + PAGE, size, PROT_READ | PROT_WRITE) < 0)
        return -1;
    r->n.pool = (struct dma_pool){ .base = base + PAGE, .size = size, .iova = IGR_IOVA };
    return 0;
}

int igr_start(struct igr *r, const struct nic_config *cfg)
{
    int rc = r->n.priv ? 0 : r->n.driver->open(&r->n);

    if (rc < 0)
        return rc;
    r->n.cfg = *cfg;
    if (r->n.irq.n == 0)
        r->n.irq = (struct nic_irq){ .n = cfg->n_queues + 1, .msix = true };
    atomic_store(&r->n.port.max_frame, cfg->max_frame);
    if (make_pool(r) < 0)
        return -1;
    rc = r->n.driver->start(&r->n);
    if (rc == 0)
        atomic_store(&r->n.failed, 0);
    return rc;
}

struct igr *igr_up(uint32_t n_queues, uint32_t ring_size, uint32_t max_frame)
{
    struct nic_config cfg = igr_config();
    struct igr *const r = igr_create(IGR_82576);

    cfg.n_queues = n_queues;
    cfg.ring_size = ring_size;
    cfg.max_frame = max_frame;
    if (r && igr_start(r, &cfg) == 0)
        return r;
    igr_destroy(r);
    return NULL;
}

void igr_destroy(struct igr *r)
{
    if (!r)
        return;
    r->n.driver->stop(&r->n);
    r->n.driver->close(&r->n);
    igm_fini(&r->m);
    drop_pool(r);
    free(r);
}

bool igr_down(struct igr *r)
{
    bool good = true;

    r->n.driver->stop(&r->n);
    for (uint32_t q = 0; q < IGM_QUEUES; q++) {
        good = good && !r->m.rx[q].size && !r->m.tx[q].size;
    }
    if (!good)
        fprintf(stderr, "a queue is still on after stop\n");
    if (r->m.e.faults)
        fprintf(stderr, "%u accesses outside of the pool\n", r->m.e.faults);
    good = good && r->m.e.breaches == 0 && r->m.e.faults == 0;
    igr_destroy(r);
    return good;
}

unsigned igr_rx(struct igr *r, uint32_t queue)
{
    return r->n.driver->rx_burst(&r->n.queue[queue], &r->b);
}

void igr_complete(struct igr *r, uint32_t queue)
{
    r->n.driver->rx_complete(&r->n.queue[queue], &r->b);
}

uint32_t igr_bytes(const struct frame *f, uint8_t *to, uint32_t room)
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
void igr_frame(struct igr_out *out, const uint8_t *data, uint32_t len, uint16_t vid, const struct vnet *vnet)
{
    const uint32_t want = vnet ? SNAP_SIZE : SNAP_SHORT, head = len < want ? len : want, rest = len - head;
    const uint32_t first = rest > SNAP_AT ? SNAP_AT + 1 : rest;

    memset(out, 0, sizeof(*out));
    out->f = (struct frame){ .hdr = out->snap + HDR_ROOM, .hdr_len = head, .len = len, .out_vid = vid, .iov = out->iov,
                             .n_iov = (first != 0) + (rest != first), .pcp = vid == US_VID_UNTAGGED ? 0 : 0x6000 };
    memcpy(out->f.hdr, data, head);
    out->iov[0] = (struct iovec){ (void *)(uintptr_t)(data + head), first };
    out->iov[1] = (struct iovec){ (void *)(uintptr_t)(data + head + first), rest - first };
    if (vnet)
        out->f.vnet = *vnet;
}

enum drop_reason igr_tx(struct igr *r, uint32_t queue, const uint8_t *data, uint32_t len, uint16_t vid,
                        const struct vnet *vnet)
{
    struct igr_out out;
    struct frame *const frames[1] = { &out.f };
    uint8_t why = DROP_COUNT;

    igr_frame(&out, data, len, vid, vnet);
    r->n.driver->tx_burst(&r->n.queue[queue], frames, 1, &why);
    return why;
}

/* ---- frames ---- */

static uint32_t put_ip(uint8_t *out, const struct igr_flow *flow, uint32_t l4_len)
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
    nic_put16(out + 4, flow->id);
    out[8] = 64;
    out[9] = protocol;
    nic_put32(out + 12, flow->from);
    nic_put32(out + 16, flow->to);
    return 20;
}

static void put_tcp(uint8_t *tcp, const struct igr_flow *flow)
{
    nic_put32(tcp + 4, flow->seq);
    nic_put32(tcp + 8, 77);
    tcp[12] = (flow->bare ? 5 : 8) << 4;
    tcp[13] = flow->flags;
    nic_put16(tcp + 14, 500);
    if (!flow->bare)    /* 12 bytes: a time stamp */
        memcpy(tcp + 20, "\x01\x01\x08\x0a\x00\x00\x00\x07\x00\x00\x00\x08", 12);
}

uint32_t igr_packet(uint8_t *out, const struct igr_flow *flow, uint32_t payload)
{
    const uint32_t l4_hdr = flow->udp ? 8 : flow->bare ? 20 : 32, l3 = flow->tagged ? 18 : 14;
    struct nic_packet p;
    uint32_t l4;

    memcpy(out, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
    if (flow->tagged)
        memcpy(out + 12, "\x81\x00\x60\x64", 4);
    nic_put16(out + l3 - 2, flow->ip6 ? 0x86dd : 0x0800);
    l4 = l3 + put_ip(out + l3, flow, l4_hdr + payload);
    memset(out + l4, 0, l4_hdr);
    nic_put16(out + l4, flow->sport);
    nic_put16(out + l4 + 2, flow->dport);
    if (flow->udp)
        nic_put16(out + l4 + 4, 8 + payload);
    else
        put_tcp(out + l4, flow);
    for (uint32_t i = 0; i < payload; i++) {
        const uint32_t x = flow->seq + i;

        out[l4 + l4_hdr + i] = (uint8_t)(x * 7 + (x >> 8) * 3);
    }
    nic_packet_parse(out, l4 + l4_hdr + payload, &p);
    nic_csum_fill(out, &p);
    return l4 + l4_hdr + payload;
}

struct vnet igr_request(uint8_t *packet, uint32_t len, uint32_t gso_size)
{
    struct vnet v = { .flags = VNET_NEEDS_CSUM, .gso_size = (uint16_t)gso_size };
    struct nic_packet p;

    nic_packet_parse(packet, len, &p);
    v.csum_start = (uint16_t)p.l4;
    v.csum_offset = p.udp ? 6 : 16;
    v.hdr_len = (uint16_t)p.payload;
    if (gso_size)
        v.gso_type = p.ip6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4;
    nic_put16(packet + p.l4 + v.csum_offset, nic_pseudo_sum(packet, &p, len - p.l4));
    return v;
}

void igr_pattern(uint8_t *out, uint32_t len, uint32_t seed)
{
    static const uint8_t front[ETH_HDR_LEN] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };

    for (uint32_t i = 0; i < len; i++)
        out[i] = i < sizeof(front) ? front[i] : (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}
