/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * random_receive.h - the receiving half of test_virtq_random.c: a driver that
 * posts buffers of any shape, bursts of frames into them, and the model that
 * says which chains these take, what lies in them then, and what is counted.
 */
#ifndef USWITCH_TESTS_RANDOM_RECEIVE_H
#define USWITCH_TESTS_RANDOM_RECEIVE_H

#include "vhost/random_guest.h"

/**
 * struct sent - a frame for tx_burst
 * @f: the frame, its scatter list points into the pool
 * @bytes: all of it, contiguous, in the pool
 */
struct sent {
    struct frame f;
    uint8_t hdr[HDR_ROOM + SNAP_SIZE];
    struct iovec iov[6];
    const uint8_t *bytes;
};

/**
 * struct fate - what the model expects of a burst
 * @n: used elements; @id, @len: those
 * @n_spans: stretches of memory that frames go to; @span: those
 * @frame: of each frame: where its spans begin, how many, and in how many chains they are (0: dropped)
 * @count: the counters afterwards
 */
struct fate {
    uint32_t n;
    uint32_t id[2048], len[2048];
    uint32_t n_spans;
    struct { uint64_t gpa; uint64_t len; } span[BURST_MAX * 1024 + 2 * CHAIN_BURST];
    struct { uint32_t span, n_spans, chains; } frame[BURST_MAX];
    struct us_queue_counters count;
};

static struct sent sent[BURST_MAX];
static struct fate fate;
static uint8_t shadow[ARENA_SIZE];

static uint32_t buffer_bytes(void)
{
    if (one_in(&seed, 300))
        return 0;
    switch (style) {
    case 0:
        return 1526 + below(&seed, 600);
    case 1:
        return 12 + below(&seed, 300);
    case 2:
        return one_in(&seed, 8) ? 12 + US_FRAME_MAX + 4 : 9100;
    case 3: /* long walks for few bytes */
        return 12 + below(&seed, 30);
    default:
        return one_in(&seed, 20) ? 70000 : below(&seed, 4000);
    }
}

static void refill(void)
{
    const uint32_t most = style == 3 || one_in(&seed, 3) ? d.rx.size : 40;

    for (uint32_t n = below(&seed, most + 1); n; n--) {
        const uint32_t parts = style == 3 || one_in(&seed, 3) ? 1 + below(&seed, style >= 3 ? PARTS_MAX : 4) : 1;

        if (!ring_offer(&rx, buffer_bytes(), parts, one_in(&seed, style == 4 ? 30 : 400)))
            break;
    }
    drv_publish(&d.rx);
}

static void random_vnet(struct vnet *v)
{
    *v = (struct vnet){ .flags = one_in(&seed, 3) ? VNET_DATA_VALID : 0 };
    if (!(d.features & VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM)) || one_in(&seed, 2))
        return;
    *v = (struct vnet){ .flags = VNET_NEEDS_CSUM, .hdr_len = 54, .csum_start = (uint16_t)below(&seed, 60000),
                        .csum_offset = 16 };
    if (one_in(&seed, 2)) {
        v->gso_type = VNET_GSO_TCPV4;
        v->gso_size = (uint16_t)(1 + below(&seed, 9000));
    }
}

static void random_frame(struct sent *s)
{
    static const uint32_t short_ones[] = { 14, 60, 63, 64, 65, 128, 129, 1514 };
    struct frame *const f = &s->f;
    uint32_t left, off;

    *f = (struct frame){ .hdr = s->hdr + HDR_ROOM, .iov = s->iov, .out_vid = US_VID_UNTAGGED };
    s->bytes = pool + below(&seed, POOL_SIZE);
    f->flooded = (uint8_t)one_in(&seed, 4);
    f->len = one_in(&seed, 2) ? short_ones[below(&seed, 8)] : 14 + below(&seed, one_in(&seed, 4) ? 8987 : 1501);
    if (one_in(&seed, 3))
        random_vnet(&f->vnet);
    if (f->vnet.gso_type && one_in(&seed, 2))
        f->len = one_in(&seed, 3) ? US_FRAME_MAX : 64 + below(&seed, US_FRAME_MAX - 64);
    if (one_in(&seed, 4)) {
        f->out_vid = (uint16_t)(1 + below(&seed, 4094));
        f->pcp = (uint16_t)(below(&seed, 16) << 12);
    }
    f->hdr_len = f->len < 18 ? f->len : 18 + below(&seed, (f->len < SNAP_SIZE ? f->len : SNAP_SIZE) - 17);
    memcpy(f->hdr, s->bytes, f->hdr_len);
    for (left = f->len - f->hdr_len, off = f->hdr_len; left;) {
        const uint32_t part = f->n_iov == 5 || one_in(&seed, 3) ? left : 1 + below(&seed, left);

        s->iov[f->n_iov++] = (struct iovec){ (void *)(uintptr_t)(s->bytes + off), part };
        off += part;
        left -= part;
    }
}

