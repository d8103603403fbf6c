/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * announce.c - see announce.h.  The box is a few words of the port, each an
 * address or empty; either side changes one by a single atomic operation.
 */
#include "announce.h"

#include <errno.h>
#include <string.h>

/* Tells an address from an empty word. */
#define FULL (1ULL << 48)
#define RARP_FRAME 60           /* IEEE 802.3: the shortest frame without its FCS */

int announce_post(struct port *p, const uint8_t mac[ETH_ALEN])
{
    uint64_t word = 0;

    memcpy(&word, mac, ETH_ALEN);
    word |= FULL;
    for (unsigned i = 0; i < ANNOUNCE_BOX; i++) {
        uint64_t found = 0;

        if (atomic_compare_exchange_strong(&p->announce[i], &found, word) || found == word)
            return 0;
    }
    return -EAGAIN;
}

/* A reverse request (RFC 903): "who am I?", asked by the address of itself. */
static void write_rarp(uint8_t frame[RARP_FRAME], const uint8_t mac[ETH_ALEN])
{
    static const uint8_t fixed[] = { 0x80, 0x35, 0, 1, 0x08, 0, ETH_ALEN, 4, 0, 3 };
    uint8_t *const body = frame + 2 * ETH_ALEN + sizeof(fixed);

    memset(frame, 0, RARP_FRAME);
    memset(frame, 0xff, ETH_ALEN);
    memcpy(frame + ETH_ALEN, mac, ETH_ALEN);
    memcpy(frame + 2 * ETH_ALEN, fixed, sizeof(fixed));
    memcpy(body, mac, ETH_ALEN);
    memcpy(body + ETH_ALEN + 4, mac, ETH_ALEN);
}

void announce_send(struct switch_core *core, struct switch_scratch *s, struct rxq *q, struct burst *b,
                   uint64_t now_ns)
{
    b->n = 0;
    b->n_iov = 0;
    for (unsigned i = 0; i < ANNOUNCE_BOX; i++) {
        /* Looked at first: a worker asks this of all its queues whenever one of them changes. */
        const uint64_t word = atomic_load_explicit(&q->port->announce[i], memory_order_relaxed)
                                  ? atomic_exchange(&q->port->announce[i], 0) : 0;
        uint8_t *const hdr = b->snap[b->n] + HDR_ROOM;

        if (!word || port_is_broken(q->port))
            continue;
        write_rarp(hdr, (const uint8_t *)&word);
        b->frame[b->n] = (struct frame){ .hdr = hdr, .hdr_len = RARP_FRAME, .len = RARP_FRAME };
        b->n++;
    }
    if (b->n)
        switch_burst(core, s, q, b, now_ns);
}
