/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The dirty log: dirty_log_mark() for any address and length, on a log of any
 * size up to PAGES.
 *
 * Proven:
 *   - no byte outside of the log is touched;
 *   - a page that has a bit is marked exactly if a byte written lies in it, and
 *     no bit is ever taken away, also where the range would wrap.
 *
 * Assumed: what dirty_log_create() makes: pages is eight times the log's bytes.
 * Bound: PAGES, and with it the length of the loop; addresses and lengths are
 * any 64-bit numbers.
 *
 * CBMC: -DPAGES=16 --unwind 17 --unwinding-assertions
 * DEEP: -DPAGES=64 --unwind 65 --unwinding-assertions
 *
 * BUG last_page_past_the_log vhost/dirty_log.h
 *   - last = log->pages - 1;
 *   + last = log->pages;
 *   ! an index was compared with its bound
 * BUG last_byte_forgotten vhost/dirty_log.h
 *   - UINT64_MAX - gpa : len - 1;
 *   + UINT64_MAX - gpa : len - 2;
 *   ! a page is marked
 */
#include "proof.h"

#include "vhost/dirty_log.h"

int main(void)
{
    static uint8_t bits[PAGES / 8], before[PAGES / 8];
    const uint64_t gpa = nondet_u64(), len = nondet_u64(), page = nondet_u64();
    const uint64_t first_of_page = page << DIRTY_PAGE_SHIFT;
    struct dirty_log log = { .bits = bits };
    bool was, is, written;

    for (unsigned i = 0; i < PAGES / 8; i++)
        before[i] = bits[i] = nondet_u8();
    log.pages = (uint64_t)8 * (1 + nondet_u8() % (PAGES / 8));
    ASSUME(page < log.pages);
    dirty_log_mark(&log, gpa, len);
    was = before[page / 8] >> page % 8 & 1;
    is = bits[page / 8] >> page % 8 & 1;
    /* Does [gpa, gpa + len) meet the page?  Without the end, which may not be a number. */
    written = len != 0 && (gpa >= first_of_page ? gpa - first_of_page < 1 << DIRTY_PAGE_SHIFT
                                                : first_of_page - gpa < len);
    CLAIM(is == (was || written), "a page is marked exactly if it was written");
    return 0;
}
