/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_flow.c - how flow.h spreads frames over receive queues: evenly for the
 * flows that real guests and generators make, which differ in a few bits of
 * one field; and never two frames of a flow apart.
 */
#include "harness.h"

#include <string.h>

#include "flow.h"

#define FLOWS 8192

static uint8_t room[HDR_ROOM + SNAP_SIZE];
static struct frame f = { .hdr = room + HDR_ROOM, .hdr_len = 64, .len = 64 };
static uint64_t seed;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(seed >> 33);
}

static void put16(unsigned at, uint32_t v)
{
    f.hdr[at] = (uint8_t)(v >> 8);
    f.hdr[at + 1] = (uint8_t)v;
}

static void put32(unsigned at, uint32_t v)
{
    put16(at, v >> 16);
    put16(at + 2, v);
}

/* One conversation: 52:54:00:00:00:01 to :02, 10.0.0.1 or fd00::1 to the other, port 1024 to 80. */
static void base(uint16_t ethertype, uint8_t protocol)
{
    static const uint8_t macs[12] = { 0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1 };

    memset(f.hdr, 0, SNAP_SIZE);
    memcpy(f.hdr, macs, 12);
    put16(12, ethertype);
    f.hdr_len = f.len = ethertype == 0x86dd ? 74 : 64;
    if (ethertype == 0x0800) {
        f.hdr[14] = 0x45;
        f.hdr[23] = protocol;
        put32(26, 0x0a000001);
        put32(30, 0x0a000002);
        put32(34, 1024u << 16 | 80);
    } else if (ethertype == 0x86dd) {
        f.hdr[14] = 0x60;
        f.hdr[20] = protocol;
        f.hdr[22] = f.hdr[38] = 0xfd;
        f.hdr[37] = 1;
        f.hdr[53] = 2;
        put32(54, 1024u << 16 | 80);
    }
}

static void source_port(uint32_t i) { put16(f.hdr[12] == 8 ? 34 : 54, 1024 + i); }
static void even_source_port(uint32_t i) { put16(f.hdr[12] == 8 ? 34 : 54, 2 * i); }
static void destination_port(uint32_t i) { put16(f.hdr[12] == 8 ? 36 : 56, i); }
static void source_address(uint32_t i) { put32(f.hdr[12] == 8 ? 26 : 34, 0x0a000000 + i); }
static void source_network(uint32_t i) { put32(f.hdr[12] == 8 ? 26 : 22, i << 16); }
static void both_ports(uint32_t i) { put32(f.hdr[12] == 8 ? 34 : 54, i * 0x10001); }
static void source_mac(uint32_t i) { put32(8, i); }
static void both_macs(uint32_t i) { put32(2, i), put32(8, ~i); }
static void mirrored_macs(uint32_t i) { put32(2, i), put32(8, i); }

static void anything(uint32_t i)
{
    (void)i;
    for (unsigned at = 0; at < 12; at += 4)
        put32(at, next_random());
    for (unsigned at = 26; at < 38; at += 4)
        put32(at, next_random());
}

/**
 * struct pattern - a family of flows
 * @name: for the message
 * @ethertype: of all of them
 * @vary: writes what tells flow i from the others
 */
static const struct pattern {
    const char *name;
    uint16_t ethertype;
    void (*vary)(uint32_t i);
} patterns[] = {
    { "random", 0x0800, anything },
    { "IPv4 source ports", 0x0800, source_port },
    { "IPv4 even source ports", 0x0800, even_source_port },
    { "IPv4 destination ports", 0x0800, destination_port },
    { "IPv4 both ports", 0x0800, both_ports },
    { "IPv4 addresses", 0x0800, source_address },
    { "IPv4 networks", 0x0800, source_network },
    { "IPv6 source ports", 0x86dd, source_port },
    { "IPv6 even source ports", 0x86dd, even_source_port },
    { "IPv6 destination ports", 0x86dd, destination_port },
    { "IPv6 both ports", 0x86dd, both_ports },
    { "IPv6 addresses", 0x86dd, source_address },
    { "IPv6 networks", 0x86dd, source_network },
    { "MACs of IPv4", 0x0800, source_mac },
    { "MACs of anything", 0x88b5, source_mac },
    { "both MACs", 0x88b5, both_macs },
    { "mirrored MACs", 0x88b5, mirrored_macs },
};

/*
 * The chi-square statistic of an even spread over k queues is about k - 1, with a deviation of sqrt(2 (k - 1));
 * 40 is far beyond chance for 8 queues, and a queue with 15 % too many or too few reaches it.
 */
