/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * antispoof.c - see antispoof.h: Ethernet, ARP, IPv4, and what goes to DHCP
 * clients over it.  antispoof_create() belongs to the control thread, all else
 * to workers.
 */
#include "policy/antispoof.h"

#include <errno.h>
#include <stdlib.h>

#include "policy/antispoof_priv.h"

#define TYPE_IPV4 0x0800
#define TYPE_ARP 0x0806
#define TYPE_RARP 0x8035
#define TYPE_IPV6 0x86dd

/* ARP for IPv4 over Ethernet (RFC 826, and RFC 903 for RARP): offsets in the frame. */
#define ARP_FIXED ETH_HDR_LEN
#define ARP_OPERATION (ETH_HDR_LEN + 6)
#define ARP_SHA (ETH_HDR_LEN + 8)
#define ARP_SPA (ETH_HDR_LEN + 14)
#define ARP_END (ETH_HDR_LEN + 28)
#define ARP_REQUEST 1

/* IPv4 (RFC 791): offsets in the frame. */
#define IPV4_VERSION ETH_HDR_LEN
#define IPV4_TOTAL (ETH_HDR_LEN + 2)
#define IPV4_FRAGMENT (ETH_HDR_LEN + 6)
#define IPV4_PROTOCOL (ETH_HDR_LEN + 9)
#define IPV4_SOURCE (ETH_HDR_LEN + 12)
#define IPV4_LEN_MIN 20
#define IPV4_MORE 0x2000
#define IPV4_OFFSET_MASK 0x1fff

#define DHCP_SERVER 67
#define DHCP_CLIENT 68

/**
 * struct antispoof - the policy; one block of memory
 * @policy: what switch.c knows
 * @pairs: tables, in the memory behind this struct
 */
struct antispoof {
    struct policy policy;
    struct pairs pairs;
};

static uint32_t load_raw32(const uint8_t *p)
{
    uint32_t raw;

    memcpy(&raw, p, sizeof(raw));
    return raw;
}

/* The hardware sender is who sends; the protocol sender one of its addresses, or nobody in a probe (RFC 5227). */
static enum drop_reason judge_arp(const struct pairs *pairs, const struct frame *f, uint64_t mac, bool reverse)
{
    static const uint8_t ethernet_ipv4[] = { 0, 1, 0x08, 0x00, ETH_ALEN, 4 };
    const uint8_t *const hdr = f->hdr;
    const enum drop_reason why = reach(f, ARP_END, DROP_guard_arp);
    uint32_t spa;

    if (why != DROP_none)
        return why;
    if (memcmp(hdr + ARP_FIXED, ethernet_ipv4, sizeof(ethernet_ipv4)) != 0 || load_mac(hdr + ARP_SHA) != mac)
        return DROP_guard_arp;
    /* It asks for its address, and claims none. */
    if (reverse)
        return DROP_none;
    spa = load_raw32(hdr + ARP_SPA);
    if (pairs_have_ipv4(pairs, PAIRS_FROM_IPV4(mac), spa))
        return DROP_none;
    return spa == 0 && load_be16(hdr + ARP_OPERATION) == ARP_REQUEST ? DROP_none : DROP_guard_arp;
}

/* A header that is all there; *len: its length. */
static enum drop_reason check_ipv4(const struct frame *f, uint32_t *len)
{
    const enum drop_reason why = reach(f, ETH_HDR_LEN + IPV4_LEN_MIN, DROP_guard_ip);

    if (why != DROP_none)
        return why;
    *len = 4 * (f->hdr[IPV4_VERSION] & 0xfu);
    if (f->hdr[IPV4_VERSION] >> 4 != 4 || *len < IPV4_LEN_MIN)
        return DROP_guard_ip;
    return reach(f, ETH_HDR_LEN + *len, DROP_guard_ip);
}

/*
 * UDP in a packet or in its first fragment, whose source address is covered, or 0.0.0.0.  A fragment's ports must be in
 * it as its own length has it: what comes behind is not what a receiver puts together.
 */
static enum drop_reason judge_udp(const struct frame *f, uint32_t len, bool covered)
{
    const enum drop_reason why = reach(f, ETH_HDR_LEN + len + PORTS_LEN, DROP_guard_ip);
    const bool more = load_be16(f->hdr + IPV4_FRAGMENT) & IPV4_MORE;
    uint16_t from, to;

