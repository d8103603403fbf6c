/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_antispoof.c - each rule of policy/antispoof.h: an honest frame of each
 * kind passes, and dies under the right name when it is spoiled in one place,
 * cut at any length, or hides what must be seen.  How long the snapshot was
 * must not matter.
 */
#include <errno.h>
#include <stdlib.h>

#include "frame.h"
#include "harness.h"
#include "policy.h"
#include "policy/antispoof.h"
#include "policy/packets.h"

static const struct policy *own;

/* Judged as a driver would hand it over whose snapshots have @snap bytes. The rest comes in two pieces. */
static enum drop_reason judge_snapped(const struct policy *policy, const uint8_t *data, uint32_t len, uint32_t snap)
{
    static uint8_t slot[HDR_ROOM + SNAP_SIZE];
    uint8_t *const rest = malloc(len); /* its end is an end, for ASan */
    const uint32_t head = len < snap ? len : snap, left = len - head, first = left / 3;
    struct iovec iov[2] = { { rest + head, first }, { rest + head + first, left - first } };
    struct frame f = { .hdr = slot + HDR_ROOM, .hdr_len = head, .len = len,
                       .iov = first ? iov : iov + 1, .n_iov = !left ? 0 : first ? 2 : 1 };
    enum drop_reason why;

    memset(slot, 0xee, sizeof(slot));
    memcpy(slot + HDR_ROOM, data, head);
    memcpy(rest, data, len);
    why = policy_verdict(policy, &f);
    /* What was judged is what will be delivered. */
    CHECK(f.hdr_len >= head && f.hdr_len <= SNAP_SIZE && memcmp(f.hdr, data, f.hdr_len) == 0);
    for (uint32_t i = 0, at = f.hdr_len; i < f.n_iov; at += (uint32_t)f.iov[i++].iov_len)
        CHECK(f.iov[i].iov_len > 0 && memcmp(f.iov[i].iov_base, data + at, f.iov[i].iov_len) == 0);
    free(rest);
    return why;
}

static enum drop_reason judge(const struct policy *policy, const uint8_t *data, uint32_t len)
{
    static const uint32_t snaps[] = { 18, 60, SNAP_SHORT, SNAP_SIZE - VLAN_TAG_LEN, SNAP_SIZE };
    const enum drop_reason why = judge_snapped(policy, data, len, SNAP_SIZE);

    for (unsigned i = 0; i < sizeof(snaps) / sizeof(snaps[0]); i++)
        CHECK_EQ(judge_snapped(policy, data, len, snaps[i]), why);
    return why;
}

static void expect(const char *what, const struct packet *p, uint32_t len, enum drop_reason want)
{
    const enum drop_reason why = judge(own, p->data, len);

    if (why != want)
        fprintf(stderr, "%s, %u bytes: %s, want %s\n", what, len, us_drop_name(why), us_drop_name(want));
    CHECK_EQ(why, want);
}

TEST(honest_frames_pass)
{
    struct packet p;

    for (unsigned kind = 0; kind < PACKET_KINDS; kind++) {
        packet_make(&p, kind);
        expect(packet_name(kind), &p, p.len, DROP_none);
    }
}

/* Below what decides, a frame is dropped; above, how long it is means nothing. */
TEST(every_length)
{
    struct packet p;

    for (unsigned kind = 0; kind < PACKET_KINDS; kind++) {
        packet_make(&p, kind);
        for (uint32_t len = ETH_HDR_LEN; len <= p.len; len++)
            expect(packet_name(kind), &p, len,
                   len >= p.judged ? DROP_none : len < p.cut_from ? DROP_guard_ip : p.cut);
    }
}

/**
 * struct spoilt - an honest frame with a few bytes changed
 * @what: for messages
 * @kind: of frame
 * @change: what stands where instead; at == 0: nothing
 * @want: how it ends
 */
