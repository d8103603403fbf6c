/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_dma.c - the pool: pieces, alignment, its end, its reuse.
 */
#include "harness.h"

#include <errno.h>

#include "nic/dma.h"

TEST(pieces)
{
    struct dma_pool p;
    uint8_t *a, *b;
    size_t n = 0;

    REQUIRE(dma_pool_create(&p, 10000) == 0);
    CHECK(p.size >= 10000 && p.size % 4096 == 0);
    p.iova = 0x200000;
    a = dma_alloc(&p, 100, 128);
    b = dma_alloc(&p, 64, 4096);
    REQUIRE(a && b);
    CHECK_EQ(dma_iova(&p, a), 0x200000);
    CHECK_EQ(dma_iova(&p, b), 0x201000);
    CHECK(!dma_alloc(&p, p.size, 1));
    CHECK(!dma_alloc(&p, SIZE_MAX, 1));
    CHECK(!dma_alloc(&p, 1, 3));
    CHECK(!dma_alloc(&p, 1, 8192));
    CHECK(!dma_alloc(&p, 1, 0));
    while (dma_alloc(&p, 64, 64))
        n++;
    CHECK_EQ(n, (p.size - 4096 - 64) / 64);
    memset(p.base, 0xaa, p.size);
    dma_reset(&p);
    a = dma_alloc(&p, p.size, 1);
    REQUIRE(a == p.base);
    for (n = 0; n < p.size; n++)
        CHECK(a[n] == 0);
    dma_pool_destroy(&p);
    CHECK(!p.base);
    dma_pool_destroy(&p);
}

TEST(impossible)
{
    struct dma_pool p;

    CHECK_EQ(dma_pool_create(&p, 0), -ENOMEM);
    CHECK_EQ(dma_pool_create(&p, SIZE_MAX), -ENOMEM);
    CHECK_EQ(dma_pool_create(&p, (size_t)1 << 60), -ENOMEM);
    dma_pool_destroy(&p);
}

MAIN
{
    RUN(pieces);
    RUN(impossible);
}
