/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_segment.c - tag tables: what is accepted, what they answer; member
 * lists: who is in them after any sequence of changes.
 */
#include <errno.h>

#include "fake_port.h"
#include "harness.h"
#include "segment.h"

#define N_PORTS 6

TEST(rows_are_checked)
{
    static const struct { struct us_tag_row row[2]; uint32_t n; int rc; } cases[] = {
        { { { 1, 1 } }, 1, 0 },
        { { { 4094, 4095 } }, 1, 0 },
        { { { US_VID_UNTAGGED, 1 } }, 1, 0 },
        { { { US_VID_UNTAGGED, 1 }, { 7, 2 } }, 2, 0 },
        { { { 0, 1 } }, 1, -EINVAL },
        { { { 4095, 1 } }, 1, -EINVAL },
        { { { 4097, 1 } }, 1, -EINVAL },
        { { { 65535, 1 } }, 1, -EINVAL },
        { { { 1, 0 } }, 1, -EINVAL },
        { { { 1, 4096 } }, 1, -EINVAL },
        { { { 1, 65535 } }, 1, -EINVAL },
        { { { 1, 1 }, { 1, 2 } }, 2, -EEXIST },
        { { { 1, 1 }, { 2, 1 } }, 2, -EEXIST },
        { { { US_VID_UNTAGGED, 9 }, { 9, 9 } }, 2, -EEXIST },
        { { { 5, 9 }, { 4095, 9 } }, 2, -EINVAL },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct port_tags *tags = NULL;

        CHECK_EQ(port_tags_create(cases[i].row, cases[i].n, &tags), cases[i].rc);
        CHECK_EQ(tags != NULL, cases[i].rc == 0);
        port_tags_free(tags);
    }
}

TEST(no_row_is_no_table)
{
    struct port_tags *tags = (struct port_tags *)1;

    CHECK_EQ(port_tags_create(NULL, 0, &tags), 0);
    CHECK(tags == NULL);
    CHECK_EQ(port_tags_create(NULL, US_TAG_ROWS_MAX + 1, &tags), -EINVAL);
}

/* Every VID and segment, for tables below, at and above the size where direct tables begin. */
TEST(answers)
{
    static const uint32_t sizes[] = { 1, 2, TAG_ROWS_INLINE, TAG_ROWS_INLINE + 1, 100, 4095 };
    static struct us_tag_row row[US_TAG_ROWS_MAX];

    for (unsigned k = 0; k < 2 * sizeof(sizes) / sizeof(sizes[0]); k++) {
        const uint32_t n = sizes[k / 2];
        const bool untagged = (k & 1) || n == 4095;
        uint16_t segment_of[US_VID_UNTAGGED + 1] = { 0 }, vid_of[US_SEGMENTS_MAX] = { 0 };
        struct port_tags *tags = NULL;

        for (uint32_t i = 0; i < n; i++) {
            row[i].vid = (uint16_t)(i == 0 && untagged ? US_VID_UNTAGGED : i + !untagged);
            row[i].segment = (uint16_t)(4095 - i);
            segment_of[row[i].vid] = row[i].segment;
            vid_of[row[i].segment] = row[i].vid;
        }
        REQUIRE(port_tags_create(row, n, &tags) == 0);
        CHECK_EQ(tags->untagged, segment_of[US_VID_UNTAGGED]);
        for (uint16_t vid = 1; vid <= 4094; vid++)
            CHECK_EQ(port_tags_segment(tags, vid), segment_of[vid]);
        for (uint16_t s = 1; s < US_SEGMENTS_MAX; s++)
            CHECK_EQ(port_tags_vid(tags, s), vid_of[s]);
        CHECK_EQ((uintptr_t)tags % 64, 0);
        port_tags_free(tags);
    }
}

/* What the lists must hold, as a plain table: vid of [port][segment]. */
static uint16_t wanted[N_PORTS][US_SEGMENTS_MAX];