static void check_even(const struct pattern *p, uint32_t n_flows, uint32_t up)
{
    const uint32_t k = (uint32_t)__builtin_popcount(up);
    uint32_t got[32] = { 0 };
    double chi = 0, expected = (double)n_flows / k;

    seed = 42;
    for (uint32_t i = 0; i < n_flows; i++) {
        base(p->ethertype, 6);
        p->vary(i);
        got[flow_queue(flow_hash(&f), up)]++;
    }
    for (uint32_t q = 0; q < 32; q++) {
        if (up & 1u << q)
            chi += (got[q] - expected) * (got[q] - expected) / expected;
        else
            CHECK_EQ(got[q], 0);
    }
    if (!CHECK(chi < 40))
        fprintf(stderr, "%s: %u flows over %u queues: chi-square %.0f\n", p->name, n_flows, k, chi);
}

TEST(every_family_of_flows_is_spread_evenly)
{
    static const uint32_t ups[] = { 0x3, 0x7, 0xf, 0x1f, 0x7f, 0xff, 0x81, 0xaa, 0x15 };

    for (unsigned p = 0; p < sizeof(patterns) / sizeof(patterns[0]); p++) {
        for (unsigned u = 0; u < sizeof(ups) / sizeof(ups[0]); u++) {
            check_even(&patterns[p], FLOWS, ups[u]);
            check_even(&patterns[p], 64, ups[u]);
        }
    }
}

TEST(each_bit_of_a_flow_counts)
{
    static const struct { uint16_t ethertype; unsigned first, end; } fields[] = {
        { 0x88b5, 0, 12 }, { 0x0800, 26, 38 }, { 0x86dd, 22, 58 },
    };

    for (unsigned i = 0; i < 3; i++) {
        for (unsigned bit = 8 * fields[i].first; bit < 8 * fields[i].end; bit++) {
            uint32_t before;

            base(fields[i].ethertype, 17);
            before = flow_hash(&f);
            f.hdr[bit / 8] ^= (uint8_t)(1 << bit % 8);
            CHECK(flow_hash(&f) != before);
        }
    }
}

/* What changes from frame to frame within a flow must not move it to another queue. */
TEST(a_flow_stays_together)
{
    uint32_t whole;

    for (uint8_t protocol = 0; protocol < 255; protocol++) {
        uint32_t first;

        base(0x0800, protocol);
        put16(20, 0x2000); /* the first fragment has ports, the others have data in their place */
        first = flow_hash(&f);
        put16(20, 0x20b9);
        put32(34, 0xdeadbeef);
        CHECK_EQ(flow_hash(&f), first);
        put16(20, 0x0172); /* the last one */
        CHECK_EQ(flow_hash(&f), first);
        f.hdr_len = f.len = 42; /* and it is short */
        CHECK_EQ(flow_hash(&f), first);
    }
    base(0x0800, 6);
    whole = flow_hash(&f);
    put16(16, 1500), put16(18, 77), put16(20, 0x4000), f.hdr[22] = 3, f.hdr[15] = 0x10; /* DF: no fragment */
    put32(38, 12345), put32(42, 54321);
    f.hdr_len = SNAP_SIZE, f.len = 1514, f.out_vid = 7, f.pcp = 0x2000, f.vnet.gso_type = VNET_GSO_TCPV4;
    CHECK_EQ(flow_hash(&f), whole);
    f.out_vid = 0, f.pcp = 0, f.vnet.gso_type = 0;

    base(0x86dd, 44); /* RFC 8200, 4.5: a fragment header */
    f.hdr[54] = 6, put16(56, 1), put32(58, 99);
    whole = flow_hash(&f);
    put16(56, 0x00b9);
    put32(62, 0xdeadbeef);
    CHECK_EQ(flow_hash(&f), whole);
}

/* ICMP has no ports; two bytes of a ping are its sequence number. */
TEST(only_tcp_and_udp_have_ports)
{
    for (unsigned protocol = 0; protocol < 256; protocol++) {
        const bool has = protocol == 6 || protocol == 17;
        uint32_t v4, v6;

        base(0x0800, (uint8_t)protocol);
        v4 = flow_hash(&f);
        put32(34, 0x01020304);
        CHECK_EQ(flow_hash(&f) != v4, has);
        base(0x86dd, (uint8_t)protocol);
        v6 = flow_hash(&f);
        put32(54, 0x01020304);
        CHECK_EQ(flow_hash(&f) != v6, has);
    }
}

int main(void)
{
    RUN(every_family_of_flows_is_spread_evenly);
    RUN(each_bit_of_a_flow_counts);
    RUN(a_flow_stays_together);
    RUN(only_tcp_and_udp_have_ports);
}