    if (why != DROP_none)
        return why;
    if (more && load_be16(f->hdr + IPV4_TOTAL) < len + UDP_LEN)
        return DROP_guard_ip;
    from = load_be16(f->hdr + ETH_HDR_LEN + len);
    to = load_be16(f->hdr + ETH_HDR_LEN + len + TO_PORT);
    if (!covered)
        return from == DHCP_CLIENT && to == DHCP_SERVER ? DROP_none : DROP_guard_ip;
    /* Clients take an answer from any port. */
    return to == DHCP_CLIENT ? DROP_guard_dhcp : DROP_none;
}

static enum drop_reason judge_ipv4(const struct pairs *pairs, const struct frame *f, uint64_t mac)
{
    const uint8_t *const hdr = f->hdr;
    uint32_t len, source;
    enum drop_reason why = check_ipv4(f, &len);
    bool covered;

    if (why != DROP_none)
        return why;
    source = load_raw32(hdr + IPV4_SOURCE);
    covered = pairs_have_ipv4(pairs, PAIRS_FROM_IPV4(mac), source);
    if (!covered && source != 0)
        return DROP_guard_ip;
    /* Later fragments have no ports; they cannot reach those of the first one, since they count in eights. */
    if (hdr[IPV4_PROTOCOL] != PROTOCOL_UDP || (load_be16(hdr + IPV4_FRAGMENT) & IPV4_OFFSET_MASK))
        return covered ? DROP_none : DROP_guard_ip;
    return judge_udp(f, len, covered);
}

/*
 * What nearly every frame is: IPv4 without options, no fragment, from an address of the port, and not to a DHCP client.
 * False: anything else, for the rules above.
 */
static inline bool is_plain(const struct pairs *pairs, const struct frame *f)
{
    /* Of the header's first eight bytes: version and length, and all that a fragment has. */
    static const union { uint8_t byte[8]; uint64_t word; } mask = { { 0xff, 0, 0, 0, 0, 0, 0x3f, 0xff } },
                                                           plain = { { 0x45 } };
    const uint8_t *const hdr = f->hdr;
    uint64_t from, first;

    if (f->hdr_len < ETH_HDR_LEN + IPV4_LEN_MIN + PORTS_LEN)
        return false;
    memcpy(&from, hdr + ETH_ALEN, sizeof(from));
    memcpy(&first, hdr + IPV4_VERSION, sizeof(first));
    if ((first & mask.word) != plain.word)
        return false;
    if (hdr[IPV4_PROTOCOL] == PROTOCOL_UDP && load_be16(hdr + ETH_HDR_LEN + IPV4_LEN_MIN + TO_PORT) == DHCP_CLIENT)
        return false;
    return pairs_have_ipv4(pairs, le64toh(from), load_raw32(hdr + IPV4_SOURCE));
}

static __attribute__((noinline)) enum drop_reason judge(const struct pairs *pairs, const struct frame *f)
{
    const uint64_t mac = load_mac(f->hdr + ETH_ALEN);

    if (!pairs_have_mac(pairs, mac))
        return DROP_guard_mac;
    switch (load_be16(f->hdr + 2 * ETH_ALEN)) {
    case TYPE_IPV4: return judge_ipv4(pairs, f, mac);
    case TYPE_IPV6: return antispoof_ipv6(pairs, f, mac);
    case TYPE_ARP: return judge_arp(pairs, f, mac, false);
    case TYPE_RARP: return judge_arp(pairs, f, mac, true);
    default: return DROP_guard_type;
    }
}

static enum drop_reason antispoof_verdict(const struct policy *policy, const struct frame *f)
{
    const struct pairs *const pairs = &((const struct antispoof *)policy)->pairs;

    return __builtin_expect(is_plain(pairs, f), 1) ? DROP_none : judge(pairs, f);
}

static bool antispoof_knows(const struct policy *policy, uint64_t mac)
{
    return pairs_have_mac(&((const struct antispoof *)policy)->pairs, mac);
}

int antispoof_create(const struct us_guard_pair *pair, uint32_t n, const struct policy **out)
{
    const int rc = pairs_check(pair, n);
    struct antispoof *a;

    if (rc < 0)
        return rc;
    a = malloc(sizeof(*a) + pairs_bytes(n));
    if (!a)
        return -ENOMEM;
    a->policy = (struct policy){ .verdict = antispoof_verdict, .knows = antispoof_knows };
    pairs_fill(&a->pairs, a + 1, pair, n);
    *out = &a->policy;
    return 0;
}