static void check_lists(const struct segment_table *table, struct fake_port **fp, uint16_t last_segment)
{
    for (uint16_t s = 1; s <= last_segment; s++) {
        const struct segment_list *list = segment_members(table, s);
        uint32_t n = 0;

        for (unsigned p = 0; p < N_PORTS; p++) {
            uint32_t found = 0;

            for (uint32_t i = 0; list && i < list->n; i++) {
                if (list->member[i].port == &fp[p]->port) {
                    found++;
                    CHECK_EQ(list->member[i].vid, wanted[p][s]);
                }
            }
            CHECK_EQ(found, wanted[p][s] != VID_NONE);
            n += found;
        }
        CHECK_EQ(list ? list->n : 0, n);
    }
}

/* Gives a port random rows, or none, through the four steps; no worker runs, so no grace period is needed. */
static void change(struct segment_table *table, struct fake_port **fp, unsigned p, uint32_t n, bool cancel)
{
    static struct us_tag_row row[64];
    struct segment_change c;
    struct port_tags *tags = NULL;
    uint16_t next[65] = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        uint16_t s;

        do {
            s = (uint16_t)(1 + rand() % 64);
        } while (next[s]);
        row[i] = (struct us_tag_row){ (uint16_t)(i == 0 && (rand() & 1) ? US_VID_UNTAGGED : 100 + i * 7), s };
        next[s] = row[i].vid;
    }
    REQUIRE(port_tags_create(row, n, &tags) == 0);
    REQUIRE(segment_change_prepare(&c, table, &fp[p]->port, tags) == 0);
    if (cancel) {
        segment_change_cancel(&c);
        port_tags_free(tags);
        return;
    }
    segment_change_publish(&c);
    CHECK(atomic_load(&fp[p]->port.tags) == tags);
    segment_change_settle(&c);
    memcpy(wanted[p], next, sizeof(next));
}

TEST(members_follow_changes)
{
    struct segment_table *table = NULL;
    struct fake_port *fp[N_PORTS];

    memset(wanted, 0, sizeof(wanted));
    REQUIRE(segment_table_create(&table) == 0);
    for (unsigned p = 0; p < N_PORTS; p++)
        fp[p] = fake_port_create(p);
    srand(7);
    for (unsigned step = 0; step < 600; step++) {
        const unsigned p = (unsigned)rand() % N_PORTS;

        change(table, fp, p, (uint32_t)(rand() % 4 ? rand() % 40 : 0), rand() % 5 == 0);
        check_lists(table, fp, 64);
    }
    for (unsigned p = 0; p < N_PORTS; p++) {
        change(table, fp, p, 0, false);
        check_lists(table, fp, 64);
        fake_port_destroy(fp[p]);
    }
    segment_table_destroy(table);
}

TEST(published_list_is_not_written)
{
    struct segment_table *table = NULL;
    struct fake_port *fp[N_PORTS];
    struct segment_change c;
    const struct us_tag_row row = { US_VID_UNTAGGED, 5 };

    REQUIRE(segment_table_create(&table) == 0);
    for (unsigned p = 0; p < N_PORTS; p++) {
        const struct segment_list *before = segment_members(table, 5);
        const uint32_t n = before ? before->n : 0;
        struct port_tags *tags;

        fp[p] = fake_port_create(p);
        REQUIRE(port_tags_create(&row, 1, &tags) == 0);
        REQUIRE(segment_change_prepare(&c, table, &fp[p]->port, tags) == 0);
        segment_change_publish(&c);
        /* A reader may still hold what was published before, until the change is settled. */
        CHECK(segment_members(table, 5) != before);
        CHECK_EQ(before ? before->n : 0, n);
        CHECK_EQ(segment_members(table, 5)->n, n + 1);
        segment_change_settle(&c);
    }
    for (unsigned p = 0; p < N_PORTS; p++)
        fake_port_destroy(fp[p]);
    segment_table_destroy(table);
}

MAIN
{
    RUN(rows_are_checked);
    RUN(no_row_is_no_table);
    RUN(answers);
    RUN(members_follow_changes);
    RUN(published_list_is_not_written);
}
