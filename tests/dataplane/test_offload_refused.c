/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_offload_refused.c - segmentation and checksum requests whose frame does
 * not hold what they say: one lie at a time, headers cut short, lengths that
 * no IP header can hold, extension headers.
 */
#include "harness.h"
#include "offload_source.h"

/* A change to an acceptable request that makes it unacceptable. */
struct spoil {
    const char *what;
    uint32_t at;                /* byte of the frame, 0: none */
    uint8_t value;
    struct vnet vnet;
};

#define GSO4 .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .gso_size = 1448, .csum_offset = 16

static const struct spoil spoils[] = {
    { "EtherType", 12, 0x09, { GSO4, .csum_start = 34 } },
    { "IP version", 14, 0x55, { GSO4, .csum_start = 34 } },
    { "header length 16", 14, 0x44, { GSO4, .csum_start = 34 } },
    { "header length 60 beyond TCP", 14, 0x4f, { GSO4, .csum_start = 34 } },
    { "UDP", 23, 17, { GSO4, .csum_start = 34 } },
    { "more fragments", 20, 0x20, { GSO4, .csum_start = 34 } },
    { "fragment offset", 21, 1, { GSO4, .csum_start = 34 } },
    { "TCP header 16", 46, 0x40, { GSO4, .csum_start = 34 } },
    { "csum_start low", 0, 0, { GSO4, .csum_start = 33 } },
    { "csum_start high", 0, 0, { GSO4, .csum_start = 38 } },
    { "csum_offset", 0, 0,
      { .flags = 1, .gso_type = 1, .gso_size = 1448, .csum_start = 34, .csum_offset = 6 } },
    { "IPv6 request", 0, 0,
      { .flags = 1, .gso_type = 4, .gso_size = 1448, .csum_start = 34, .csum_offset = 16 } },
    { "size 0", 0, 0, { .flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16 } },
};

static enum drop_reason begin_of(const uint8_t *bytes, uint32_t len, const struct vnet *v)
{
    struct offload_scratch *s = offload_scratch_create();
    struct source src;
    enum drop_reason why;

    source_init(&src, bytes, len, 64, 100);
    src.frame.vnet = *v;
    why = offload_begin(s, &src.frame, 0);
    source_free(&src);
    offload_scratch_destroy(s);
    return why;
}

TEST(spoiled_requests)
{
    uint8_t hdr[TCP4_LEN], *bytes;

    tcp4_hdr(hdr);
    bytes = flat_frame((const char *)hdr, sizeof(hdr), 5000);
    CHECK_EQ(begin_of(bytes, sizeof(hdr) + 5000, &tcp4_vnet), DROP_none);
    for (size_t i = 0; i < sizeof(spoils) / sizeof(spoils[0]); i++) {
        const struct spoil *sp = &spoils[i];
        const uint8_t before = bytes[sp->at];

        if (sp->at)
            bytes[sp->at] = sp->value;
        if (!CHECK_EQ(begin_of(bytes, sizeof(hdr) + 5000, &sp->vnet), DROP_offload))
            fprintf(stderr, "  %s\n", sp->what);
        bytes[sp->at] = before;
    }
    free(bytes);
}

#define USO .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_UDP_L4, .gso_size = 1472, .csum_offset = 6

static const struct spoil uso_spoils[] = {
    { "EtherType", 12, 0x09, { USO, .csum_start = 34 } },
    { "IP version", 14, 0x65, { USO, .csum_start = 34 } },
    { "header length 60 beyond UDP", 14, 0x4f, { USO, .csum_start = 34 } },
    { "TCP", 23, 6, { USO, .csum_start = 34 } },
    { "UDP-Lite", 23, 136, { USO, .csum_start = 34 } },
    { "more fragments", 20, 0x20, { USO, .csum_start = 34 } },
    { "csum_start low", 0, 0, { USO, .csum_start = 33 } },
    { "csum_start high", 0, 0, { USO, .csum_start = 35 } },
    { "csum_offset", 0, 0, { .flags = 1, .gso_type = 5, .gso_size = 1472, .csum_start = 34, .csum_offset = 16 } },
    { "size 0", 0, 0, { .flags = 1, .gso_type = 5, .csum_start = 34, .csum_offset = 6 } },
};

TEST(spoiled_udp_requests)
{
    const struct vector *v = vector_of("uso4");
    uint8_t *bytes = flat_frame(v->hdr, UDP4_LEN, 5000);

    CHECK_EQ(begin_of(bytes, UDP4_LEN + 5000, &v->vnet), DROP_none);
    for (size_t i = 0; i < sizeof(uso_spoils) / sizeof(uso_spoils[0]); i++) {
        const struct spoil *sp = &uso_spoils[i];
        const uint8_t before = bytes[sp->at];

        if (sp->at)
            bytes[sp->at] = sp->value;
        if (!CHECK_EQ(begin_of(bytes, UDP4_LEN + 5000, &sp->vnet), DROP_offload))
            fprintf(stderr, "  %s\n", sp->what);
        bytes[sp->at] = before;
    }
    free(bytes);
}

