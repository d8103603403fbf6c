/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * segment.h - who is in which broadcast domain, and with which 802.1Q tag
 * (design section 3).
 *
 * Two views of the same rows.  struct port_tags answers for one port: which
 * segment does a tag mean, which tag does a segment get.  struct segment_list
 * answers for one segment: who is in it.  Both are immutable once published;
 * the control thread replaces them together, by struct segment_change, and
 * frees the old ones after one grace period for the whole change.
 */
#ifndef USWITCH_SEGMENT_H
#define USWITCH_SEGMENT_H

#include <stdatomic.h>
#include <stdint.h>

#include "include/uswitch.h"
#include "port.h"

#define TAG_ROWS_INLINE 12
/* "No such row" as a VID: no frame of ours and no row carries it. */
#define VID_NONE 0
#define VID_MASK 0x0fff
#define VID_RESERVED 4095       /* IEEE 802.1Q, table 9-2: not for use on the wire */

/**
 * struct tag_maps - direct tables for a port with many rows
 * @segment_of_vid: US_SEGMENT_NONE where there is no row
 * @vid_of_segment: VID_NONE where there is no row
 */
struct tag_maps {
    uint16_t segment_of_vid[US_VID_UNTAGGED];
    uint16_t vid_of_segment[US_SEGMENTS_MAX];
};

/**
 * struct port_tags - a port's rows; immutable, RCU; one cache line unless there are many rows
 * @untagged: segment of untagged frames, US_SEGMENT_NONE without such a row
 * @n: number of rows
 * @row: all rows if @maps is NULL
 * @maps: otherwise (owned)
 */
struct port_tags {
    uint16_t untagged;
    uint16_t n;
    struct us_tag_row row[TAG_ROWS_INLINE];
    struct tag_maps *maps;
} __attribute__((aligned(64)));

/**
 * port_tags_create() - validate rows and make a table of them
 * @row: @n rows in any order
 * @n: 0 .. US_TAG_ROWS_MAX
 * @out: the table; NULL for n == 0, which is how "in no segment" is written everywhere
 *
 * Control thread.  Return: 0; -EINVAL for a VID or segment out of range or too many rows, -EEXIST if a VID or
 * a segment occurs twice (a second row for a segment would make its egress tag ambiguous), -ENOMEM.
 */
int port_tags_create(const struct us_tag_row *row, uint32_t n, struct port_tags **out);

/* Control thread, after a grace period if it was published; NULL is legal. */
void port_tags_free(const struct port_tags *tags);

/* Segment of a frame tagged with @vid (1 .. 4094), or US_SEGMENT_NONE. */
static inline uint16_t port_tags_segment(const struct port_tags *tags, uint16_t vid)
{
    if (tags->maps)
        return tags->maps->segment_of_vid[vid & VID_MASK];
    for (unsigned i = 0; i < tags->n; i++) {
        if (tags->row[i].vid == vid)
            return tags->row[i].segment;
    }
    return US_SEGMENT_NONE;
}

/* The tag that frames of @segment leave with: 1 .. 4094, US_VID_UNTAGGED, or VID_NONE. */
static inline uint16_t port_tags_vid(const struct port_tags *tags, uint16_t segment)
{
    if (segment == tags->untagged)
        return US_VID_UNTAGGED;
    if (tags->maps)
        return tags->maps->vid_of_segment[segment % US_SEGMENTS_MAX];
    for (unsigned i = 0; i < tags->n; i++) {
        if (tags->row[i].segment == segment)
            return tags->row[i].vid;
    }
    return VID_NONE;
}

/**
 * struct member - a port in a segment
 * @port: the port (borrowed; leaves all lists before it dies)
 * @vid: tag that frames of the segment leave with
 */
struct member {
    struct port *port;
    uint16_t vid;
};

/**
 * struct segment_list - the members of one segment; immutable while published, RCU
 * @n: members
 * @capacity: room in @member
 */
struct segment_list {
    uint32_t n;
    uint32_t capacity;
    struct member member[];
};

/**
 * struct segment - one broadcast domain
 * @live: published list (writer: control, reader: workers); NULL until the first member comes
 * @spare: control thread.  As big as @live and not seen by any worker: the next change is written here, so
 *      taking a port out never needs memory
 */
struct segment {
    _Atomic(struct segment_list *) live;
    struct segment_list *spare;
};

/**
 * struct segment_table - all segments of a switch, by id
 */
struct segment_table {
    struct segment segment[US_SEGMENTS_MAX];
};

int segment_table_create(struct segment_table **out);
/* Control thread, after the workers have gone; NULL is legal. */
void segment_table_destroy(struct segment_table *table);

/* Members of a segment (1 .. US_SEGMENTS_MAX - 1), or NULL. Worker: valid until the next quiescent state. */
static inline const struct segment_list *segment_members(const struct segment_table *table, uint16_t segment)
{
    return atomic_load_explicit(&table->segment[segment].live, memory_order_acquire);
}

/**
 * struct segment_growth - lists made in advance for a segment whose arrays are full
 * @segment: which
 * @live: to be published; after that: the old one, to be freed
 * @spare: its twin; after that: the old one, to be freed
 */
struct segment_growth {
    uint16_t segment;
    struct segment_list *live;
    struct segment_list *spare;
};

/**
 * struct segment_change - the replacement of one port's rows, on the caller's stack
 * @table: where
 * @port: whose
 * @before: its published table, or NULL
 * @after: the table to publish, or NULL; ownership moves to the port with segment_change_publish()
 * @n_growth: entries of @growth
 * @growth: owned, NULL if every list has room
 */
struct segment_change {
    struct segment_table *table;
    struct port *port;
    const struct port_tags *before;
    const struct port_tags *after;
    uint32_t n_growth;
    struct segment_growth *growth;
};

/**
 * segment_change_prepare() - get all memory a change needs; nothing is visible yet
 * @change: filled
 * @table: where
 * @port: whose rows
 * @after: its new table, or NULL to take it out of all segments: that needs no memory and cannot fail
 *
 * Control thread.  Return: 0 or -ENOMEM, then @change is dead and @after still the caller's.
 */
int segment_change_prepare(struct segment_change *change, struct segment_table *table, struct port *port,
                           const struct port_tags *after);

/* Control: make the change visible.  The caller waits a grace period and calls segment_change_settle(). */
void segment_change_publish(struct segment_change *change);

/* Control: free what the change replaced, after the grace period. */
void segment_change_settle(struct segment_change *change);

/* Control: forget a prepared change that was not published. */
void segment_change_cancel(struct segment_change *change);

#endif /* USWITCH_SEGMENT_H */
