/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_rsc.c - see ixgbe_rsc.h.
 *
 * Theory of operation.  Several frames grow at once, so the descriptors of one
 * are in ring order but not beside one another: each tells the next by NEXTP,
 * the last has EOP.  A pass begins at the first descriptor that was not given
 * back and looks for beginnings of frames; the parts of a frame that is not
 * whole yet are marked with the number of the pass, so that they are not taken
 * for beginnings, and looked at again in the next pass.  Nothing else is
 * remembered of them.
 *
 * What is whole is taken, whatever lies before it; buffers go back in order,
 * up to the first that is still needed.  The device runs out of descriptors at
 * the latest when it must end what keeps them.
 */
#include "nic/ixgbe_rsc.h"

#include <errno.h>
#include <stdlib.h>

#include "nic/intel_ring.h"
#include "nic/ixgbe.h"
#include "nic/nic_copy.h"

#define DONE UINT32_MAX

/**
 * struct chain - a frame's descriptors
 * @n: how many
 * @at: which
 * @len: bytes in the buffer of each
 * @bytes: in all
 * @status: of the last one
 * @joined: some descriptor says that segments were joined
 * @packets: how many, as the device says
 */
struct chain {
    uint32_t n;
    uint16_t at[NIC_SEGS_MAX];
    uint16_t len[NIC_SEGS_MAX];
    uint32_t bytes;
    uint32_t status;
    bool joined;
    uint32_t packets;
};

enum found { FOUND_nothing, FOUND_frame, FOUND_nonsense };

static struct ixgbe_rsc *rsc_of(struct nic_queue *q)
{
    return &ixgbe_of(q->nic)->joined[q->index];
}

/* How far a descriptor is from the first that is not given back. */
static uint32_t distance(const struct ixgbe_rsc *s, uint32_t i)
{
    return i >= s->head ? i - s->head : i + s->size - s->head;
}

/*
 * The device uses descriptors in ring order, and has all but one of them: a frame goes on behind where it is, in a
 * descriptor that belongs to no other frame.
 */
static bool can_follow(const struct ixgbe_rsc *s, uint32_t i, uint32_t claimed_next)
{
    return claimed_next < s->size && distance(s, claimed_next) > distance(s, i) &&
           distance(s, claimed_next) < s->size - 1 && s->mark[claimed_next] != DONE &&
           s->mark[claimed_next] != s->pass;
}

/* Follows a frame from its first descriptor on, marking.  @nonsense: the word that is, for the report. */
static enum found follow(struct ixgbe_rsc *s, const struct intel_rx *r, uint32_t first, struct chain *c,
                         uint64_t *nonsense)
{
    uint32_t i = first;

    c->n = c->bytes = c->packets = 0;
    c->joined = false;
    for (;;) {
        const uint64_t word = intel_desc_load(&r->desc[i]);
        const uint32_t claimed_len = intel_rx_claimed_len(word);
        uint32_t count, next;

        s->mark[i] = s->pass;
        if (!(word & INTEL_RX_DD))
            return FOUND_nothing;
        *nonsense = word;
        count = intel_rx_claimed_joined(guest_load64(&r->desc[i].addr));
        if (claimed_len > DMA_BUF_SIZE || c->n == NIC_SEGS_MAX)
            return FOUND_nonsense;
        c->at[c->n] = (uint16_t)i;
        c->len[c->n++] = (uint16_t)claimed_len;
        c->bytes += claimed_len;
        /* One more than the packets that begin in the descriptor, 0 where nothing was joined. */
        c->joined |= count != 0;
        c->packets += count ? count - 1 : 0;
        if (word & INTEL_RX_EOP) {
            c->status = intel_rx_status(word);
            return FOUND_frame;
        }
        next = count ? INTEL_RX_NEXTP(word) : intel_ring_next(s->size, i);
        if (!can_follow(s, i, next))
            return FOUND_nonsense;
        i = next;
    }
}

