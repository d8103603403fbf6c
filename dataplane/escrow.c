/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * escrow.c - an array of entries sorted by key.  Some thousand entries at
 * most, put once a connection: a move of pointers beats a cleverer structure.
 */
#include "escrow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/**
 * struct item - one entry and what it holds
 * @key: see make_key()
 * @id: key and sizes as given
 * @fds: owned
 * @blob: copy
 */
struct item {
    uint64_t key;
    struct us_link_escrow id;
    int fds[US_LINK_FDS_MAX];
    uint8_t blob[];
};

/**
 * struct escrow - control thread
 * @item: n pointers in ascending order of key (owned)
 * @n: entries
 * @room: pointers allocated
 * @bytes: sum of the blobs
 */
struct escrow {
    struct item **item;
    uint32_t n;
    uint32_t room;
    uint32_t bytes;
};

/* Ascending in (port_id, slot). Never UINT64_MAX, so key + 1 is a cursor and never 0. */
static uint64_t make_key(uint32_t port_id, uint32_t slot)
{
    return (uint64_t)port_id << 32 | slot;
}

/* Index of the first entry whose key is not below @key. */
static uint32_t find(const struct escrow *e, uint64_t key)
{
    uint32_t low = 0, high = e->n;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;

        if (e->item[middle]->key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void item_free(struct item *item)
{
    for (uint32_t i = 0; i < item->id.n_fds; i++)
        close(item->fds[i]);
    free(item);
}

/* Copies blob and fds; on failure nothing stays behind. */
static int item_make(const struct us_link_escrow *id, const void *blob, const int *fds, struct item **out)
{
    struct item *item = malloc(sizeof(*item) + id->blob_len);
    int rc;

    if (!item)
        return -ENOMEM;
    item->key = make_key(id->port_id, id->slot);
    item->id = *id;
    if (id->blob_len > 0)
        memcpy(item->blob, blob, id->blob_len);
    for (item->id.n_fds = 0; item->id.n_fds < id->n_fds; item->id.n_fds++) {
        const int fd = fcntl(fds[item->id.n_fds], F_DUPFD_CLOEXEC, 0);

        if (fd < 0) {
            rc = -errno;
            item_free(item);
            return rc;
        }
        item->fds[item->id.n_fds] = fd;
    }
    *out = item;
    return 0;
}

static int reserve(struct escrow *e)
{
    const uint32_t room = e->room ? 2 * e->room : 64;
    struct item **item;

    if (e->n < e->room)
        return 0;
    item = reallocarray(e->item, room, sizeof(struct item *));
    if (!item)
        return -ENOMEM;
    e->item = item;
    e->room = room;
    return 0;
}

static int check_id(const struct us_link_escrow *id)
{
    if (id->port_id >= US_PORTS_MAX && id->port_id != US_ANY)
        return -EINVAL;
    if (id->slot == US_SLOT_ALL)
        return -EINVAL;
    if (id->blob_len > US_BLOB_MAX || id->n_fds > US_LINK_FDS_MAX)
        return -E2BIG;
    return 0;
}

/* Entries of a port, which lie side by side from *first on. */
static uint32_t port_entries(const struct escrow *e, uint32_t port_id, uint32_t *first)
{
    uint32_t i;

    i = *first = find(e, make_key(port_id, 0));
    while (i < e->n && e->item[i]->id.port_id == port_id)
        i++;
    return i - *first;
}

int escrow_create(struct escrow **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : -ENOMEM;
}

void escrow_destroy(struct escrow *e)
{
    if (!e)
        return;
    for (uint32_t i = 0; i < e->n; i++)
        item_free(e->item[i]);
    free(e->item);
    free(e);
}

/* What a put adds and replaces must stay within the bounds. */
static int check_bounds(const struct escrow *e, const struct us_link_escrow *id, const struct item *old)
{
    const uint32_t most = id->port_id == US_ANY ? ESCROW_DAEMON_ENTRIES_MAX : ESCROW_PORT_ENTRIES_MAX;
    const uint32_t freed = old ? old->id.blob_len : 0;
    uint32_t first;

    if (!old && port_entries(e, id->port_id, &first) >= most)
        return -ENOSPC;
    if (e->bytes - freed + id->blob_len > ESCROW_BYTES_MAX)
        return -ENOSPC;
    return 0;
}

int escrow_put(struct escrow *e, const struct us_link_escrow *id, const void *blob, const int *fds)
{
    struct item *item = NULL, *old;
    uint32_t at;
    int rc = check_id(id);

    if (rc < 0)
        return rc;
    at = find(e, make_key(id->port_id, id->slot));
    old = at < e->n && e->item[at]->key == make_key(id->port_id, id->slot) ? e->item[at] : NULL;
    rc = check_bounds(e, id, old);
    if (rc == 0 && !old)
        rc = reserve(e);
    if (rc == 0)
        rc = item_make(id, blob, fds, &item);
    if (rc < 0)
        return rc;
    if (old) {
        e->bytes -= old->id.blob_len;
        item_free(old);
    } else {
        memmove(&e->item[at + 1], &e->item[at], (e->n - at) * sizeof(e->item[0]));
        e->n++;
    }
    e->item[at] = item;
    e->bytes += id->blob_len;
    return 0;
}

int escrow_get(const struct escrow *e, uint64_t *cursor, struct escrow_entry *out)
{
    const uint32_t at = find(e, *cursor);
    const struct item *item;

    if (at == e->n) {
        *cursor = 0;
        return 0;
    }
    item = e->item[at];
    out->id = item->id;
    out->blob = item->blob;
    out->fds = item->fds;
    *cursor = at + 1 < e->n ? item->key + 1 : 0;
    return 1;
}

uint32_t escrow_drop(struct escrow *e, uint32_t port_id, uint32_t slot)
{
    uint32_t first, count;

    if (slot == US_SLOT_ALL) {
        count = port_entries(e, port_id, &first);
    } else {
        first = find(e, make_key(port_id, slot));
        count = first < e->n && e->item[first]->key == make_key(port_id, slot);
    }
    if (count == 0)
        return 0;
    for (uint32_t i = first; i < first + count; i++) {
        e->bytes -= e->item[i]->id.blob_len;
        item_free(e->item[i]);
    }
    memmove(&e->item[first], &e->item[first + count], (e->n - first - count) * sizeof(e->item[0]));
    e->n -= count;
    return count;
}

uint32_t escrow_count(const struct escrow *e)
{
    return e->n;
}
