/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link_calls.c - the table of requests: which lengths and how many fds each
 * may have, and the function that does it.  What a field may contain is
 * checked by the library (uswitch.c), so that both ways in are guarded alike;
 * here only what exists on the link alone is checked.
 *
 * To add a request: its number and struct in uswitch.h, a handler and a line
 * in the table here, a method in the Python side's link.
 */
#include "link_calls.h"

#include <errno.h>
#include <stddef.h>

#include "uswitch_priv.h"

#define HEAD_LEN(type, rows) ((uint32_t)offsetof(type, rows))

/* Lists arrive cut after their last row. */
static int check_rows(const struct link_in *in, uint32_t n, uint32_t head_len, size_t row_len)
{
    return link_in_len(in) == head_len + (uint64_t)n * row_len ? 0 : -EMSGSIZE;
}

void link_calls_fill_hello(struct link_calls *calls)
{
    calls->hello = (struct us_link_hello){
        .abi = US_ABI_VERSION,
        .pid = calls->pid,
        .n_ports = uswitch_port_count(calls->us),
        .n_escrow = escrow_count(calls->escrow),
        .build_id = us_build_id(),
    };
}

/* Our own answer goes out whatever the peer's version: it may only want to end us. */
static int do_hello(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_link_hello *peer = (const void *)in->payload;

    link_calls_fill_hello(calls);
    out->payload[0] = (struct iovec){ &calls->hello, sizeof(calls->hello) };
    calls->greeted = peer->abi == US_ABI_VERSION && peer->build_id == us_build_id();
    if (!calls->greeted)
        return -EPROTO;
    calls->page_fd = uswitch_page_fd(calls->us);
    out->fds = &calls->page_fd;
    out->n_fds = 1;
    return 0;
}

static int do_port_add(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_port_add *add = (const void *)in->payload;

    (void)out;
    return uswitch_port_add(calls->us, add, in->fds[0], in->fds + 1, in->n_fds - 1);
}

static int do_port_del(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_port_del *del = (const void *)in->payload;

    (void)out;
    return del->spare ? -EINVAL : uswitch_port_del(calls->us, del->port_id);
}

static int do_port_tags(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_port_tags *tags = (const void *)in->payload;
    const int rc = check_rows(in, tags->n, HEAD_LEN(struct us_port_tags, row), sizeof(tags->row[0]));

    (void)out;
    return rc < 0 ? rc : uswitch_port_tags(calls->us, tags);
}

static int do_port_macs(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_port_macs *macs = (const void *)in->payload;
    const int rc = check_rows(in, macs->n, HEAD_LEN(struct us_port_macs, mac), sizeof(macs->mac[0]));

    (void)out;
    return rc < 0 ? rc : uswitch_port_macs(calls->us, macs);
}

static int do_port_guard(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_port_guard *guard = (const void *)in->payload;
    const int rc = check_rows(in, guard->n, HEAD_LEN(struct us_port_guard, pair), sizeof(guard->pair[0]));

    (void)out;
    return rc < 0 ? rc : uswitch_port_guard(calls->us, guard);
}

static int do_port_limits(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    (void)out;
    return uswitch_port_limits(calls->us, (const void *)in->payload);
}

static int do_vhost_mem(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_vhost_mem *mem = (const void *)in->payload;
    const int rc = check_rows(in, mem->n, HEAD_LEN(struct us_vhost_mem, region), sizeof(mem->region[0]));

    (void)out;
    if (rc < 0)
        return rc;
    return in->n_fds == mem->n ? uswitch_vhost_mem(calls->us, mem, in->fds) : -EBADMSG;
}

static int do_vhost_log(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_vhost_log *log = (const void *)in->payload;

    (void)out;
    if (in->n_fds != (log->on ? 1 : 0))
        return -EBADMSG;
    return uswitch_vhost_log(calls->us, log, log->on ? in->fds[0] : -1);
}

static int do_port_announce(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    (void)out;
    return uswitch_port_announce(calls->us, (const void *)in->payload);
}

