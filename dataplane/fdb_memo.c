/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fdb_memo.c - the slow halves of fdb_memo.h: a guess was missing or wrong.
 * Worker thread.
 */
#include "fdb_memo.h"

#include <assert.h>

static_assert(FDB_WAYS <= 8, "a way takes three bits of a guess");
static_assert(FDB_BUCKETS_MAX <= 1u << (FDB_MEMO_PLACE - 3), "and a bucket twenty");

/* Leaves a guess where fdb_seek() will look, if the key is in the table. */
static void remember(const struct fdb *fdb, struct fdb_memo *m, const struct fdb_seek *s)
{
    const uint32_t candidate[2] = { fdb_first(fdb, s->hash), fdb_second(fdb, s->hash) };
    const uint64_t mix = fdb_memo_mix(s->key);

    for (unsigned i = 0; i < 2; i++) {
        const int way = fdb_slot(&fdb->bucket[candidate[i]], s->key);

        if (way >= 0) {
            m->guess[fdb_memo_index(mix)] = fdb_memo_tag(mix) | candidate[i] << 3 | (uint32_t)way;
            return;
        }
    }
}

void fdb_seek_missed(const struct fdb *fdb, struct fdb_memo *m, struct fdb_seek *s)
{
    if (s->place != FDB_NOWHERE)
        s->hash = fdb_hash(fdb, s->key);
    s->place = FDB_NOWHERE;
    remember(fdb, m, s);
}
