/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * antispoof_ipv6.c - the rules of antispoof.h for IPv6: whose packet it is,
 * what it carries behind its extension headers, and what it claims by
 * neighbor discovery (RFC 4861).  Worker thread.
 *
 * The upper layer must be seen in every packet and in every first fragment
 * (RFC 7112); a later fragment that could replace what was judged (RFC 5722)
 * is dropped.  Neighbor discovery is never fragmented (RFC 6980).
 */
#include "policy/antispoof_priv.h"

/* Offsets in the frame. */
#define IPV6 ETH_HDR_LEN
#define IPV6_PAYLOAD (IPV6 + 4)
#define IPV6_NEXT (IPV6 + 6)
#define IPV6_HOPS (IPV6 + 7)
#define IPV6_SOURCE (IPV6 + 8)
#define IPV6_DESTINATION (IPV6 + 24)
#define IPV6_END (IPV6 + 40)
#define IPV6_LEN 16

/* Next headers. */
#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AH 51
#define NEXT_ICMPV6 58
#define NEXT_DESTINATION 60
#define NEXT_MOBILITY 135
#define NEXT_HIP 139
#define NEXT_SHIM6 140

#define EXTENSION_MIN 8
/* So many of the shortest fill the view. */
#define EXTENSIONS_MAX ((POLICY_VIEW - IPV6_END) / EXTENSION_MIN)
#define FRAGMENT_OFFSET 0xfff8  /* in bytes */

#define DHCPV6_CLIENT 546

/* ICMPv6: type, code, checksum; types. */
#define ICMPV6_LEN 4
#define MLD_REPORT 131
#define ROUTER_SOLICITATION 133
#define ROUTER_ADVERTISEMENT 134
#define NEIGHBOR_SOLICITATION 135
#define NEIGHBOR_ADVERTISEMENT 136
#define REDIRECT 137
#define MLD2_REPORT 143

#define ND_HOPS 255
#define ND_TARGET 8             /* in the message */
#define OPTION_SOURCE 1
#define OPTION_TARGET 2
#define OPTION_UNIT 8

/* Byte behind the packet as its own length has it: what follows is padding. */
static uint32_t packet_end(const struct frame *f)
{
    return IPV6_END + load_be16(f->hdr + IPV6_PAYLOAD);
}

/* reach(), and inside the packet. */
static enum drop_reason reach_inside(const struct frame *f, uint32_t end, enum drop_reason why_not)
{
    return end <= packet_end(f) ? reach(f, end, why_not) : why_not;
}

/**
 * struct upper - what a packet carries
 * @protocol: next header value
 * @at: where it begins in the frame
 * @fragmented: behind a fragment header
 * @later: not the beginning: @protocol and @at mean nothing
 */
struct upper {
    uint8_t protocol;
    uint32_t at;
    bool fragmented;
    bool later;
};

static bool is_extension(uint8_t next)
{
    switch (next) {
    case NEXT_HOP_BY_HOP:
    case NEXT_ROUTING:
    case NEXT_FRAGMENT:
    case NEXT_AH:
    case NEXT_DESTINATION:
    case NEXT_MOBILITY:
    case NEXT_HIP:
    case NEXT_SHIM6:
        return true;
    default:
        return false;
    }
}

/* RFC 8200, 4.5; false: it could change what was judged, or is one inside another. */
static bool take_fragment(const uint8_t *ext, struct upper *up)
{
    const uint16_t offset = load_be16(ext + 2) & FRAGMENT_OFFSET;

    if (up->fragmented || (offset != 0 && offset < POLICY_VIEW))
        return false;
    up->fragmented = true;
    up->later = offset != 0;
    return true;
}

/* Goes along the extension headers to what they carry. */
static enum drop_reason find_upper(const struct frame *f, struct upper *up)
{
    *up = (struct upper){ .protocol = f->hdr[IPV6_NEXT], .at = IPV6_END };
    for (unsigned i = 0; i <= EXTENSIONS_MAX && !up->later; i++) {
        const uint8_t kind = up->protocol;
        enum drop_reason why;
        const uint8_t *ext;

        if (!is_extension(kind))
            return DROP_none;
        why = reach_inside(f, up->at + EXTENSION_MIN, DROP_guard_ip);
        if (why != DROP_none)
            return why;
        ext = f->hdr + up->at;
        if (kind == NEXT_FRAGMENT && !take_fragment(ext, up))
            return DROP_guard_ip;
        up->protocol = ext[0];
        if (kind == NEXT_FRAGMENT)
            up->at += EXTENSION_MIN;
        else if (kind == NEXT_AH)
            up->at += 4 * (ext[1] + 2u);
        else
            up->at += 8 * (ext[1] + 1u);
    }
    return up->later ? DROP_none : DROP_guard_ip;
}

static bool is_multicast(const uint8_t *ip)
{
    return ip[0] == 0xff;
}