/* The next whole frame at or behind distance *d, which is moved on. */
static enum found find(struct ixgbe_rsc *s, const struct intel_rx *r, uint32_t *d, struct chain *c, uint64_t *nonsense)
{
    for (; *d < s->size - 1; (*d)++) {
        const uint32_t i = (s->head + *d) % s->size;
        enum found found;

        if (s->mark[i] == DONE || s->mark[i] == s->pass)
            continue;
        found = follow(s, r, i, c, nonsense);
        if (found != FOUND_nothing)
            return found;
        if (c->n == 0)          /* not even begun: neither is what lies behind it */
            return FOUND_nothing;
    }
    return FOUND_nothing;
}

/* Marks of passes long ago must not come to life again. */
static void begin_pass(struct ixgbe_rsc *s)
{
    if (++s->pass < DONE)
        return;
    for (uint32_t i = 0; i < s->size; i++)
        if (s->mark[i] != DONE)
            s->mark[i] = 0;
    s->pass = 1;
}

static enum drop_reason take(struct nic_queue *q, struct burst *b, const struct chain *c)
{
    struct intel_rx *r = q->rx;
    enum drop_reason why;
    struct vnet vnet;
    uint32_t n = 0;

    if (c->status & r->kind->rx_damaged)
        return DROP_nic_rx;
    for (uint32_t i = 0; i < c->n; i++) {
        b->iov[b->n_iov + n] = (struct iovec){ .iov_base = intel_rx_buf(r, c->at[i]), .iov_len = c->len[i] };
        n += c->len[i] != 0;    /* an FCS that was cut off may have had a buffer of its own */
    }
    if (n == 0)
        return DROP_frame_short;
    if (c->joined)              /* to begin with: ixgbe_rsc_request() decides */
        vnet = (struct vnet){ .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4 };
    else
        vnet = intel_rx_vnet(r, c->status);
    why = nic_take_frame(&q->nic->port, b, n, &vnet);
    if (why != DROP_none || !c->joined)
        return why;
    why = ixgbe_rsc_request(&b->frame[b->n - 1], c->packets, q->nic->cfg.max_frame);
    if (why != DROP_none) {
        b->n--;
        b->n_iov -= n;
    }
    return why;
}

unsigned ixgbe_rsc_burst(struct nic_queue *q, struct burst *b)
{
    struct ixgbe_rsc *s = rsc_of(q);
    const struct intel_rx *r = q->rx;
    uint32_t bytes = 0;
    uint32_t d = 0;
    uint64_t word = 0;
    struct chain c;

    b->n = 0;
    b->n_iov = 0;
    begin_pass(s);
    for (unsigned i = b->held_back; i < BURST_MAX && bytes < BURST_BYTES; i++) {
        const enum found found = find(s, r, &d, &c, &word);
        enum drop_reason why;

        if (found == FOUND_nonsense)
            nic_fail(q->nic, q->index, BREAK_nic_descriptor, word);
        if (found != FOUND_frame)
            break;
        for (uint32_t k = 0; k < c.n; k++)
            s->mark[c.at[k]] = DONE;
        bytes += c.bytes;
        why = take(q, b, &c);
        if (why != DROP_none)
            count_drop_in(&q->nic->port, q->index, why);
    }
    return b->n;
}

void ixgbe_rsc_complete(struct nic_queue *q, struct burst *b)
{
    struct ixgbe_rsc *s = rsc_of(q);
    struct intel_rx *r = q->rx;
    uint32_t last = r->size;

    (void)b;
    while (s->mark[s->head] == DONE) {
        intel_rx_refill(r, s->head);
        s->mark[s->head] = 0;
        last = s->head;
        s->head = intel_ring_next(s->size, s->head);
    }
    if (last != r->size)
        bar_write32(&q->nic->bar[0], r->tail_reg, last);
}

bool ixgbe_rsc_pending(struct nic_queue *q)
{
    struct ixgbe_rsc *s = rsc_of(q);
    uint32_t d = 0;
    uint64_t word;
    struct chain c;

    begin_pass(s);
    return find(s, q->rx, &d, &c, &word) != FOUND_nothing;
}

int ixgbe_rsc_create(struct ixgbe_rsc *s, uint32_t size)
{
    *s = (struct ixgbe_rsc){ .mark = calloc(size, sizeof(*s->mark)), .size = size };
    return s->mark ? 0 : -ENOMEM;
}

void ixgbe_rsc_destroy(struct ixgbe_rsc *s)
{
    free(s->mark);
    *s = (struct ixgbe_rsc){ 0 };
}
