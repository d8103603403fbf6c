/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch_abi.c - proves the layout of uswitch.h at compile time, and makes
 * the number by which two processes know that they agree on it.
 *
 * The sizes are written out, so that a change of a struct is a change here,
 * seen in review; they equal the sum of the members, so there is no padding.
 */
#include <assert.h>
#include <stddef.h>

#include "include/uswitch.h"

#define SIZE(type, bytes) static_assert(sizeof(struct type) == (bytes), #type " has another size")
#define AT(type, member, bytes) \
    static_assert(offsetof(struct type, member) == (bytes), #type "." #member " is elsewhere")

SIZE(us_queue_counters, 8 * 16 + 8 * 48);
AT(us_queue_counters, drop, 128);
SIZE(us_ring_state, 64);
AT(us_ring_state, features, 8);
AT(us_state_page, broken_detail, 24);
AT(us_state_page, spare, 32);
AT(us_state_page, ring, 64);
AT(us_state_page, in, 64 + 16 * 64);
AT(us_state_page, out, 64 + 16 * 64 + 8 * 512);
AT(us_state_page, nic, 64 + 16 * 64 + 2 * 8 * 512);
SIZE(us_state_page, 64 + 16 * 64 + 2 * 8 * 512 + 352);
AT(us_nic_state, mac, 28);
AT(us_nic_state, pool_bytes, 40);
AT(us_nic_state, counter, 48);
AT(us_nic_state, driver, 48 + 32 * 8);
SIZE(us_nic_state, 48 + 32 * 8 + 16 + 4 * 8);
SIZE(us_worker_state, 128);
AT(us_worker_state, tid, 64);
AT(us_switch_page, started_ns, 16);
AT(us_switch_page, spare, 72);
AT(us_switch_page, worker, 128);
SIZE(us_switch_page, 128 + 32 * 128);
SIZE(us_config, 16 + 32 * 4 + 8);
SIZE(us_port_add, 64);
AT(us_port_add, n_queues, 40);
AT(us_port_add, ifindex, 56);
SIZE(us_port_del, 8);
SIZE(us_port_ref, 8);
SIZE(us_tag_row, 4);
SIZE(us_port_tags, 8 + 4097 * 4);
AT(us_port_tags, row, 8);
SIZE(us_port_macs, 8 + 64 * 6);
AT(us_port_macs, mac, 8);
SIZE(us_guard_pair, 24);
AT(us_guard_pair, ip, 8);
SIZE(us_port_guard, 16 + 256 * 24);
AT(us_port_guard, pair, 16);
SIZE(us_port_limits, 40);
AT(us_queue_counters, cycles, 64);
SIZE(us_mem_region, 32);
SIZE(us_vhost_mem, 8 + 64 * 32);
AT(us_vhost_mem, region, 8);
SIZE(us_vhost_log, 32 + 16 * 8);
AT(us_vhost_log, used_gpa, 32);
SIZE(us_port_announce, 12);
SIZE(us_vhost_ring, 64);
AT(us_vhost_ring, features, 16);
AT(us_vhost_ring, enabled, 48);
SIZE(us_vhost_ring_ref, 16);
SIZE(us_fdb_entry, 16);
SIZE(us_event, 24);
AT(us_event, detail, 16);
SIZE(us_link_head, 24);
AT(us_link_head, value, 16);
SIZE(us_link_hello, 24);
SIZE(us_link_cursor, 8);
SIZE(us_link_fdb_flush, 8);
SIZE(us_link_escrow, 16);

/* Array lengths stand in uswitch.h as numbers, for cffi. */
#define ROWS(type, member, count)                                                              \
    static_assert(sizeof(((struct type *)NULL)->member) ==                                     \
                  (count) * sizeof(((struct type *)NULL)->member[0]), #type "." #member " has another length")

ROWS(us_queue_counters, drop, US_DROPS_MAX);
ROWS(us_state_page, ring, US_RINGS_MAX);
ROWS(us_state_page, in, US_QUEUES_MAX);
ROWS(us_state_page, out, US_QUEUES_MAX);
ROWS(us_nic_state, counter, US_NIC_COUNTERS_MAX);
ROWS(us_switch_page, worker, US_WORKERS_MAX);
ROWS(us_config, cpu, US_WORKERS_MAX);
ROWS(us_port_tags, row, US_TAG_ROWS_MAX);
ROWS(us_port_macs, mac, US_MACS_MAX);
ROWS(us_port_guard, pair, US_GUARD_PAIRS_MAX);
ROWS(us_vhost_mem, region, US_REGIONS_MAX);
ROWS(us_vhost_log, used_gpa, US_RINGS_MAX);

static_assert(US_RINGS_MAX == 2 * US_QUEUES_MAX, "a queue pair is two rings");
static_assert(sizeof(struct us_state_page) <= US_STATE_PAGE_SIZE, "the state page fits");
static_assert(sizeof(struct us_switch_page) <= US_SWITCH_PAGE_SIZE, "the switch page fits");
static_assert(sizeof(struct us_link_head) + sizeof(struct us_port_tags) <= US_LINK_MSG_MAX,
              "the longest request fits");
static_assert(sizeof(struct us_link_head) + sizeof(struct us_link_escrow) + US_BLOB_MAX <= US_LINK_MSG_MAX,
              "an escrow entry fits");

/* What both sides must agree on. */
static const uint64_t layout[] = {
    US_ABI_VERSION,
    US_PORTS_MAX, US_SEGMENTS_MAX, US_TAG_ROWS_MAX, US_MACS_MAX, US_WORKERS_MAX, US_QUEUES_MAX, US_RINGS_MAX,
    US_RING_SIZE_MAX, US_REGIONS_MAX, US_FRAME_MIN, US_FRAME_MAX, US_DROPS_MAX, US_LINK_MSG_MAX,
    US_LINK_FDS_MAX, US_BLOB_MAX, US_STATE_PAGE_SIZE, US_SWITCH_PAGE_SIZE,
    sizeof(struct us_queue_counters), sizeof(struct us_ring_state), sizeof(struct us_state_page),
    sizeof(struct us_worker_state), sizeof(struct us_switch_page), sizeof(struct us_config),
    sizeof(struct us_port_add), sizeof(struct us_port_del), sizeof(struct us_tag_row),
    sizeof(struct us_port_tags), sizeof(struct us_port_macs), sizeof(struct us_port_limits),
    sizeof(struct us_mem_region), sizeof(struct us_vhost_mem), sizeof(struct us_vhost_ring),
    sizeof(struct us_vhost_ring_ref), sizeof(struct us_fdb_entry), sizeof(struct us_event),
    sizeof(struct us_vhost_log), sizeof(struct us_port_announce), sizeof(struct us_port_ref),
    sizeof(struct us_guard_pair), sizeof(struct us_port_guard), US_GUARD_PAIRS_MAX,
    sizeof(struct us_nic_state), US_NIC_COUNTERS_MAX, offsetof(struct us_state_page, nic),
    sizeof(struct us_link_head), sizeof(struct us_link_hello), sizeof(struct us_link_cursor),
    sizeof(struct us_link_fdb_flush), sizeof(struct us_link_escrow),
    offsetof(struct us_state_page, ring), offsetof(struct us_state_page, in),
    offsetof(struct us_state_page, out), offsetof(struct us_queue_counters, drop),
    offsetof(struct us_switch_page, worker), offsetof(struct us_vhost_ring, desc_uva),
    offsetof(struct us_ring_state, burst),
};

/* FNV-1a, 64 bits, over the numbers above, low byte first. */
uint64_t us_build_id(void)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (unsigned i = 0; i < sizeof(layout) / sizeof(layout[0]); i++) {
        for (unsigned byte = 0; byte < 8; byte++) {
            hash ^= (layout[i] >> (8 * byte)) & 0xff;
            hash *= 0x100000001b3u;
        }
    }
    return hash;
}
