/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * pairs.c - makes the tables of pairs.h out of what the control plane said.
 * Control thread.
 */
#include "policy/pairs.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define MAC_LEN 6
#define IP_LEN 16

static uint64_t mac_of(const struct us_guard_pair *pair)
{
    uint64_t mac = 0;

    memcpy(&mac, pair->mac, MAC_LEN);
    return le64toh(mac);
}

/* A prefix as a mask, as it lies in memory. */
static void mask_of(uint8_t mask[IP_LEN], uint32_t prefix_len)
{
    memset(mask, 0, IP_LEN);
    for (uint32_t bit = 0; bit < prefix_len; bit++)
        mask[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
}

/* Longest prefix of a family, or -1 if there is none of that name. */
static int bits_of(uint8_t family)
{
    switch (family) {
    case US_GUARD_MAC: return 0;
    case US_GUARD_IPV4: return 32;
    case US_GUARD_IPV6: return 128;
    default: return -1;
    }
}

static int check_pair(const struct us_guard_pair *pair)
{
    const uint64_t mac = mac_of(pair);
    uint8_t mask[IP_LEN];

    if (mac == 0 || (pair->mac[0] & 1))
        return -EINVAL;
    if (pair->prefix_len > bits_of(pair->family))
        return -EINVAL;
    mask_of(mask, pair->prefix_len);
    for (unsigned i = 0; i < IP_LEN; i++) {
        if (pair->ip[i] & ~mask[i])
            return -EINVAL;
    }
    return 0;
}

int pairs_check(const struct us_guard_pair *pair, uint32_t n)
{
    int rc = 0;

    if (n > US_GUARD_PAIRS_MAX)
        return -E2BIG;
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = check_pair(&pair[i]);
    return rc;
}

size_t pairs_bytes(uint32_t n)
{
    return n * (sizeof(struct pair_ipv4) + sizeof(struct pair_ipv6) + sizeof(uint64_t));
}

void pairs_fill(struct pairs *out, void *memory, const struct us_guard_pair *pair, uint32_t n)
{
    struct pair_ipv4 *const ipv4 = memory;
    struct pair_ipv6 *const ipv6 = (void *)(ipv4 + n);
    uint64_t *const mac = (void *)(ipv6 + n);

    *out = (struct pairs){ .mac = mac, .ipv4 = ipv4, .ipv6 = ipv6 };
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t owner = mac_of(&pair[i]);
        uint8_t mask[IP_LEN];

        mask_of(mask, pair[i].prefix_len);
        if (!pairs_have_mac(out, owner))
            mac[out->n_mac++] = owner;
        if (pair[i].family == US_GUARD_IPV4) {
            struct pair_ipv4 *const row = &ipv4[out->n_ipv4++];

            row->from = PAIRS_FROM_IPV4(owner);
            memcpy(&row->net, pair[i].ip, sizeof(row->net));
            memcpy(&row->mask, mask, sizeof(row->mask));
        } else if (pair[i].family == US_GUARD_IPV6) {
            struct pair_ipv6 *const row = &ipv6[out->n_ipv6++];

            row->mac = owner;
            memcpy(row->net, pair[i].ip, sizeof(row->net));
            memcpy(row->mask, mask, sizeof(row->mask));
        }
    }
}