struct spoilt {
    const char *what;
    enum packet_kind kind;
    enum drop_reason want;
    struct { uint16_t at; uint8_t byte; } change[4];
};

static void check_spoilt(const struct spoilt *s, unsigned n)
{
    struct packet p;

    for (unsigned i = 0; i < n; i++) {
        packet_make(&p, s[i].kind);
        for (unsigned k = 0; k < 4 && s[i].change[k].at; k++) {
            CHECK(p.data[s[i].change[k].at] != s[i].change[k].byte);
            p.data[s[i].change[k].at] = s[i].change[k].byte;
        }
        expect(s[i].what, &p, p.len, s[i].want);
    }
}

#define CHECK_SPOILT(table) check_spoilt(table, sizeof(table) / sizeof((table)[0]))

TEST(ethernet)
{
    static const struct spoilt table[] = {
        { "another's MAC address", PACKET_TCP, DROP_guard_mac, { { AT_SOURCE + 5, 0x0d } } },
        { "another's MAC address, ARP", PACKET_ARP_REQUEST, DROP_guard_mac, { { AT_SOURCE + 5, 0x0d } } },
        { "another's MAC address, IPv6", PACKET_NS, DROP_guard_mac, { { AT_SOURCE + 5, 0x0d } } },
        { "a second tag", PACKET_TCP, DROP_guard_type, { { AT_TYPE, 0x81 } } },
        { "a provider's tag", PACKET_TCP, DROP_guard_type, { { AT_TYPE, 0x88 }, { AT_TYPE + 1, 0xa8 } } },
        { "a length", PACKET_TCP, DROP_guard_type, { { AT_TYPE, 0 }, { AT_TYPE + 1, 46 } } },
        { "LLDP", PACKET_TCP, DROP_guard_type, { { AT_TYPE, 0x88 }, { AT_TYPE + 1, 0xcc } } },
        { "PPPoE", PACKET_TCP, DROP_guard_type, { { AT_TYPE, 0x88 }, { AT_TYPE + 1, 0x64 } } },
        /* The second MAC address has one IPv4 address of its own, the third one none. */
        { "the other's IP", PACKET_TCP, DROP_guard_ip, { { AT_SOURCE + 5, 0x0b } } },
        { "its own IP", PACKET_TCP, DROP_none, { { AT_SOURCE + 5, 0x0b }, { AT_IPV4_SOURCE + 3, 6 } } },
        { "no IP", PACKET_TCP, DROP_guard_ip, { { AT_SOURCE + 5, 0x0c } } },
        { "no IP, IPv6", PACKET_TCP6, DROP_guard_ip, { { AT_SOURCE + 5, 0x0c } } },
        { "no IP, asking for one", PACKET_DISCOVER, DROP_none, { { AT_SOURCE + 5, 0x0c } } },
        { "no IP, RARP", PACKET_RARP, DROP_none, { { AT_SOURCE + 5, 0x0c }, { AT_ARP_SHA + 5, 0x0c } } },
    };

    CHECK_SPOILT(table);
}

