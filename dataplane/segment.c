/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * segment.c - builds tag tables and member lists, and replaces them by
 * prepare, publish, (grace period), settle.  Control thread only; what the
 * workers read is inline in segment.h.
 */
#include "segment.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LIST_CAPACITY_MIN 4

static_assert(sizeof(struct port_tags) == 64, "an access port's tags are one cache line");

/* Checks all rows; the two bitmaps find duplicates in one pass. */
static int tag_rows_check(const struct us_tag_row *row, uint32_t n)
{
    uint64_t vid_seen[US_VID_UNTAGGED / 64 + 1] = { 0 };
    uint64_t segment_seen[US_SEGMENTS_MAX / 64] = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t vid = row[i].vid, segment = row[i].segment;
        const bool vid_ok = (vid >= 1 && vid < VID_RESERVED) || vid == US_VID_UNTAGGED;

        if (!vid_ok || segment == US_SEGMENT_NONE || segment >= US_SEGMENTS_MAX)
            return -EINVAL;
        if ((vid_seen[vid / 64] >> (vid % 64) & 1) || (segment_seen[segment / 64] >> (segment % 64) & 1))
            return -EEXIST;
        vid_seen[vid / 64] |= 1ULL << (vid % 64);
        segment_seen[segment / 64] |= 1ULL << (segment % 64);
    }
    return 0;
}

int port_tags_create(const struct us_tag_row *row, uint32_t n, struct port_tags **out)
{
    struct port_tags *tags;
    int rc;

    *out = NULL;
    if (n > US_TAG_ROWS_MAX)
        return -EINVAL;
    if (n == 0)
        return 0;
    rc = tag_rows_check(row, n);
    if (rc < 0)
        return rc;

    tags = aligned_alloc(64, sizeof(*tags));
    if (!tags)
        return -ENOMEM;
    memset(tags, 0, sizeof(*tags));
    tags->n = (uint16_t)n;
    if (n > TAG_ROWS_INLINE) {
        tags->maps = calloc(1, sizeof(*tags->maps));
        if (!tags->maps) {
            free(tags);
            return -ENOMEM;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (row[i].vid == US_VID_UNTAGGED)
            tags->untagged = row[i].segment;
        else if (tags->maps)
            tags->maps->segment_of_vid[row[i].vid] = row[i].segment;
        if (tags->maps)
            tags->maps->vid_of_segment[row[i].segment] = row[i].vid;
        else
            tags->row[i] = row[i];
    }
    *out = tags;
    return 0;
}

void port_tags_free(const struct port_tags *tags)
{
    if (!tags)
        return;
    free(tags->maps);
    free((void *)tags);
}

int segment_table_create(struct segment_table **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : -ENOMEM;
}

void segment_table_destroy(struct segment_table *table)
{
    if (!table)
        return;
    for (uint32_t i = 0; i < US_SEGMENTS_MAX; i++) {
        free(atomic_load_explicit(&table->segment[i].live, memory_order_relaxed));
        free(table->segment[i].spare);
    }
    free(table);
}

static uint16_t vid_in(const struct port_tags *tags, uint16_t segment)
{
    return tags ? port_tags_vid(tags, segment) : VID_NONE;
}

static struct segment_list *live_list(const struct segment_table *table, uint16_t segment)
{
    return atomic_load_explicit(&table->segment[segment].live, memory_order_relaxed);
}

static struct segment_list *list_alloc(uint32_t capacity)
{
    struct segment_list *list = malloc(sizeof(*list) + capacity * sizeof(list->member[0]));

    if (list) {
        list->n = 0;
        list->capacity = capacity;
    }
    return list;
}

/* True if the port joins a segment whose arrays are full. */
static bool must_grow(const struct segment_change *change, uint16_t segment)
{
    const struct segment_list *live = live_list(change->table, segment);

    return vid_in(change->before, segment) == VID_NONE && vid_in(change->after, segment) != VID_NONE &&
           (!live || live->n == live->capacity);
}

static int growth_alloc(struct segment_change *change, uint16_t segment)
{
    const struct segment_list *live = live_list(change->table, segment);
    const uint32_t capacity = live ? 2 * live->capacity : LIST_CAPACITY_MIN;
    struct segment_growth *g = &change->growth[change->n_growth++];

    g->segment = segment;
    g->live = list_alloc(capacity);
    g->spare = list_alloc(capacity);
    return g->live && g->spare ? 0 : -ENOMEM;
}

int segment_change_prepare(struct segment_change *change, struct segment_table *table, struct port *port,
                           const struct port_tags *after)
{
    *change = (struct segment_change){
        .table = table,
        .port = port,
        .before = atomic_load_explicit(&port->tags, memory_order_relaxed),
        .after = after,
    };
    for (uint16_t s = 1; after && s < US_SEGMENTS_MAX; s++) {
        if (!must_grow(change, s))
            continue;
        if (!change->growth)
            change->growth = calloc(after->n, sizeof(change->growth[0]));
        if (!change->growth || growth_alloc(change, s) < 0) {
            segment_change_cancel(change);
            return -ENOMEM;
        }
    }
    return 0;
}

/* Writes the new membership into @list: the old one without the port, then the port if it stays or joins. */
static void list_fill(struct segment_list *list, const struct segment_list *old, struct port *port, uint16_t vid)
{
    uint32_t n = 0;

    for (uint32_t i = 0; old && i < old->n; i++) {
        if (old->member[i].port != port)
            list->member[n++] = old->member[i];
    }
    if (vid != VID_NONE)
        list->member[n++] = (struct member){ .port = port, .vid = vid };
    list->n = n;
}

/* The growth made for a segment, NULL if there is none. Growths are in ascending order, as is the caller. */
static struct segment_growth *growth_for(struct segment_change *change, uint32_t *at, uint16_t segment)
{
    if (*at == change->n_growth || change->growth[*at].segment != segment)
        return NULL;
    return &change->growth[(*at)++];
}

void segment_change_publish(struct segment_change *change)
{
    uint32_t at = 0;

    for (uint16_t s = 1; s < US_SEGMENTS_MAX; s++) {
        struct segment *seg = &change->table->segment[s];
        const uint16_t vid = vid_in(change->after, s);
        struct segment_list *old = live_list(change->table, s), *next = seg->spare;
        struct segment_growth *g;

        if (vid == vid_in(change->before, s))
            continue;
        g = growth_for(change, &at, s);
        if (g)
            next = g->live;
        list_fill(next, old, change->port, vid);
        atomic_store_explicit(&seg->live, next, memory_order_release);
        if (g) {
            struct segment_list *twin = g->spare;

            g->live = old;
            g->spare = seg->spare;
            seg->spare = twin;
        } else {
            seg->spare = old;   /* written to by the next change at the earliest, a grace period from now */
        }
    }
    atomic_store_explicit(&change->port->tags, change->after, memory_order_release);
}

static void growth_free(struct segment_change *change)
{
    for (uint32_t i = 0; i < change->n_growth; i++) {
        free(change->growth[i].live);
        free(change->growth[i].spare);
    }
    free(change->growth);
    change->growth = NULL;
    change->n_growth = 0;
}

void segment_change_settle(struct segment_change *change)
{
    growth_free(change);
    port_tags_free(change->before);
    change->before = NULL;
}

void segment_change_cancel(struct segment_change *change)
{
    growth_free(change);
}