static int do_nic_read(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_port_ref *ref = (const void *)in->payload;

    (void)out;
    return ref->spare ? -EINVAL : uswitch_nic_read(calls->us, ref->port_id);
}

static int do_nic_reset(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_port_ref *ref = (const void *)in->payload;

    (void)out;
    return ref->spare ? -EINVAL : uswitch_nic_reset(calls->us, ref->port_id);
}

static int do_ring_start(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_vhost_ring *ring = (const void *)in->payload;
    const uint32_t kick = (ring->fds & US_RING_KICK) != 0, call = (ring->fds & US_RING_CALL) != 0;

    (void)out;
    if (in->n_fds != kick + call)
        return -EBADMSG;
    return uswitch_ring_start(calls->us, ring, kick ? in->fds[0] : -1, call ? in->fds[kick] : -1);
}

static int do_ring_stop(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_vhost_ring_ref *ref = (const void *)in->payload;
    const int rc = ref->spare ? -EINVAL : uswitch_ring_stop(calls->us, ref->port_id, ref->ring);

    if (rc >= 0)
        out->head.value = (uint64_t)rc;
    return rc < 0 ? rc : 0;
}

static int do_ring_call(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_vhost_ring_ref *ref = (const void *)in->payload;

    (void)out;
    if (ref->spare)
        return -EINVAL;
    return uswitch_ring_call(calls->us, ref->port_id, ref->ring, in->n_fds == 1 ? in->fds[0] : -1);
}

static int do_ring_enable(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_vhost_ring_ref *ref = (const void *)in->payload;

    (void)out;
    if (ref->spare)
        return -EINVAL;
    return uswitch_ring_enable(calls->us, ref->port_id, ref->ring, ref->enabled);
}

static int do_fdb_dump(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_link_cursor *at = (const void *)in->payload;
    uint64_t cursor = at->cursor;
    const int n = uswitch_fdb_dump(calls->us, &cursor, calls->entries,
                                   sizeof(calls->entries) / sizeof(calls->entries[0]));

    if (n < 0)
        return n;
    out->payload[0] = (struct iovec){ calls->entries, (size_t)n * sizeof(calls->entries[0]) };
    out->head.value = cursor;
    return 0;
}

static int do_fdb_flush(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_link_fdb_flush *flush = (const void *)in->payload;
    const int n = uswitch_fdb_flush(calls->us, flush->port_id, flush->segment);

    if (n < 0)
        return n;
    out->head.value = (uint64_t)n;
    return 0;
}

static int do_escrow_put(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_link_escrow *id = (const void *)in->payload;

    (void)out;
    if (link_in_len(in) != sizeof(*id) + (uint64_t)id->blob_len)
        return -EMSGSIZE;
    if (in->n_fds != id->n_fds)
        return -EBADMSG;
    return escrow_put(calls->escrow, id, in->payload + sizeof(*id), in->fds);
}

static int do_escrow_get(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_link_cursor *at = (const void *)in->payload;
    uint64_t cursor = at->cursor;
    struct escrow_entry entry;

    /* Nothing there: a reply without payload and with cursor 0. */
    if (!escrow_get(calls->escrow, &cursor, &entry))
        return 0;
    calls->escrow_id = entry.id;
    out->payload[0] = (struct iovec){ &calls->escrow_id, sizeof(calls->escrow_id) };
    out->payload[1] = (struct iovec){ (void *)(uintptr_t)entry.blob, entry.id.blob_len };
    out->fds = entry.fds;
    out->n_fds = entry.id.n_fds;
    out->head.value = cursor;
    return 0;
}

static int do_escrow_drop(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    const struct us_link_escrow *id = (const void *)in->payload;

    out->head.value = escrow_drop(calls->escrow, id->port_id, id->slot);
    return 0;
}

static int do_ping(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    (void)calls;
    (void)in;
    (void)out;
    return 0;
}

static int do_shutdown(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    (void)in;
    (void)out;
    calls->shutdown = true;
    return 0;
}

/*
 * The requests. "early" ones work before HELLO and for a peer of another
 * version: enough to take the escrow over and to replace this process.
 */