/* The frame as it must arrive: header, addresses, tag, rest. Returns its length. */
static uint32_t compose(const struct sent *s, uint32_t chains)
{
    const struct frame *const f = &s->f;
    const bool tagged = f->out_vid != US_VID_UNTAGGED;
    struct vnet v = f->vnet;
    uint8_t *p = want;

    if (!(d.features & VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM)))
        v.flags = 0;
    vnet_format(&v, tagged ? 4 : 0, p);
    p += VNET_WIRE_LEN;
    if (hdr_len() == VNET_WIRE_LEN_MRG) {
        *p++ = (uint8_t)chains;
        *p++ = (uint8_t)(chains >> 8);
    }
    memcpy(p, s->bytes, 12);
    p += 12;
    if (tagged) {
        const uint8_t tag[4] = { 0x81, 0, (uint8_t)((f->pcp | f->out_vid) >> 8), (uint8_t)f->out_vid };

        memcpy(p, tag, 4);
        p += 4;
    }
    memcpy(p, s->bytes + 12, f->len - 12);
    return (uint32_t)(p - want) + f->len - 12;
}

/**
 * struct model - the receive ring as the model sees it during a burst
 * @used: chains consumed
 * @n: chains available
 * @steps: along chains; after CHAIN_BURST nothing but what fits one buffer is delivered
 * @hopeless: frames that need more than this were found not to fit, with @why
 */
struct model {
    uint32_t used;
    uint32_t n;
    uint32_t steps;
    uint32_t hopeless;
    enum drop_reason why;
};

/* Up to need bytes into a chain; returns how many, or -1 if the chain is malformed as far as it is needed. */
static int64_t model_fill(struct model *m, uint16_t head, uint32_t need)
{
    enum drop_reason why = walk_first(&w, &rx, head);
    uint32_t done = 0;

    for (; !why; why = walk_next(&w, &rx)) {
        const uint32_t len = w.at.len < need - done ? w.at.len : need - done;

        if (len && !in_memory(w.at.addr, len))
            break;
        if (len) {
            fate.span[fate.n_spans].gpa = w.at.addr;
            fate.span[fate.n_spans++].len = len;
            done += len;
        }
        if (done == need || !(w.at.flags & VRING_DESC_F_NEXT)) {
            m->steps += w.steps;
            return done;
        }
    }
    m->steps += w.steps;
    return -1;
}

static uint16_t model_head(const struct model *m, uint32_t i)
{
    return ring_at(&rx, (uint16_t)(rx_done + m->used + i))->head;
}

static enum drop_reason model_give_up(struct model *m, uint32_t room, enum drop_reason why)
{
    m->hopeless = room;
    m->why = why;
    return why;
}

static enum drop_reason model_bad(struct model *m, uint32_t chains)
{
    memset(&fate.len[m->used], 0, chains * sizeof(fate.len[0]));
    m->used += chains;
    m->hopeless = UINT32_MAX;
    return DROP_out_chain;
}

/* One descriptor, one region: always worth a try, as it costs no walk. */
static bool model_simple(const struct model *m, uint32_t need)
{
    const struct desc first = split_desc_load(&d.rx.desc[model_head(m, 0)]);

    return (first.flags & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) == VRING_DESC_F_WRITE &&
           in_one_region(&d, first.addr, first.len) >= need;
}

static enum drop_reason model_frame(struct model *m, uint32_t need, uint32_t *chains)
{
    uint32_t done = 0, n = 0;

    if (m->used == m->n)
        return DROP_ring_full;
    if (!model_simple(m, need)) {
        if (need > m->hopeless)
            return m->why;
        if (m->steps > CHAIN_BURST)
            return DROP_ring_full;
    }
    while (done < need) {
        int64_t part;

        if (n && !(d.features & F_MRG))
            return model_give_up(m, done, DROP_ring_small);
        if (m->used + n == m->n)
            return model_give_up(m, done, n == d.rx.size ? DROP_ring_small : DROP_ring_full);
        fate.id[m->used + n] = model_head(m, n);
        part = model_fill(m, model_head(m, n), need - done);
        n++;
        if (part <= 0 || done + part < hdr_len() || (m->steps > CHAIN_BURST && done + part < need))
            return model_bad(m, n);
        fate.len[m->used + n - 1] = (uint32_t)part;
        done += (uint32_t)part;
    }
    m->used += n;
    m->hopeless = UINT32_MAX;
    *chains = n;
    return DROP_none;
}