TEST(arp)
{
    static const struct spoilt table[] = {
        { "another's hardware address", PACKET_ARP_REQUEST, DROP_guard_arp, { { AT_ARP_SHA + 5, 0x0b } } },
        { "its first byte", PACKET_ARP_REPLY, DROP_guard_arp, { { AT_ARP_SHA, 6 } } },
        { "another's IP", PACKET_ARP_REQUEST, DROP_guard_arp, { { AT_ARP_SPA + 3, 6 } } },
        { "another's IP, reply", PACKET_ARP_REPLY, DROP_guard_arp, { { AT_ARP_SPA + 3, 1 } } },
        { "an address of the prefix", PACKET_ARP_REPLY, DROP_none, { { AT_ARP_SPA + 1, 1 } } },
        { "beside the prefix", PACKET_ARP_REPLY, DROP_guard_arp, { { AT_ARP_SPA + 1, 2 } } },
        { "a reply from nobody", PACKET_ARP_PROBE, DROP_guard_arp, { { 21, 2 } } },
        { "another hardware", PACKET_ARP_REQUEST, DROP_guard_arp, { { 15, 6 } } },
        { "another protocol", PACKET_ARP_REQUEST, DROP_guard_arp, { { 16, 0x86 } } },
        { "hardware length", PACKET_ARP_REQUEST, DROP_guard_arp, { { 18, 8 } } },
        { "protocol length", PACKET_ARP_REQUEST, DROP_guard_arp, { { 19, 16 } } },
        { "another's RARP", PACKET_RARP, DROP_guard_arp, { { AT_ARP_SHA + 5, 0x0b } } },
        { "RARP, hardware length", PACKET_RARP, DROP_guard_arp, { { 18, 8 } } },
    };

    CHECK_SPOILT(table);
}

TEST(ipv4)
{
    static const struct spoilt table[] = {
        { "another's IP", PACKET_TCP, DROP_guard_ip, { { AT_IPV4_SOURCE + 3, 6 } } },
        { "another's IP, UDP", PACKET_UDP, DROP_guard_ip, { { AT_IPV4_SOURCE, 11 } } },
        { "another's IP, fragment", PACKET_LATER_FRAGMENT, DROP_guard_ip, { { AT_IPV4_SOURCE, 11 } } },
        { "another's IP, options", PACKET_IP_OPTIONS, DROP_guard_ip, { { AT_IPV4_SOURCE, 11 } } },
        { "an address of the prefix", PACKET_TCP, DROP_none,
          { { AT_IPV4_SOURCE + 1, 1 }, { AT_IPV4_SOURCE + 2, 255 } } },
        { "beside the prefix", PACKET_TCP, DROP_guard_ip, { { AT_IPV4_SOURCE + 1, 2 } } },
        { "version 6", PACKET_TCP, DROP_guard_ip, { { AT_IPV4, 0x65 } } },
        { "version 0", PACKET_TCP, DROP_guard_ip, { { AT_IPV4, 0x05 } } },
        { "a header of 16 bytes", PACKET_TCP, DROP_guard_ip, { { AT_IPV4, 0x44 } } },
        { "a header of 0 bytes", PACKET_UDP, DROP_guard_ip, { { AT_IPV4, 0x40 } } },
        { "type of service", PACKET_TCP, DROP_none, { { AT_IPV4 + 1, 0xff } } },
        { "a router's message", PACKET_PING, DROP_none, { { AT_IPV4_UP, 11 } } },
        /* From nobody only what a DHCP client asks. */
        { "nobody's TCP", PACKET_TCP, DROP_guard_ip, { { AT_IPV4_SOURCE, 0 }, { AT_IPV4_SOURCE + 3, 0 } } },
        { "nobody's UDP", PACKET_UDP, DROP_guard_ip, { { AT_IPV4_SOURCE, 0 }, { AT_IPV4_SOURCE + 3, 0 } } },
        { "discover, other source port", PACKET_DISCOVER, DROP_guard_ip, { { AT_IPV4_UP + 1, 69 } } },
        { "discover, other port", PACKET_DISCOVER, DROP_guard_ip, { { AT_IPV4_UP + 3, 68 } } },
        { "discover, other high byte", PACKET_DISCOVER, DROP_guard_ip, { { AT_IPV4_UP + 2, 1 } } },
        { "discover from another's IP", PACKET_DISCOVER, DROP_guard_ip, { { AT_IPV4_SOURCE, 10 } } },
        { "discover by TCP", PACKET_DISCOVER, DROP_guard_ip, { { AT_IPV4_PROTOCOL, 6 } } },
        { "discover's later fragment", PACKET_DISCOVER, DROP_guard_ip, { { AT_IPV4_FRAGMENT + 1, 1 } } },
        { "offer from nobody", PACKET_DISCOVER, DROP_guard_ip, { { AT_IPV4_UP + 1, 67 }, { AT_IPV4_UP + 3, 68 } } },
    };

    CHECK_SPOILT(table);
}

