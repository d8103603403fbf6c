/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_math.h - what adapters do with the bytes of a frame, for models of
 * them: parse it, check and insert checksums, hash it, cut it.  Plain and
 * slow on purpose, and independent of the product's code.
 */
#ifndef USWITCH_TESTS_NIC_MATH_H
#define USWITCH_TESTS_NIC_MATH_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct nic_packet - where things are in a frame
 * @l3: offset of the IP header; 0: not IP
 * @l4: offset of the TCP or UDP header; 0: neither, or a fragment
 * @end: where the IP packet ends; the rest is padding
 * @payload: offset behind the TCP or UDP header, <= end
 * @ip6: IPv6; else IPv4
 * @udp: UDP; else TCP
 */
struct nic_packet {
    uint32_t l3;
    uint32_t l4;
    uint32_t end;
    uint32_t payload;
    bool ip6;
    bool udp;
};

/* Looks past one 802.1Q tag, at IPv4 with options and IPv6 without extension headers. */
void nic_packet_parse(const uint8_t *frame, uint32_t len, struct nic_packet *out);

/* One's complement sum of big-endian words, not complemented. */
uint16_t nic_sum(const uint8_t *data, uint32_t len, uint32_t start);
/* Sum of the pseudo header of a packet with @l4_len bytes of TCP or UDP. */
uint16_t nic_pseudo_sum(const uint8_t *frame, const struct nic_packet *p, uint32_t l4_len);
bool nic_ip_csum_is_right(const uint8_t *frame, const struct nic_packet *p);
bool nic_l4_csum_is_right(const uint8_t *frame, const struct nic_packet *p);
/* Write both checksums as they should be. */
void nic_csum_fill(uint8_t *frame, const struct nic_packet *p);

/* Toeplitz hash (82599 7.1.2.8.1) with a key of 40 bytes. */
uint32_t nic_toeplitz(const uint8_t *key, const uint8_t *input, uint32_t len);
/* The hash of a packet by addresses, and ports if it has some; 0 if it is not IP. */
uint32_t nic_rss_hash(const uint8_t *key, const uint8_t *frame, const struct nic_packet *p);

static inline uint16_t nic_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t nic_get32(const uint8_t *p)
{
    return (uint32_t)nic_get16(p) << 16 | nic_get16(p + 2);
}

static inline void nic_put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void nic_put32(uint8_t *p, uint32_t v)
{
    nic_put16(p, v >> 16);
    nic_put16(p + 2, v & 0xffff);
}

#endif /* USWITCH_TESTS_NIC_MATH_H */
