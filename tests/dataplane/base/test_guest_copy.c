/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * guest_copy() of every length from nothing to beyond a few blocks, at every
 * alignment of source and destination: exactly these bytes, and none beside.
 */
#include "base/guest.h"

#include <stdlib.h>

#include "harness.h"

#define MOST 9300
#define ROOM (MOST + 256)
#define CANARY 0xa5

static uint8_t from[ROOM], to[ROOM];

static void fill(void)
{
    for (size_t i = 0; i < ROOM; i++)
        from[i] = (uint8_t)(i * 31 + i / 251);
    memset(to, CANARY, ROOM);
}

static bool all_canary(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (at[i] != CANARY)
            return false;
    }
    return true;
}

/* One copy, and the destination as it was afterwards. */
static bool copies(size_t to_off, size_t from_off, size_t len)
{
    bool right;

    guest_copy(to + to_off, from + from_off, len);
    right = memcmp(to + to_off, from + from_off, len) == 0 && all_canary(to, to_off) &&
            all_canary(to + to_off + len, ROOM - to_off - len);
    memset(to + to_off, CANARY, len);
    return right;
}

TEST(every_length)
{
    fill();
    for (size_t len = 0; len <= GUEST_COPY_LONG + 300; len++) {
        CHECK(copies(64, 64, len));
        CHECK(copies(65 + len % 31, 64 + len % 13, len));
    }
}

TEST(every_alignment)
{
    static const size_t lens[] = { 0, 1, 63, 64, 65, GUEST_COPY_LONG - 1, GUEST_COPY_LONG, GUEST_COPY_LONG + 1,
                                   4084, 4096, MOST };

    fill();
    for (unsigned k = 0; k < sizeof(lens) / sizeof(lens[0]); k++) {
        for (size_t a = 0; a < 64; a++)
            CHECK(copies(64 + a, 64 + (a * 7 + k) % 64, lens[k]));
    }
}

/* Where a buffer ends, so does the memory: the sanitizer sees a byte too many. */
TEST(to_the_last_byte)
{
    for (size_t len = GUEST_COPY_LONG; len < GUEST_COPY_LONG + 200; len++) {
        uint8_t *const a = malloc(len), *const b = malloc(len);

        REQUIRE(a && b);
        memset(a, (int)len, len);
        guest_copy(b, a, len);
        CHECK_EQ(memcmp(a, b, len), 0);
        free(a);
        free(b);
    }
}

MAIN
{
    RUN(every_length);
    RUN(every_alignment);
    RUN(to_the_last_byte);
}
