/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * escrow.h - what the dataplane keeps for uswitchd, so that a new uswitchd
 * gets back the connections and the state of the one that died (design law 6):
 * blobs and file descriptors under a key of (port, slot).
 *
 * The dataplane holds them and does nothing else with them: it never reads a
 * blob, never touches an fd.  Control thread.
 *
 * Deleting a port leaves its entries alone.  They belong to uswitchd, which
 * may delete a port in order to add it anew; it drops them by name, and after
 * a crash in between it finds entries of a port that is gone and drops them.
 */
#ifndef USWITCH_ESCROW_H
#define USWITCH_ESCROW_H

#include "include/uswitch.h"

/* Bounds; a put that would pass one is refused with -ENOSPC. */
#define ESCROW_PORT_ENTRIES_MAX 32          /* entries of one port: one a ring, and as many again */
#define ESCROW_DAEMON_ENTRIES_MAX 64        /* entries of US_ANY, the daemon as a whole */
#define ESCROW_BYTES_MAX (64u << 20)        /* all blobs */

struct escrow;

/**
 * struct escrow_entry - one entry, as a reader sees it
 * @id: key and sizes
 * @blob: id.blob_len bytes (borrowed)
 * @fds: id.n_fds file descriptors (borrowed)
 *
 * Valid until the next put or drop.
 */
struct escrow_entry {
    struct us_link_escrow id;
    const void *blob;
    const int *fds;
};

int escrow_create(struct escrow **out);
/* Closes everything held; NULL is legal. */
void escrow_destroy(struct escrow *e);

/**
 * escrow_put() - keep an entry, in place of the one that has its key, if any
 * @e: the escrow
 * @id: key and sizes; a port id below US_PORTS_MAX or US_ANY, a slot other than US_SLOT_ALL
 * @blob: id->blob_len bytes, copied
 * @fds: id->n_fds file descriptors, duplicated; the caller closes its own
 *
 * Return: 0; -EINVAL, -E2BIG (sizes), -ENOSPC (bounds), -ENOMEM, -EMFILE, -EBADF: then nothing has changed.
 */
int escrow_put(struct escrow *e, const struct us_link_escrow *id, const void *blob, const int *fds);

/**
 * escrow_get() - the first entry at or after a cursor, in the order of (port_id, slot)
 * @e: the escrow
 * @cursor: 0 to start; set to where the next one is, 0 if this is the last
 * @out: the entry
 *
 * A cursor stays good when entries come and go.  Return: 1, or 0 if there is none.
 */
int escrow_get(const struct escrow *e, uint64_t *cursor, struct escrow_entry *out);

/* Drop one entry, or all of the port's with US_SLOT_ALL; returns how many. */
uint32_t escrow_drop(struct escrow *e, uint32_t port_id, uint32_t slot);

uint32_t escrow_count(const struct escrow *e);

#endif /* USWITCH_ESCROW_H */
