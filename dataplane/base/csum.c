/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * csum.c - see csum.h.  Any thread.
 */
#include "csum.h"

#include <string.h>

/*
 * 32-bit words into 64-bit lanes: carries cannot be lost below 2^32 words, so
 * there is nothing to do about them inside the loop, and the compiler makes
 * vector code of it.
 */
static uint64_t sum_words(const uint8_t *at, size_t words)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < words; i++) {
        uint32_t word;

        memcpy(&word, at + 4 * i, sizeof(word));
        sum += word;
    }
    return sum;
}

uint64_t csum_add(uint64_t sum, const void *data, size_t len)
{
    const uint8_t *at = data;
    uint32_t last = 0;
    uint64_t more;

    more = sum_words(at, len / 4);
    memcpy(&last, at + len / 4 * 4, len % 4);
    more += last;
    sum += more;
    return sum + (sum < more);  /* end-around carry: 2^64 is 1 */
}