#define SERVER(at) { at, 0 }, { at + 1, 67 }, { at + 2, 0 }, { at + 3, 68 }
#define SERVER6(at) { at, 547 >> 8 }, { at + 1, 547 & 0xff }, { at + 2, 546 >> 8 }, { at + 3, 546 & 0xff }
/* A client looks at its own port alone: whoever lies takes any other. */
#define LIAR(at) { at, 9999 >> 8 }, { at + 1, 9999 & 0xff }, { at + 2, 0 }, { at + 3, 68 }
#define LIAR6(at) { at, 9999 >> 8 }, { at + 1, 9999 & 0xff }, { at + 2, 546 >> 8 }, { at + 3, 546 & 0xff }

/* Behind what it may hide. */
TEST(dhcp_servers)
{
    static const struct spoilt table[] = {
        { "offer", PACKET_UDP, DROP_guard_dhcp, { SERVER(AT_IPV4_UP) } },
        { "offer from another port", PACKET_UDP, DROP_guard_dhcp, { LIAR(AT_IPV4_UP) } },
        { "offer from another port, behind options", PACKET_IP_OPTIONS, DROP_guard_dhcp, { LIAR(AT_IPV4_UP + 40) } },
        { "offer by TCP", PACKET_TCP, DROP_none, { SERVER(AT_IPV4_UP) } },
        { "from the server's port to another", PACKET_UDP, DROP_none,
          { { AT_IPV4_UP, 0 }, { AT_IPV4_UP + 1, 67 }, { AT_IPV4_UP + 2, 0 }, { AT_IPV4_UP + 3, 67 } } },
        { "to a port with the client's low byte", PACKET_UDP, DROP_none,
          { { AT_IPV4_UP + 2, 1 }, { AT_IPV4_UP + 3, 68 } } },
        { "offer behind options", PACKET_IP_OPTIONS, DROP_guard_dhcp, { SERVER(AT_IPV4_UP + 40) } },
        { "offer within options", PACKET_IP_OPTIONS, DROP_none, { SERVER(AT_IPV4_UP) } },
        { "payload of a fragment", PACKET_LATER_FRAGMENT, DROP_none, { SERVER(AT_IPV4_UP) } },
        { "IPv6", PACKET_UDP6, DROP_guard_dhcp, { SERVER6(AT_IPV6_UP) } },
        { "IPv6, from another port", PACKET_UDP6, DROP_guard_dhcp, { LIAR6(AT_IPV6_UP) } },
        { "IPv6, other way", PACKET_UDP6, DROP_none,
          { { AT_IPV6_UP, 2 }, { AT_IPV6_UP + 1, 0x22 }, { AT_IPV6_UP + 2, 2 },
                                                     { AT_IPV6_UP + 3, 0x23 } } },
        { "extension headers", PACKET_EXTENSIONS, DROP_guard_dhcp, { SERVER6(AT_IPV6_UP + 40) } },
        { "first fragment", PACKET_FIRST_FRAGMENT6, DROP_guard_dhcp, { SERVER6(AT_IPV6_UP + 8) } },
        { "payload of a later fragment", PACKET_LATER_FRAGMENT6, DROP_none, { SERVER6(AT_IPV6_UP + 8) } },
        { "authenticated", PACKET_AH, DROP_guard_dhcp, { SERVER6(AT_IPV6_UP + 24) } },
        { "from another port, behind", PACKET_EXTENSIONS, DROP_guard_dhcp, { LIAR6(AT_IPV6_UP + 40) } },
        { "from another port, first fragment", PACKET_FIRST_FRAGMENT6, DROP_guard_dhcp, { LIAR6(AT_IPV6_UP + 8) } },
        { "IPv4's ports", PACKET_UDP6, DROP_none, { SERVER(AT_IPV6_UP) } },
    };
    struct packet p;

    CHECK_SPOILT(table);
    /* First fragments of a server: with the ports, and with less of them than a receiver puts together. */
    packet_make(&p, PACKET_UDP);
    memcpy(p.data + AT_IPV4_UP, "\0\x43\0\x44", 4);
    p.data[AT_IPV4_FRAGMENT] = 0x20;
    expect("first fragment of an offer", &p, p.len, DROP_guard_dhcp);
    memcpy(p.data + AT_IPV4_UP, "\x27\x0f\0\x44", 4);
    expect("first fragment of an offer from another port", &p, p.len, DROP_guard_dhcp);
    memcpy(p.data + AT_IPV4_UP, "\0\x43\1\1", 4);
    expect("first fragment", &p, p.len, DROP_none);
    p.data[AT_IPV4_TOTAL] = 0, p.data[AT_IPV4_TOTAL + 1] = 27;
    expect("first fragment without a UDP header", &p, p.len, DROP_guard_ip);
}

