/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * csum.h - the Internet checksum (RFC 1071).
 *
 * Sums are kept unfolded, in 64 bits, in the byte order of memory: one's
 * complement addition does not care, so no word is ever swapped.  Private
 * memory only: summed bytes must be the bytes that are delivered.
 */
#ifndef USWITCH_CSUM_H
#define USWITCH_CSUM_H

#include <stddef.h>
#include <stdint.h>

/**
 * csum_add() - add bytes to a sum
 * @sum: so far; 0 to begin
 * @data: private memory; its first byte must have an even offset in what is summed
 * @len: bytes, at most 2^31; an odd last byte is padded with zero, so only the last piece may be odd
 *
 * Return: the sum, for csum_add() or csum_fold().
 */
uint64_t csum_add(uint64_t sum, const void *data, size_t len);

/* The sum in 16 bits, in the byte order of memory, not complemented. */
static inline uint16_t csum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

#endif /* USWITCH_CSUM_H */