static const struct request {
    uint32_t type;
    uint32_t len_min;           /* of the payload */
    uint32_t len_max;
    uint32_t fds_min;
    uint32_t fds_max;
    bool early;
    int (*run)(struct link_calls *calls, const struct link_in *in, struct link_out *out);
} requests[] = {
#define FIXED(type) sizeof(type), sizeof(type)
#define CUT(type, rows) HEAD_LEN(type, rows), sizeof(type)
    { US_LINK_HELLO, FIXED(struct us_link_hello), 0, 0, true, do_hello },
    { US_LINK_PORT_ADD, FIXED(struct us_port_add), 1, 1 + US_QUEUES_MAX, false, do_port_add },
    { US_LINK_PORT_DEL, FIXED(struct us_port_del), 0, 0, false, do_port_del },
    { US_LINK_PORT_TAGS, CUT(struct us_port_tags, row), 0, 0, false, do_port_tags },
    { US_LINK_PORT_MACS, CUT(struct us_port_macs, mac), 0, 0, false, do_port_macs },
    { US_LINK_PORT_GUARD, CUT(struct us_port_guard, pair), 0, 0, false, do_port_guard },
    { US_LINK_PORT_LIMITS, FIXED(struct us_port_limits), 0, 0, false, do_port_limits },
    { US_LINK_VHOST_MEM, CUT(struct us_vhost_mem, region), 0, US_REGIONS_MAX, false, do_vhost_mem },
    { US_LINK_RING_START, FIXED(struct us_vhost_ring), 0, 2, false, do_ring_start },
    { US_LINK_RING_STOP, FIXED(struct us_vhost_ring_ref), 0, 0, false, do_ring_stop },
    { US_LINK_RING_CALL, FIXED(struct us_vhost_ring_ref), 0, 1, false, do_ring_call },
    { US_LINK_RING_ENABLE, FIXED(struct us_vhost_ring_ref), 0, 0, false, do_ring_enable },
    { US_LINK_FDB_DUMP, FIXED(struct us_link_cursor), 0, 0, false, do_fdb_dump },
    { US_LINK_FDB_FLUSH, FIXED(struct us_link_fdb_flush), 0, 0, false, do_fdb_flush },
    { US_LINK_ESCROW_PUT, sizeof(struct us_link_escrow), sizeof(struct us_link_escrow) + US_BLOB_MAX,
      0, US_LINK_FDS_MAX, false, do_escrow_put },
    { US_LINK_ESCROW_GET, FIXED(struct us_link_cursor), 0, 0, true, do_escrow_get },
    { US_LINK_ESCROW_DROP, FIXED(struct us_link_escrow), 0, 0, false, do_escrow_drop },
    { US_LINK_VHOST_LOG, FIXED(struct us_vhost_log), 0, 1, false, do_vhost_log },
    { US_LINK_PORT_ANNOUNCE, FIXED(struct us_port_announce), 0, 0, false, do_port_announce },
    { US_LINK_NIC_READ, FIXED(struct us_port_ref), 0, 0, false, do_nic_read },
    { US_LINK_NIC_RESET, FIXED(struct us_port_ref), 0, 0, false, do_nic_reset },
    { US_LINK_PING, 0, 0, 0, 0, true, do_ping },
    { US_LINK_SHUTDOWN, 0, 0, 0, 0, true, do_shutdown },
#undef FIXED
#undef CUT
};

static int run(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        const struct request *r = &requests[i];

        if (r->type != in->head.type)
            continue;
        if (!calls->greeted && !r->early)
            return -EPROTO;
        if (link_in_len(in) < r->len_min || link_in_len(in) > r->len_max)
            return -EMSGSIZE;
        if (in->n_fds < r->fds_min || in->n_fds > r->fds_max)
            return -EBADMSG;
        return r->run(calls, in, out);
    }
    return -EOPNOTSUPP;
}

void link_calls_run(struct link_calls *calls, const struct link_in *in, struct link_out *out)
{
    out->head.rc = run(calls, in, out);
}