/* Every length at which the headers are cut short. */
TEST(short_frames)
{
    uint8_t hdr[TCP4_LEN];

    tcp4_hdr(hdr);
    for (uint32_t len = 14; len < TCP4_LEN; len++)
        CHECK_EQ(begin_of(hdr, len, &tcp4_vnet), DROP_offload);
    CHECK_EQ(begin_of(hdr, TCP4_LEN, &tcp4_vnet), DROP_none);
    for (uint32_t len = 14; len <= UDP4_LEN; len++) {
        const struct vector *v = vector_of("uso4");

        CHECK_EQ(begin_of((const uint8_t *)v->hdr, len, &v->vnet), len < UDP4_LEN ? DROP_offload : DROP_none);
    }
}

/* A segment whose length its IP header cannot hold. */
TEST(segment_too_long_for_ip)
{
    struct vnet v = tcp4_vnet;
    uint8_t hdr[TCP4_LEN], *bytes;

    tcp4_hdr(hdr);
    bytes = flat_frame((const char *)hdr, sizeof(hdr), US_FRAME_MAX - TCP4_LEN);
    v.gso_size = 65535;
    CHECK_EQ(begin_of(bytes, US_FRAME_MAX, &v), DROP_offload);
    CHECK_EQ(begin_of(bytes, 65535 + 14, &v), DROP_none);
    v.gso_size = 1448;
    CHECK_EQ(begin_of(bytes, US_FRAME_MAX, &v), DROP_none);
    free(bytes);
}

/* A chain of @n extension headers of 8 * (1 + @more) bytes, @kind each, then TCP. */
static enum drop_reason begin_ipv6(uint8_t kind, unsigned n, uint8_t more, uint8_t route_left)
{
    const uint32_t l4 = 14 + 40 + n * 8u * (1u + more), len = l4 + 20 + 3000;
    const struct vnet v = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV6, .gso_size = 1000,
                            .csum_start = (uint16_t)l4, .csum_offset = 16 };
    uint8_t *bytes = calloc(1, len);
    enum drop_reason why;

    bytes[12] = 0x86;
    bytes[13] = 0xdd;
    bytes[14] = 0x60;
    bytes[14 + 6] = n ? kind : 6;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *ext = bytes + 54 + i * 8u * (1u + more);

        ext[0] = i == n - 1 ? 6 : kind;
        ext[1] = more;
        ext[3] = route_left;
    }
    bytes[l4 + 12] = 0x50;
    why = begin_of(bytes, len, &v);
    free(bytes);
    return why;
}

TEST(ipv6_extensions)
{
    CHECK_EQ(begin_ipv6(60, 0, 0, 0), DROP_none);
    CHECK_EQ(begin_ipv6(60, 8, 0, 0), DROP_none);
    CHECK_EQ(begin_ipv6(60, 9, 0, 0), DROP_offload);     /* more than we walk */
    CHECK_EQ(begin_ipv6(0, 1, 21, 0), DROP_none);        /* 14 + 40 + 176 + 20 = 250 bytes of headers */
    CHECK_EQ(begin_ipv6(0, 1, 22, 0), DROP_offload);     /* 258 */
    CHECK_EQ(begin_ipv6(0, 1, 255, 0), DROP_offload);
    CHECK_EQ(begin_ipv6(43, 1, 2, 0), DROP_none);
    CHECK_EQ(begin_ipv6(43, 1, 2, 1), DROP_offload);     /* the final destination is elsewhere */
    CHECK_EQ(begin_ipv6(44, 1, 0, 0), DROP_offload);     /* fragment */
    CHECK_EQ(begin_ipv6(51, 1, 0, 0), DROP_offload);     /* authentication covers what we would change */
}

/* The switch may have cut a tag out after the request was validated. */
TEST(csum_out_of_frame)
{
    const struct vnet v = { .flags = VNET_NEEDS_CSUM, .csum_start = 40, .csum_offset = 19 };
    const uint8_t bytes[61] = { 0 };

    CHECK_EQ(begin_of(bytes, 60, &v), DROP_offload);
    CHECK_EQ(begin_of(bytes, 61, &v), DROP_none);
}

MAIN
{
    RUN(spoiled_requests);
    RUN(spoiled_udp_requests);
    RUN(short_frames);
    RUN(segment_too_long_for_ip);
    RUN(ipv6_extensions);
    RUN(csum_out_of_frame);
}
