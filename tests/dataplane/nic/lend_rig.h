/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * lend_rig.h - an adapter that reads guests' memory, for tests of zero copy:
 * the igb driver under nic_port.c on its model, behind an IOMMU that knows
 * pool and guests' regions apart.
 */
#ifndef USWITCH_TESTS_LEND_RIG_H
#define USWITCH_TESTS_LEND_RIG_H

#include <pthread.h>

#include "nic/igb_model.h"
#include "nic/nic_port.h"

#define LEND_REGIONS 16
#define LEND_POOL_IOVA 0x100000000ull

/**
 * struct lend_rig - the device
 * @dev: what nic_port.c sees; first
 * @m: the model
 * @lock: of @region and @n: the device reads while others map
 * @region: what is mapped for it
 * @n: how many
 * @maps, @unmaps: calls so far
 * @refuse: map_guest answers so, 0: it maps
 * @next_iova: of the next region
 * @alive: not destroyed
 * @fetching: the thread of lend_rig_fetch_later()
 */
struct lend_rig {
    struct nic_device dev;
    struct igb_model m;
    pthread_mutex_t lock;
    struct dma_region region[LEND_REGIONS];
    unsigned n;
    unsigned maps, unmaps;
    int refuse;
    uint64_t next_iova;
    bool alive;
    pthread_t fetching;
};

/* One at a time, quiet, with its cable plugged; freed by lend_rig_free() when the port is gone. */
struct lend_rig *lend_rig_create(void);

/* True if the device is destroyed, was treated well and reached for nothing that was not mapped. */
bool lend_rig_free(struct lend_rig *k);

/* A port of it, with zero copy and one queue. NULL: refused. */
struct port *lend_rig_port_of(struct lend_rig *k, struct us_state_page *state, uint32_t ring_size);
/* The same with rings of 128. */
struct port *lend_rig_port(struct lend_rig *k, struct us_state_page *state);

/* The device reads what it was given some time later, by another thread; and the end of that. */
void lend_rig_fetch_later(struct lend_rig *k);
void lend_rig_fetched(struct lend_rig *k);

#endif /* USWITCH_TESTS_LEND_RIG_H */
