/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fake_port.c - the port in memory of fake_port.h.
 */
#include "fake_port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static unsigned fake_rx_burst(struct rxq *q, struct burst *b)
{
    struct fake_port *fp = (struct fake_port *)q->port;

    b->n = 0;
    b->n_iov = 0;
    while (b->n < BURST_MAX && b->n < fp->n_waiting) {
        const struct fake_frame *w = &fp->waiting[b->n];
        struct frame *f = &b->frame[b->n];
        const uint32_t head = w->len < fp->snap ? w->len : fp->snap;

        *f = (struct frame){ .hdr = b->snap[b->n] + HDR_ROOM, .hdr_len = head, .len = w->len, .vnet = w->vnet };
        memcpy(f->hdr, w->data, head);
        if (head < w->len) {
            f->iov = &b->iov[b->n_iov];
            f->n_iov = 1;
            b->iov[b->n_iov++] = (struct iovec){ w->data + head, w->len - head };
        }
        b->n++;
    }
    return b->n;
}

static void fake_rx_complete(struct rxq *q, struct burst *b)
{
    struct fake_port *fp = (struct fake_port *)q->port;

    for (uint32_t i = 0; i < b->n; i++)
        free(fp->waiting[i].data);
    fp->n_waiting -= b->n;
    memmove(fp->waiting, fp->waiting + b->n, fp->n_waiting * sizeof(fp->waiting[0]));
    fp->completed++;
}

static void keep(struct fake_port *fp, const struct frame *f)
{
    struct fake_frame *g = &fp->got[fp->n_got];
    uint32_t at = f->hdr_len;

    *g = (struct fake_frame){ .len = f->len, .vid = f->out_vid, .pcp = f->pcp, .segment = f->segment,
                              .flooded = f->flooded, .vnet = f->vnet, .data = malloc(f->len) };
    if (!g->data)
        return;
    memcpy(g->data, f->hdr, f->hdr_len);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        memcpy(g->data + at, f->iov[i].iov_base, f->iov[i].iov_len);
        at += (uint32_t)f->iov[i].iov_len;
    }
    fp->n_got++;
}

static unsigned fake_tx_burst(struct port *p, struct frame *const *frames, unsigned n)
{
    struct fake_port *fp = (struct fake_port *)p;
    struct us_queue_counters *out = fake_out(fp);
    unsigned taken = 0;

    if (fp->count_only) {
        fp->tx_calls++;
        fp->tx_frames += n;
        return n;
    }
    spin_lock(&fp->lock);
    fp->tx_calls++;
    fp->tx_frames += n;
    for (; taken < n && fp->n_got < fp->room && !port_is_broken(p); taken++) {
        keep(fp, frames[taken]);
        out->bytes += frames[taken]->len;
        out->flooded += frames[taken]->flooded;
    }
    out->frames += taken;
    count_drop_out(p, 0, port_is_broken(p) ? DROP_broken : DROP_ring_full, n - taken);
    spin_unlock(&fp->lock);
    return taken;
}

static bool fake_arm(struct rxq *q)
{
    struct fake_port *fp = (struct fake_port *)q->port;

    fp->armed = true;
    return fp->n_waiting != 0;
}

static void fake_disarm(struct rxq *q)
{
    ((struct fake_port *)q->port)->armed = false;
}

static void fake_stop(struct port *p)
{
    ((struct fake_port *)p)->stopped = true;
}

static void fake_destroy(struct port *p)
{
    fake_port_destroy((struct fake_port *)p);
}

const struct port_ops fake_port_ops = {
    .kind = "fake",
    .rx_burst = fake_rx_burst,
    .rx_complete = fake_rx_complete,
    .tx_burst = fake_tx_burst,
    .arm = fake_arm,
    .disarm = fake_disarm,
    .stop = fake_stop,
    .destroy = fake_destroy,
};

struct fake_port *fake_port_create(uint32_t id)
{
    const struct us_port_add add = { .port_id = id, .kind = US_KIND_TAP, .fdb_quota = 1024, .max_frame = 1514 };
    struct fake_port *fp = calloc(1, sizeof(*fp));
    void *state;

    if (!fp)
        return NULL;
    state = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (state == MAP_FAILED) {
        free(fp);
        return NULL;
    }
    port_init(&fp->port, &fake_port_ops, &add, state, 1);
    fp->port.shared = true;
    fp->snap = SNAP_SHORT;
    fp->room = FAKE_FRAMES;
    spin_init(&fp->lock);
    return fp;
}

void fake_port_clear(struct fake_port *fp)
{
    for (uint32_t i = 0; i < fp->n_got; i++)
        free(fp->got[i].data);
    fp->n_got = 0;
    fp->tx_calls = 0;
    fp->tx_frames = 0;
}

void fake_port_destroy(struct fake_port *fp)
{
    if (!fp)
        return;
    fake_port_clear(fp);
    for (uint32_t i = 0; i < fp->n_waiting; i++)
        free(fp->waiting[i].data);
    port_fini(&fp->port);
    free(fp);
}

int fake_port_inject(struct fake_port *fp, const void *data, uint32_t len, const struct vnet *vnet)
{
    struct fake_frame *w = &fp->waiting[fp->n_waiting];

    if (fp->n_waiting == FAKE_FRAMES || len > FAKE_FRAME_MAX)
        return -ENOSPC;
    *w = (struct fake_frame){ .len = len, .data = malloc(len) };
    if (!w->data)
        return -ENOSPC;
    memcpy(w->data, data, len);
    if (vnet)
        w->vnet = *vnet;
    fp->n_waiting++;
    return 0;
}

void fake_eth(uint8_t *out, uint8_t to, uint8_t from, uint16_t vid, uint32_t len)
{
    uint32_t at = ETH_HDR_LEN - 2;

    for (uint32_t i = 0; i < len; i++)
        out[i] = (uint8_t)(i * 7 + from);
    memset(out, 0, (size_t)2 * ETH_ALEN);
    if (to == 0xff)
        memset(out, 0xff, ETH_ALEN);
    else
        out[0] = 2, out[5] = to;
    out[6] = 2;
    out[11] = from;
    if (vid != US_VID_UNTAGGED) {
        out[at++] = ETHERTYPE_VLAN >> 8;
        out[at++] = ETHERTYPE_VLAN & 0xff;
        out[at++] = (uint8_t)(vid >> 8);
        out[at++] = (uint8_t)vid;
    }
    out[at++] = 0x08;
    out[at] = 0x00;
}