TEST(ipv6)
{
    static const struct spoilt table[] = {
        { "another's IP", PACKET_TCP6, DROP_guard_ip, { { AT_IPV6_SOURCE + 7, 1 } } },
        { "the prefix", PACKET_TCP6, DROP_none, { { AT_IPV6_SOURCE + 8, 1 } } },
        { "another's link-local address", PACKET_NS, DROP_guard_ip, { { AT_IPV6_SOURCE + 15, 6 } } },
        { "another's IP, later fragment", PACKET_LATER_FRAGMENT6, DROP_guard_ip, { { AT_IPV6_SOURCE, 0x30 } } },
        { "version 4", PACKET_TCP6, DROP_guard_ip, { { AT_IPV6, 0x40 } } },
        { "traffic class and flow label", PACKET_TCP6, DROP_none, { { AT_IPV6, 0x6f }, { AT_IPV6 + 1, 0xff } } },
        { "a protocol nobody knows", PACKET_TCP6, DROP_none, { { AT_IPV6_NEXT, 200 } } },
        { "nothing behind", PACKET_TCP6, DROP_none, { { AT_IPV6_NEXT, 59 } } },
        { "nobody, TCP", PACKET_DAD, DROP_guard_ip, { { AT_IPV6_NEXT, 6 } } },
        { "nobody, UDP", PACKET_DAD, DROP_guard_ip, { { AT_IPV6_NEXT, 17 } } },
        { "nobody, ping", PACKET_DAD, DROP_guard_ip, { { AT_IPV6_UP, 128 } } },
        { "nobody, router solicitation", PACKET_DAD, DROP_guard_ip, { { AT_IPV6_UP, 133 } } },
        { "nobody, neighbor advertisement", PACKET_DAD, DROP_guard_ip, { { AT_IPV6_UP, 136 } } },
        { "nobody, to one station", PACKET_DAD, DROP_guard_ip, { { AT_IPV6_DESTINATION, 0x20 } } },
        { "nobody, MLD query", PACKET_MLD2_UNSPECIFIED, DROP_guard_ip, { { AT_IPV6_UP + 8, 130 } } },
        { "nobody, first MLD's report", PACKET_MLD2_UNSPECIFIED, DROP_none, { { AT_IPV6_UP + 8, 131 } } },
        { "MLD query", PACKET_MLD2, DROP_none, { { AT_IPV6_UP + 8, 130 } } },
    };

    CHECK_SPOILT(table);
}

