/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_vnet.c - the virtio-net header against an oracle that states the rules
 * as one formula, over the corners of every field (threat N1), and what is
 * written out again.
 */
#include "vnet.h"

#include "base/le.h"
#include "harness.h"

#define FLAG_RSC_INFO 4
#define USO (OFFLOAD_USO4 | OFFLOAD_USO6)
#define ALL_OFFLOADS (OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN | USO)

/* The header in host order, and what it came with. */
struct claim {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint32_t frame_len;
    uint32_t allowed;
};

static void put16(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)v;
    at[1] = (uint8_t)(v >> 8);
}

static void to_wire(const struct claim *c, uint8_t wire[VNET_WIRE_LEN])
{
    wire[0] = c->flags;
    wire[1] = c->gso_type;
    put16(wire + 2, c->hdr_len);
    put16(wire + 4, c->gso_size);
    put16(wire + 6, c->csum_start);
    put16(wire + 8, c->csum_offset);
}

static bool csum_is_right(const struct claim *c)
{
    const uint64_t end = (uint64_t)c->csum_start + c->csum_offset + 2;

    return (c->allowed & OFFLOAD_CSUM) && c->csum_start >= 14 && c->csum_start <= 65531 && end <= c->frame_len;
}

static bool uso_is_right(const struct claim *c)
{
    const uint32_t payload = c->frame_len - c->csum_start - 8;

    return (c->flags & 1) && (c->allowed & USO) == USO && c->csum_offset == 6 &&
           c->csum_start + 8u <= c->frame_len && c->gso_size > 0 && (payload + c->gso_size - 1) / c->gso_size <= 1365;
}

static bool gso_is_right(const struct claim *c)
{
    const bool v4 = (c->gso_type & 0x7f) == 1, v6 = (c->gso_type & 0x7f) == 4, ecn = c->gso_type & 0x80;

    return (c->flags & 1) && ((v4 && (c->allowed & OFFLOAD_TSO4)) || (v6 && (c->allowed & OFFLOAD_TSO6))) &&
           (!ecn || (c->allowed & OFFLOAD_ECN)) && c->gso_size >= 48 && c->csum_offset == 16 &&
           c->csum_start + 20u <= c->frame_len;
}

static enum drop_reason oracle(const struct claim *c)
{
    if (c->flags & FLAG_RSC_INFO)
        return DROP_vnet_gso;
    if ((c->flags & 1) && !csum_is_right(c))
        return DROP_vnet_csum;
    if (c->gso_type && !(c->gso_type == 5 ? uso_is_right(c) : gso_is_right(c)))
        return DROP_vnet_gso;
    return DROP_none;
}

/* What later code relies on, whatever was claimed. */
static bool holds_promises(const struct claim *c, const struct vnet *v)
{
    if (v->flags & ~VNET_NEEDS_CSUM)
        return false;
    if (v->flags && (uint32_t)v->csum_start + v->csum_offset + 2 > c->frame_len)
        return false;
    if (v->gso_type && (!v->flags || v->gso_size < (v->gso_type == 5 ? 1 : VNET_GSO_SIZE_MIN)))
        return false;
    if (v->gso_type && v->hdr_len < v->csum_start + (v->gso_type == 5 ? 8 : 20) && v->hdr_len != 65531)
        return false;
    if (!v->flags && (v->gso_type | v->hdr_len | v->gso_size | v->csum_start | v->csum_offset))
        return false;
    return v->hdr_len <= c->frame_len && v->hdr_len <= 65531;
}

static bool agrees(const struct claim *c)
{
    uint8_t wire[VNET_WIRE_LEN];
    struct vnet v = { 0 };
    enum drop_reason got;

    to_wire(c, wire);
    memset(&v, 0xa5, sizeof(v));
    got = vnet_parse(wire, c->frame_len, c->allowed, &v);
    return got == oracle(c) && (got != DROP_none || holds_promises(c, &v));
}

static const uint8_t flag_set[] = { 0, 1, 2, 3, 4, 5, 8, 9, 0xf1, 0xff };
static const uint8_t type_set[] = { 0, 1, 2, 3, 4, 5, 0x80, 0x81, 0x83, 0x84, 0x85, 0xff };
static const uint16_t size_set[] = { 0, 1, 2, 47, 48, 1448, 65535 };
static const uint16_t start_set[] = { 0, 13, 14, 34, 1494, 1498, 65531, 65532, 65535 };
static const uint16_t offset_set[] = { 0, 6, 16, 17, 1478, 65535 };
static const uint16_t hdr_set[] = { 0, 54, 65535 };
/* Every set without USO, and USO whole, in part, and without what it needs. */
static const uint8_t allowed_set[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 33, 48, 49, 63 };
static const uint32_t len_set[] = { 14, 15, 36, 41, 42, 54, 1407, 1408, 1514, 65562 };

#define EACH(var, set) for (size_t var = 0; var < sizeof(set) / sizeof((set)[0]); var++)

static unsigned wrong_for(struct claim c)
{
    unsigned wrong = 0;

    EACH(start, start_set) EACH(offset, offset_set) EACH(len, len_set) EACH(hdr, hdr_set) {
        c.csum_start = start_set[start];
        c.csum_offset = offset_set[offset];
        c.frame_len = len_set[len];
        c.hdr_len = hdr_set[hdr];
        wrong += !agrees(&c);
    }
    return wrong;
}