static void model_burst(uint32_t n)
{
    struct model m = { .n = (uint16_t)(d.rx.avail_idx - rx_done), .hopeless = UINT32_MAX };

    fate.n_spans = 0;
    fate.count = d.state->out[0];
    for (uint32_t i = 0; i < n; i++) {
        const struct frame *const f = &sent[i].f;
        const uint32_t len = f->len + (f->out_vid == US_VID_UNTAGGED ? 0 : 4), span = fate.n_spans;
        const enum drop_reason why = model_frame(&m, hdr_len() + len, &fate.frame[i].chains);

        fate.frame[i].span = span;
        if (why) {
            fate.frame[i].chains = 0;
            fate.count.drop[why]++;
        } else {
            fate.count.frames++;
            fate.count.bytes += len;
            fate.count.flooded += f->flooded;
            fate.count.gso += f->vnet.gso_type != 0;
        }
        fate.frame[i].n_spans = fate.n_spans - span;
    }
    fate.count.bursts++;
    fate.n = m.used;
}

/*
 * Deliver the burst into the model's own memory, frames that came to nothing included: malformed chains may meet
 * others, or themselves, and what is written last stays.
 */
static void model_write(uint32_t i)
{
    const uint32_t chains = fate.frame[i].chains, len = compose(&sent[i], 1);
    uint64_t num_buffers[2] = { 0 };
    uint32_t at = 0;

    for (uint32_t k = 0; k < fate.frame[i].n_spans; k++) {
        const uint64_t off = fate.span[fate.frame[i].span + k].gpa - rx.base;
        const uint32_t part = (uint32_t)fate.span[fate.frame[i].span + k].len;

        if (off < ARENA_SIZE)
            memcpy(shadow + off, want + at, part);
        for (uint32_t half = 0; half < 2; half++) {
            if (at <= 10 + half && 10 + half - at < part)
                num_buffers[half] = off + 10 + half - at;
        }
        at += part;
    }
    CHECK(at == len || !chains);
    for (uint32_t half = 0; half < 2 && chains > 1; half++) {
        if (num_buffers[half] < ARENA_SIZE)
            shadow[num_buffers[half]] = (uint8_t)(chains >> 8 * half);
    }
}

static void check_bytes(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        model_write(i);
    for (uint32_t k = 0; k < fate.n_spans; k++) {
        if (fate.span[k].gpa - rx.base < ARENA_SIZE) {
            drv_read(&d, fate.span[k].gpa, got, fate.span[k].len);
            CHECK_MEM(got, shadow + (fate.span[k].gpa - rx.base), fate.span[k].len);
        }
    }
}

/* A burst into the receive ring, and all that may be seen of it. */
static void receive(void)
{
    const uint32_t n = one_in(&seed, 8) ? 1 + below(&seed, BURST_MAX) : 1 + below(&seed, 8);
    const uint64_t before = d.state->out[0].frames;
    const uint16_t old_idx = used_index(&d.rx);
    struct frame *list[BURST_MAX];
    uint32_t id, len;

    for (uint32_t i = 0; i < n; i++) {
        random_frame(&sent[i]);
        list[i] = &sent[i].f;
    }
    random_event(&d.rx);
    model_burst(n);
    fate.count.signals += wants_signal(&d.rx, old_idx, (uint16_t)(old_idx + fate.n));
    CHECK_EQ(d.port->ops->tx_burst(d.port, list, n), fate.count.frames - before);
    CHECK_MEM(&d.state->out[0], &fate.count, sizeof(fate.count));
    CHECK_EQ(drv_calls(&d.rx), wants_signal(&d.rx, old_idx, (uint16_t)(old_idx + fate.n)));
    CHECK_EQ(used_index(&d.rx), (uint16_t)(old_idx + fate.n));
    CHECK_EQ(d.state->ring[0].last_avail, (uint16_t)(rx_done + fate.n));
    CHECK_EQ(d.state->ring[0].used_idx, used_index(&d.rx));
    check_bytes(n);
    for (uint32_t i = 0; i < fate.n && drv_used(&d.rx, &id, &len); i++) {
        CHECK_EQ(id, fate.id[i]);
        CHECK_EQ(len, fate.len[i]);
        ring_return(&rx, rx_done++);
    }
}

#endif /* USWITCH_TESTS_RANDOM_RECEIVE_H */