TEST(extension_headers)
{
    static const struct spoilt table[] = {
        { "one beyond the frame", PACKET_EXTENSIONS, DROP_guard_ip, { { AT_IPV6_UP + 1, 200 } } },
        { "one beyond what can be seen", PACKET_EXTENSIONS, DROP_guard_ip, { { AT_IPV6_UP + 1, 7 } } },
        { "mobility", PACKET_EXTENSIONS, DROP_none, { { AT_IPV6_NEXT, 135 } } },
        { "AH beyond the frame", PACKET_AH, DROP_guard_ip, { { AT_IPV6_UP + 1, 255 } } },
        { "a fragment's offset of 8", PACKET_LATER_FRAGMENT6, DROP_guard_ip,
          { { AT_IPV6_UP + 2, 0 }, { AT_IPV6_UP + 3, 9 } } },
        { "a fragment's offset of 120", PACKET_LATER_FRAGMENT6, DROP_guard_ip,
          { { AT_IPV6_UP + 2, 0 }, { AT_IPV6_UP + 3, 121 } } },
        { "a fragment's offset of 128", PACKET_LATER_FRAGMENT6, DROP_none,
          { { AT_IPV6_UP + 2, 0 }, { AT_IPV6_UP + 3, 129 } } },
        { "a fragment in a fragment", PACKET_FIRST_FRAGMENT6, DROP_guard_ip, { { AT_IPV6_UP, 44 } } },
        { "not the last later fragment", PACKET_LATER_FRAGMENT6, DROP_none, { { AT_IPV6_UP + 3, 0 } } },
    };
    struct packet p;

    CHECK_SPOILT(table);
    /* The packet ends before its UDP header, whatever follows in the frame. */
    packet_make(&p, PACKET_FIRST_FRAGMENT6);
    p.data[AT_IPV6_PAYLOAD + 1] = 8;
    expect("first fragment without upper layer", &p, p.len, DROP_guard_ip);
    p.data[AT_IPV6_PAYLOAD + 1] = 15;
    expect("first fragment with a part of it", &p, p.len, DROP_guard_ip);
    p.data[AT_IPV6_PAYLOAD + 1] = 16;
    expect("first fragment with all of it", &p, p.len, DROP_none);
    /* As many extension headers as can be seen, none behind which anything is. */
    packet_make(&p, PACKET_TCP6);
    memset(p.data + AT_IPV6_UP, 0, sizeof(p.data) - AT_IPV6_UP);
    p.data[AT_IPV6_NEXT] = 60;
    for (unsigned i = 0; i < 20; i++)
        p.data[AT_IPV6_UP + 8 * i] = 60;
    p.data[AT_IPV6_PAYLOAD + 1] = 160;
    expect("nothing but extension headers", &p, AT_IPV6_UP + 160, DROP_guard_ip);
    p.data[AT_IPV6_UP + 8 * 7] = 6;
    expect("eight of them", &p, AT_IPV6_UP + 160, DROP_none);
    p.data[AT_IPV6_UP + 8 * 7] = 60, p.data[AT_IPV6_UP + 8 * 8] = 6;
    expect("nine of them", &p, AT_IPV6_UP + 160, DROP_guard_ip);
}

