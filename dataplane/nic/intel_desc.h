/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_desc.h - advanced descriptors of Intel's igb and ixgbe adapters, as
 * two little-endian words of 64 bits.
 *
 * Sections: "82576" is the Intel 82576EB Gigabit Ethernet Controller
 * datasheet, "82599" the Intel 82599 10 GbE Controller datasheet.  The two
 * agree but for the places of the receive errors, see struct intel_kind of
 * intel_ring.h.
 *
 * Descriptors lie in memory that the device can rewrite at any time: the word
 * that says whether one is done is loaded once, and the value is used.
 */
#ifndef USWITCH_NIC_INTEL_DESC_H
#define USWITCH_NIC_INTEL_DESC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/guest.h"
#include "base/le.h"

/**
 * struct intel_desc - a descriptor of either direction
 * @addr: read format: address of the buffer; written back by the device, to be ignored
 * @word: receive, read format: 0 (no header buffer, DD clear); everything else below
 */
struct intel_desc {
    le64 addr;
    le64 word;
};
_Static_assert(sizeof(struct intel_desc) == 16, "82576 7.1.5, 82599 7.1.6");

/* ---- received: 82576 7.1.5.2, 82599 7.1.6.2 ---- */

#define INTEL_RX_DD (1u << 0)           /* the device is done with the descriptor */
#define INTEL_RX_EOP (1u << 1)          /* the last one of its frame */
#define INTEL_RX_UDPCS (1u << 4)        /* 82576: a UDP checksum was looked at */
#define INTEL_RX_L4CS (1u << 5)         /* a TCP or UDP checksum was looked at */
#define INTEL_RX_IPCS (1u << 6)         /* an IPv4 header checksum was looked at */
/* 82599: in a descriptor without EOP, where the frame goes on if it was coalesced. */
#define INTEL_RX_NEXTP(word) ((uint32_t)(word) >> 4 & 0xffff)

/* Status and errors: bits 31:0 of the word. */
static inline uint32_t intel_rx_status(uint64_t word)
{
    return (uint32_t)word;
}

/* Bytes the device says it has written. */
static inline uint32_t intel_rx_claimed_len(uint64_t word)
{
    return (uint32_t)(word >> 32) & 0xffff;
}

/* Number of frames coalesced, 82599 only; from the other word. */
static inline uint32_t intel_rx_claimed_joined(uint64_t addr)
{
    return (uint32_t)(addr >> 17) & 0xf;
}

/* ---- to be sent ---- */

/* Data: 82576 7.2.2.3, 82599 7.2.3.2.4.  Length of the buffer: bits 15:0. */
#define INTEL_TX_DATA (3ull << 20)      /* DTYP */
#define INTEL_TX_CONTEXT (2ull << 20)
#define INTEL_TX_EOP (1ull << 24)
#define INTEL_TX_IFCS (1ull << 25)      /* the device adds the FCS */
#define INTEL_TX_RS (1ull << 27)        /* report: DD is written back */
#define INTEL_TX_DEXT (1ull << 29)      /* an advanced descriptor */
#define INTEL_TX_TSE (1ull << 31)
#define INTEL_TX_DD (1ull << 32)        /* written back: sent */
#define INTEL_TX_IXSM (1ull << 40)      /* insert an IPv4 header checksum */
#define INTEL_TX_TXSM (1ull << 41)      /* insert a TCP or UDP checksum */
#define INTEL_TX_PAYLEN(n) ((uint64_t)(n) << 46) /* bytes of the frame; with TSE: behind its headers */

/* Context: 82576 7.2.2.2, 82599 7.2.3.2.3.  The first word. */
#define INTEL_CTX_IPLEN(n) ((uint64_t)(n))
#define INTEL_CTX_IPLEN_MAX 0x1ffu
#define INTEL_CTX_MACLEN(n) ((uint64_t)(n) << 9)
#define INTEL_CTX_MACLEN_MAX 0x7fu
/* The second one. */
#define INTEL_CTX_IPV4 (1ull << 10)
#define INTEL_CTX_UDP (0ull << 11)
#define INTEL_CTX_TCP (1ull << 11)
#define INTEL_CTX_L4LEN(n) ((uint64_t)(n) << 40)
#define INTEL_CTX_MSS(n) ((uint64_t)(n) << 48)

/* ---- ring memory ---- */

/*
 * The word that says whether a descriptor is done; what the device wrote before it is visible afterwards.
 * PCI Express keeps the order of a device's writes (2.4.1).
 */
static inline uint64_t intel_desc_load(const struct intel_desc *d)
{
    return guest_load64_acquire(&d->word);
}

/* Give a descriptor to the device; it looks at it once the tail has moved on, see bar_write32(). */
static inline void intel_desc_store(struct intel_desc *d, uint64_t addr, uint64_t word)
{
    __atomic_store_n(&d->addr.raw, cpu_to_le64(addr).raw, __ATOMIC_RELAXED);
    __atomic_store_n(&d->word.raw, cpu_to_le64(word).raw, __ATOMIC_RELAXED);
}

#endif /* USWITCH_NIC_INTEL_DESC_H */