/* Options that name a link-layer address name the sender's. */
static bool options_are_own(const uint8_t *option, const uint8_t *end, uint64_t mac)
{
    while (option < end) {
        const uint32_t len = option + 1 < end ? OPTION_UNIT * option[1] : 0;

        if (len == 0 || len > (size_t)(end - option))
            return false;
        if (option[0] == OPTION_SOURCE || option[0] == OPTION_TARGET) {
            uint64_t named = 0;

            memcpy(&named, option + 2, ETH_ALEN);
            if (len != OPTION_UNIT || le64toh(named) != mac)
                return false;
        }
        option += len;
    }
    return true;
}

static bool has_option(const uint8_t *option, const uint8_t *end, uint8_t kind)
{
    for (; option < end; option += OPTION_UNIT * option[1]) {
        if (option[0] == kind)
            return true;
    }
    return false;
}

/* Solicitations and neighbor advertisements, whole. */
static enum drop_reason judge_nd(const struct pairs *pairs, const struct frame *f, uint64_t mac, uint32_t at,
                                 bool unspecified)
{
    const uint8_t type = f->hdr[at];
    const uint32_t fixed = type == ROUTER_SOLICITATION ? ND_TARGET : ND_TARGET + IPV6_LEN, end = packet_end(f);
    const enum drop_reason why = at + fixed <= end ? reach(f, end, DROP_guard_nd) : DROP_guard_nd;
    const uint8_t *message, *options;
    uint64_t target[2];

    if (why != DROP_none)
        return why;
    message = f->hdr + at;
    options = message + fixed;
    if (f->hdr[IPV6_HOPS] != ND_HOPS || message[1] != 0 || !options_are_own(options, f->hdr + end, mac))
        return DROP_guard_nd;
    if (unspecified && has_option(options, f->hdr + end, OPTION_SOURCE))
        return DROP_guard_nd;
    if (type != NEIGHBOR_ADVERTISEMENT)
        return DROP_none;
    memcpy(target, message + ND_TARGET, sizeof(target));
    return pairs_have_ipv6(pairs, mac, target) ? DROP_none : DROP_guard_nd;
}

/* Nobody in particular may look for duplicates of its address-to-be, and report group membership (RFC 3590). */
static bool may_be_unspecified(uint8_t type)
{
    return type == NEIGHBOR_SOLICITATION || type == MLD_REPORT || type == MLD2_REPORT;
}

static enum drop_reason judge_icmpv6(const struct pairs *pairs, const struct frame *f, uint64_t mac,
                                     const struct upper *up, bool unspecified)
{
    const enum drop_reason why = reach_inside(f, up->at + ICMPV6_LEN, DROP_guard_nd);
    uint8_t type;

    if (why != DROP_none)
        return why;
    type = f->hdr[up->at];
    if (unspecified && !(may_be_unspecified(type) && is_multicast(f->hdr + IPV6_DESTINATION)))
        return DROP_guard_ip;
    switch (type) {
    case ROUTER_ADVERTISEMENT:
    case REDIRECT:
        return DROP_guard_nd;
    case ROUTER_SOLICITATION:
    case NEIGHBOR_SOLICITATION:
    case NEIGHBOR_ADVERTISEMENT:
        return up->fragmented ? DROP_guard_nd : judge_nd(pairs, f, mac, up->at, unspecified);
    default:
        return DROP_none;
    }
}

static enum drop_reason judge_udp(const struct frame *f, uint32_t at)
{
    const enum drop_reason why = reach_inside(f, at + UDP_LEN, DROP_guard_ip);

    if (why != DROP_none)
        return why;
    /* Whatever port it comes from, a client takes it for an answer. */
    return load_be16(f->hdr + at + TO_PORT) == DHCPV6_CLIENT ? DROP_guard_dhcp : DROP_none;
}

enum drop_reason antispoof_ipv6(const struct pairs *pairs, const struct frame *f, uint64_t mac)
{
    enum drop_reason why = reach(f, IPV6_END, DROP_guard_ip);
    uint64_t source[2];
    struct upper up;
    bool unspecified;

    if (why != DROP_none)
        return why;
    memcpy(source, f->hdr + IPV6_SOURCE, sizeof(source));
    unspecified = !pairs_have_ipv6(pairs, mac, source);
    if (f->hdr[IPV6] >> 4 != 6 || (unspecified && (source[0] | source[1]) != 0))
        return DROP_guard_ip;
    why = find_upper(f, &up);
    if (why != DROP_none)
        return why;
    if (!up.later && up.protocol == NEXT_ICMPV6)
        return judge_icmpv6(pairs, f, mac, &up, unspecified);
    if (unspecified)
        return DROP_guard_ip;
    return up.later || up.protocol != PROTOCOL_UDP ? DROP_none : judge_udp(f, up.at);
}