TEST(neighbor_discovery)
{
    static const struct spoilt table[] = {
        { "another's target", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP + 8, 0x30 } } },
        { "another address of the prefix", PACKET_NA, DROP_none, { { AT_IPV6_UP + 8 + 15, 0x30 } } },
        { "another's link-layer address", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP + 24 + 15, 0x0b } } },
        { "its first byte", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP + 24 + 10, 4 } } },
        { "another's in the first option", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP + 24, 1 } } },
        { "an option of no length", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP + 24 + 1, 0 } } },
        { "an option beyond the packet", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP + 24 + 1, 3 } } },
        { "an option over the other", PACKET_NA, DROP_none, { { AT_IPV6_UP + 24 + 1, 2 } } },
        { "an address of 14 bytes", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP + 24, 2 }, { AT_IPV6_UP + 24 + 1, 2 } } },
        { "from afar", PACKET_NA, DROP_guard_nd, { { AT_IPV6_HOPS, 254 } } },
        { "a code", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP + 1, 1 } } },
        { "another's source address option", PACKET_NS, DROP_guard_nd, { { AT_IPV6_UP + 24 + 7, 0x0b } } },
        { "solicitation from afar", PACKET_NS, DROP_guard_nd, { { AT_IPV6_HOPS, 64 } } },
        { "anybody may be sought", PACKET_NS, DROP_none, { { AT_IPV6_UP + 8, 0x30 } } },
        { "another's option in a router solicitation", PACKET_RS, DROP_guard_nd, { { AT_IPV6_UP + 8 + 7, 0x0b } } },
        { "router solicitation from afar", PACKET_RS, DROP_guard_nd, { { AT_IPV6_HOPS, 1 } } },
        { "router advertisement", PACKET_RS, DROP_guard_nd, { { AT_IPV6_UP, 134 } } },
        { "router advertisement from afar", PACKET_RS, DROP_guard_nd, { { AT_IPV6_UP, 134 }, { AT_IPV6_HOPS, 64 } } },
        { "redirect", PACKET_NA, DROP_guard_nd, { { AT_IPV6_UP, 137 } } },
        { "duplicate address detection from afar", PACKET_DAD, DROP_guard_nd, { { AT_IPV6_HOPS, 254 } } },
        { "advertisement behind an extension header", PACKET_MLD2, DROP_guard_nd, { { AT_IPV6_UP + 8, 134 } } },
        { "in a fragment", PACKET_FIRST_FRAGMENT6, DROP_guard_nd, { { AT_IPV6_UP, 58 }, { AT_IPV6_UP + 8, 136 } } },
        { "solicitation in a fragment", PACKET_FIRST_FRAGMENT6, DROP_guard_nd,
          { { AT_IPV6_UP, 58 }, { AT_IPV6_UP + 8, 133 } } },
        { "ping in a fragment", PACKET_FIRST_FRAGMENT6, DROP_none, { { AT_IPV6_UP, 58 }, { AT_IPV6_UP + 8, 128 } } },
        { "behind AH", PACKET_AH, DROP_guard_nd, { { AT_IPV6_UP, 58 }, { AT_IPV6_UP + 24, 137 } } },
    };
    struct packet p;

    CHECK_SPOILT(table);
    /* With a source address option, from nobody. */
    packet_make(&p, PACKET_NS);
    memset(p.data + AT_IPV6_SOURCE, 0, 16);
    expect("nobody with an address", &p, p.len, DROP_guard_nd);
    /* An option that is too long for an address of Ethernet, and begins with the sender's. */
    packet_make(&p, PACKET_NA);
    p.data[AT_IPV6_UP + 24] = 2, p.data[AT_IPV6_UP + 25] = 2;
    memcpy(p.data + AT_IPV6_UP + 26, own_mac, 6);
    expect("an address of 14 bytes that begins like the sender's", &p, p.len, DROP_guard_nd);
    /* All right but for the fragment header before it, of a packet that is no fragment. */
    packet_make(&p, PACKET_NS);
    memmove(p.data + AT_IPV6_UP + 8, p.data + AT_IPV6_UP, 32);
    memcpy(p.data + AT_IPV6_UP, "\x3a\0\0\0\1\2\3\4", 8);
    p.data[AT_IPV6_NEXT] = 44, p.data[AT_IPV6_PAYLOAD + 1] = 40;
    expect("an atomic fragment", &p, p.len + 8, DROP_guard_nd);
    /* The packet's own length decides where options end. */
    packet_make(&p, PACKET_NA);
    p.data[AT_IPV6_PAYLOAD + 1] = 24;
    p.data[AT_IPV6_UP + 24 + 15] = 0x0b;
    expect("an option behind the packet", &p, p.len, DROP_none);
    p.data[AT_IPV6_PAYLOAD + 1] = 23;
    expect("a target behind the packet", &p, p.len, DROP_guard_nd);
    /* More options than can be seen. */
    packet_make(&p, PACKET_NA);
    memset(p.data + p.len, 0, 100);
    for (uint32_t at = p.len; at < p.len + 96; at += 8)
        p.data[at] = 14, p.data[at + 1] = 1;
    p.data[AT_IPV6_PAYLOAD + 1] = (uint8_t)(POLICY_VIEW - AT_IPV6_UP);
    expect("as many options as can be seen", &p, p.len + 96, DROP_guard_nd); /* of which the last is cut */
    p.data[AT_IPV6_PAYLOAD + 1] = 64;
    expect("whole options", &p, p.len + 96, DROP_none);
    p.data[AT_IPV6_PAYLOAD + 1] = 72;
    expect("more options than can be seen", &p, p.len + 96, DROP_guard_nd);
}

