/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * flow.h - which queue of a receiving port a frame goes to, of a multiqueue
 * guest (virtio 1.2, 5.1.6.5.6 leaves the choice to the device) or an adapter:
 * the same for all frames of a flow, so that they stay in order.  Worker
 * thread; looks at the snapshot only.
 */
#ifndef USWITCH_FLOW_H
#define USWITCH_FLOW_H

#include <string.h>

#include "frame.h"

struct port;

static inline uint64_t flow_mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15ULL;
    return h ^ (h >> 32);
}

static inline uint64_t flow_bytes(uint64_t h, const uint8_t *p, unsigned len)
{
    for (; len; p += 4, len -= 4) {
        uint32_t v;

        memcpy(&v, p, 4);
        h = flow_mix(h, v);
    }
    return h;
}

/**
 * flow_hash() - spreads flows: addresses, and ports of TCP and UDP
 * @f: canonical frame
 *
 * A fragment has no ports, and the first fragment must not differ from the others, so its ports do not count.
 * Not keyed: a guest that piles its flows onto one queue of another guest gets what one queue can take.
 */
static inline uint32_t flow_hash(const struct frame *f)
{
    const uint8_t *const p = f->hdr;
    uint64_t h = flow_bytes(0, p, 2 * ETH_ALEN);

    if (p[12] == 0x08 && p[13] == 0x00 && f->hdr_len >= 38) {
        const uint8_t *const ip = p + ETH_HDR_LEN;
        const int fragment = (ip[6] & 0x3f) | ip[7]; /* more fragments, or an offset */

        h = flow_bytes(h, ip + 12, 8);
        if (ip[0] == 0x45 && !fragment && (ip[9] == 6 || ip[9] == 17))
            h = flow_bytes(h, ip + 20, 4);
    } else if (p[12] == 0x86 && p[13] == 0xdd && f->hdr_len >= 58) {
        const uint8_t *const ip = p + ETH_HDR_LEN;

        h = flow_bytes(h, ip + 8, 32);
        if (ip[6] == 6 || ip[6] == 17)
            h = flow_bytes(h, ip + 40, 4);
    }
    return (uint32_t)(h >> 16);
}

/**
 * flow_queue() - choose among the queues that are up
 * @hash: of the flow
 * @up: bit mask of queues, at least one bit
 */
static inline unsigned flow_queue(uint32_t hash, uint32_t up)
{
    unsigned nth = (unsigned)(((uint64_t)hash * (unsigned)__builtin_popcount(up)) >> 32);

    for (; nth; nth--)
        up &= up - 1;
    return (unsigned)__builtin_ctz(up);
}

/* Up to BURST_MAX frames by one queue; returns how many were delivered. */
typedef unsigned flow_send(struct port *p, unsigned queue, struct frame *const *frames, unsigned n);

/**
 * flow_spread() - deliver frames by the queues that are up, each flow by its own, so that its frames keep their order
 * @p: the port
 * @up: bit mask of queues; none: queue 0 is asked, which counts why it does not
 * @frames: frames, in order
 * @n: how many
 * @send: the driver's; a constant argument of an inlined function, so never called by pointer
 *
 * Return: frames delivered.
 */
static inline __attribute__((always_inline)) unsigned flow_spread(struct port *p, uint32_t up,
                                                                  struct frame *const *frames, unsigned n,
                                                                  flow_send *send)
{
    unsigned delivered = 0;

    for (unsigned now; n; frames += now, n -= now) {
        struct frame *mine[BURST_MAX];
        uint8_t queue[BURST_MAX];

        now = n < BURST_MAX ? n : BURST_MAX;
        if (__builtin_expect((up & (up - 1)) == 0, 1)) {
            delivered += send(p, up ? (unsigned)__builtin_ctz(up) : 0, frames, now);
            continue;
        }
        for (unsigned i = 0; i < now; i++)
            queue[i] = (uint8_t)flow_queue(flow_hash(frames[i]), up);
        for (uint32_t left = up; left; left &= left - 1) {
            const unsigned q = (unsigned)__builtin_ctz(left);
            unsigned n_mine = 0;

            for (unsigned i = 0; i < now; i++) {
                if (queue[i] == q)
                    mine[n_mine++] = frames[i];
            }
            if (n_mine)
                delivered += send(p, q, mine, n_mine);
        }
    }
    return delivered;
}

#endif /* USWITCH_FLOW_H */