TEST(every_corner)
{
    struct claim c = { 0 };
    unsigned wrong = 0;

    EACH(flag, flag_set) EACH(type, type_set) EACH(size, size_set)
        EACH(allowed, allowed_set) {
            c.allowed = allowed_set[allowed];
            c.flags = flag_set[flag];
            c.gso_type = type_set[type];
            c.gso_size = size_set[size];
            wrong += wrong_for(c);
        }
    CHECK_EQ(wrong, 0);
}

/* Every csum_start and csum_offset around the end of an ordinary frame. */
TEST(every_offset)
{
    struct claim c = { .flags = 1, .frame_len = 120, .allowed = ALL_OFFLOADS };
    unsigned wrong = 0;

    for (uint32_t start = 0; start < 200; start++)
        for (uint32_t offset = 0; offset < 200; offset++) {
            c.csum_start = (uint16_t)start;
            c.csum_offset = (uint16_t)offset;
            wrong += !agrees(&c);
        }
    CHECK_EQ(wrong, 0);
}

TEST(plain_frame)
{
    const uint8_t wire[VNET_WIRE_LEN] = { 0 };
    const struct vnet none = { 0 };
    struct vnet v = { 0 };

    memset(&v, 0xff, sizeof(v));
    CHECK_EQ(vnet_parse(wire, 60, 0, &v), DROP_none);
    CHECK_MEM(&v, &none, sizeof(v));
}

/* A sender may not vouch for a checksum: its word would travel to a receiver as ours. */
TEST(data_valid_is_cleared)
{
    const struct claim c = { .flags = VNET_DATA_VALID, .frame_len = 60 };
    uint8_t wire[VNET_WIRE_LEN];
    struct vnet v = { 0 };

    to_wire(&c, wire);
    CHECK_EQ(vnet_parse(wire, c.frame_len, 0, &v), DROP_none);
    CHECK_EQ(v.flags, 0);
}

TEST(round_trip)
{
    const struct claim c = { .flags = 1, .gso_type = 0x81, .hdr_len = 66, .gso_size = 1448, .csum_start = 34,
                             .csum_offset = 16, .frame_len = 9000, .allowed = ALL_OFFLOADS };
    uint8_t wire[VNET_WIRE_LEN], again[VNET_WIRE_LEN];
    struct vnet v = { 0 };

    to_wire(&c, wire);
    REQUIRE(vnet_parse(wire, c.frame_len, c.allowed, &v) == DROP_none);
    vnet_format(&v, 0, again);
    CHECK_MEM(again, wire, sizeof(wire));
}

TEST(round_trip_of_usos_shortest_segment)
{
    const struct claim c = { .flags = 1, .gso_type = 5, .hdr_len = 42, .gso_size = 1, .csum_start = 34,
                             .csum_offset = 6, .frame_len = 42 + 1365, .allowed = ALL_OFFLOADS };
    uint8_t wire[VNET_WIRE_LEN], again[VNET_WIRE_LEN];
    struct vnet v = { 0 };

    to_wire(&c, wire);
    REQUIRE(vnet_parse(wire, c.frame_len, c.allowed, &v) == DROP_none);
    vnet_format(&v, 0, again);
    CHECK_MEM(again, wire, sizeof(wire));
    CHECK_EQ(vnet_parse(wire, c.frame_len + 1, c.allowed, &v), DROP_vnet_gso);
}

/* A tag moves everything that counts from the start of the frame, and nothing else. */
TEST(tag_shifts_offsets)
{
    const struct vnet v = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV6, .hdr_len = 74, .gso_size = 1400,
                            .csum_start = 54, .csum_offset = 16 };
    const struct claim want = { .flags = 1, .gso_type = 4, .hdr_len = 78, .gso_size = 1400, .csum_start = 58,
                                .csum_offset = 16 };
    uint8_t got[VNET_WIRE_LEN], wire[VNET_WIRE_LEN];

    to_wire(&want, wire);
    vnet_format(&v, VLAN_TAG_LEN, got);
    CHECK_MEM(got, wire, sizeof(wire));
}

TEST(plain_frame_formats_to_zero)
{
    const struct vnet v = { 0 };
    const uint8_t zero[VNET_WIRE_LEN] = { 0 };
    uint8_t got[VNET_WIRE_LEN];

    memset(got, 0xff, sizeof(got));
    vnet_format(&v, VLAN_TAG_LEN, got);
    CHECK_MEM(got, zero, sizeof(zero));
}

/* The highest offsets that are accepted still fit 16 bits with a tag. */
TEST(no_wrap_with_tag)
{
    const struct claim c = { .flags = 1, .hdr_len = 65535, .csum_start = 65531, .csum_offset = 0,
                             .frame_len = US_FRAME_MAX, .allowed = ALL_OFFLOADS };
    uint8_t wire[VNET_WIRE_LEN];
    struct vnet v = { 0 };

    to_wire(&c, wire);
    REQUIRE(vnet_parse(wire, c.frame_len, c.allowed, &v) == DROP_none);
    vnet_format(&v, VLAN_TAG_LEN, wire);
    CHECK_EQ(wire[6] | wire[7] << 8, 65535);
    CHECK_EQ(wire[2] | wire[3] << 8, 65535);
}

MAIN
{
    RUN(every_corner);
    RUN(every_offset);
    RUN(plain_frame);
    RUN(data_valid_is_cleared);
    RUN(round_trip);
    RUN(round_trip_of_usos_shortest_segment);
    RUN(tag_shifts_offsets);
    RUN(plain_frame_formats_to_zero);
    RUN(no_wrap_with_tag);
}