/* No pair: nothing passes. A prefix of no bits: everything of its family does. */
TEST(extreme_tables)
{
    static struct us_guard_pair pair[US_GUARD_PAIRS_MAX];
    const struct policy *none, *any, *many;
    struct packet p;

    REQUIRE(antispoof_create(NULL, 0, &none) == 0);
    for (unsigned kind = 0; kind < PACKET_KINDS; kind++) {
        packet_make(&p, kind);
        CHECK_EQ(judge(none, p.data, p.len), DROP_guard_mac);
    }
    pair[0] = (struct us_guard_pair){ .family = US_GUARD_IPV4 };
    memcpy(pair[0].mac, own_mac, 6);
    REQUIRE(antispoof_create(pair, 1, &any) == 0);
    packet_make(&p, PACKET_TCP);
    memset(p.data + AT_IPV4_SOURCE, 0xfe, 4);
    CHECK_EQ(judge(any, p.data, p.len), DROP_none);
    packet_make(&p, PACKET_TCP6);
    CHECK_EQ(judge(any, p.data, p.len), DROP_guard_ip);

    for (unsigned i = 0; i < US_GUARD_PAIRS_MAX; i++)
        pair[i] = (struct us_guard_pair){ .mac = { 2, 0, 0, 1, 0, (uint8_t)i }, .ip = { 10, 0, 0, (uint8_t)i },
                                          .family = i % 2 ? US_GUARD_IPV4 : US_GUARD_IPV6,
                                          .prefix_len = i % 2 ? 32 : 128 };
    REQUIRE(antispoof_create(pair, US_GUARD_PAIRS_MAX, &many) == 0);
    for (unsigned i = 0; i < US_GUARD_PAIRS_MAX; i++) {
        packet_make(&p, PACKET_TCP);
        memcpy(p.data + AT_SOURCE, pair[i].mac, 6);
        memcpy(p.data + AT_IPV4_SOURCE, pair[i].ip, 4);
        CHECK_EQ(judge(many, p.data, p.len), i % 2 ? DROP_none : DROP_guard_ip);
        packet_make(&p, PACKET_TCP6);
        memcpy(p.data + AT_SOURCE, pair[i].mac, 6);
        memcpy(p.data + AT_IPV6_SOURCE, pair[i].ip, 16);
        CHECK_EQ(judge(many, p.data, p.len), i % 2 ? DROP_guard_ip : DROP_none);
    }
    free((void *)(uintptr_t)none);
    free((void *)(uintptr_t)any);
    free((void *)(uintptr_t)many);
}

MAIN
{
    if (antispoof_create(own_pairs, OWN_PAIRS, &own) < 0)
        abort();
    RUN(honest_frames_pass);
    RUN(every_length);
    RUN(ethernet);
    RUN(arp);
    RUN(ipv4);
    RUN(dhcp_servers);
    RUN(ipv6);
    RUN(extension_headers);
    RUN(neighbor_discovery);
    RUN(extreme_tables);
    free((void *)(uintptr_t)own);
}
