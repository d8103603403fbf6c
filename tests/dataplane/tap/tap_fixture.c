/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * tap_fixture.c - see tap_fixture.h.
 */
#include "tap/tap_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/rcu.h"
#include "harness.h"
#include "vnet.h"

static const struct us_port_add request = { .port_id = 3, .kind = US_KIND_TAP, .max_frame = 1514 };

struct us_state_page *new_page(void)
{
    return mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

struct port *new_port(const struct tap_wire *w, int news_fd)
{
    struct port *p = NULL;

    CHECK_EQ(tap_port_create(&request, new_page(), w->fd, true, news_fd, &p), 0);
    return p;
}

void end_port(struct port *p)
{
    p->ops->stop(p);
    rcu_wait();
    p->ops->destroy(p);
}

struct burst *new_burst(void)
{
    struct burst *b = aligned_alloc(64, sizeof(*b));

    if (b)
        b->held_back = 0;
    return b;
}

/* An Ethernet frame of an experimental type, its payload made from @seed. */
void make_frame(uint8_t *frame, uint32_t len, uint32_t seed)
{
    static const uint8_t hdr[] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };

    memcpy(frame, hdr, sizeof(hdr));
    for (uint32_t i = sizeof(hdr); i < len; i++)
        frame[i] = (uint8_t)(i * 31 + seed * 7 + 1);
}

/* An IPv4 frame of @hdr_len bytes of headers: total length and header checksum are written. */
static void make_ipv4(uint8_t *frame, const uint8_t *hdr, uint32_t hdr_len, uint32_t payload)
{
    const uint32_t ip_len = hdr_len - 14 + payload;
    uint32_t sum = 0;

    make_frame(frame, hdr_len + payload, 1);
    memcpy(frame, hdr, hdr_len);
    frame[16] = (uint8_t)(ip_len >> 8);
    frame[17] = (uint8_t)ip_len;
    for (unsigned i = 14; i < 34; i += 2)
        sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    frame[24] = (uint8_t)(~sum >> 8);
    frame[25] = (uint8_t)~sum;
}

/* A TCP over IPv4 frame with a segmentation request; @frame has room for 54 + @payload. */
struct virtio_net_hdr make_tso(uint8_t *frame, uint32_t payload)
{
    static const uint8_t hdr[54] = {
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
        0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    };

    make_ipv4(frame, hdr, sizeof(hdr), payload);
    return (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                    .hdr_len = 54, .gso_size = 1448, .csum_start = 34, .csum_offset = 16 };
}

/* The same for UDP; @frame has room for 42 + @payload. */
struct virtio_net_hdr make_uso(uint8_t *frame, uint32_t payload)
{
    static const uint8_t hdr[42] = {
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
        0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        0, 80, 0, 81, 0, 0, 0, 0,
    };

    make_ipv4(frame, hdr, sizeof(hdr), payload);
    frame[38] = (uint8_t)((8 + payload) >> 8);
    frame[39] = (uint8_t)(8 + payload);
    return (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VNET_GSO_UDP_L4,
                                    .hdr_len = 42, .gso_size = 1000, .csum_start = 34, .csum_offset = 6 };
}

/* A frame with a snapshot of @snap bytes and the rest in pieces of @piece bytes, in @iov. */
struct frame view_of(uint8_t *bytes, uint32_t len, uint32_t snap, uint32_t piece, struct iovec *iov)
{
    struct frame f = { .hdr = bytes, .hdr_len = snap < len ? snap : len, .len = len, .iov = iov,
                       .out_vid = US_VID_UNTAGGED };

    for (uint32_t at = f.hdr_len; at < len; at += piece)
        iov[f.n_iov++] = (struct iovec){ bytes + at, len - at < piece ? len - at : piece };
    return f;
}

unsigned transmit(struct port *p, struct frame *f)
{
    struct frame *const one[] = { f };

    return p->ops->tx_burst(p, one, 1);
}
