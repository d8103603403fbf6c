/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * switch.c - forwards a burst: the only thing between a queue's rx_burst and
 * the receivers' tx_burst.  Called by the worker that owns the queue, inside
 * its RCU read-side section; what the control thread does to the same data
 * is in switch_control.c.
 *
 * Theory of operation.  Four passes over the burst, each of which does one
 * kind of memory access for all frames before the next begins:
 *
 *   classify  snapshot -> segment, canonical frame, policy; collects source
 *             and destination keys and prefetches their FDB buckets
 *   learn     the sources
 *   resolve   the destinations: port, egress tag, what the port can take
 *   sort      frames into one group a receiver, floods into many
 *
 * and then one tx_burst a group (deliver.h).  Frames come in runs: one whose addresses and
 * type are those of the frame before it goes where that went without another
 * look (but for the port's policy), and equal sources or destinations in a row
 * are looked up once.  Frames are sorted in the order they came, so each receiver
 * sees its frames, unicast and flooded, in that order.
 */
#include "switch.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "deliver.h"
#include "fdb_memo.h"
#include "flood.h"
#include "policy.h"
#include "segment.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define MAC48_MASK 0xffffffffffffULL
#define MAC48_GROUP 1ULL        /* I/G bit of an address as a little-endian number */
/* 01-80-c2-00-00-0x, as a little-endian number and without the x (IEEE 802.1Q, table 8-1). */
#define LINK_LOCAL 0x000000c28001ULL
#define LINK_LOCAL_MASK 0xf0ffffffffffULL
#define TCI_PRIORITY 0xf000     /* PCP and DEI */
/* Frame length that a tagged frame needs to be a frame without its tag. */
#define TAGGED_MIN (ETH_HDR_LEN + VLAN_TAG_LEN)
/* First entry of switch_scratch.dest: "to everybody". */
#define DEST_FLOOD 0
#define DEST_NONE UINT32_MAX

/**
 * struct dest - where a destination key leads
 * @seek: the key, and the way to it
 * @group: the receiver's, NULL: flood
 * @vid: egress tag there
 * @same_port: it is behind the port the frames came from
 */
struct dest {
    struct fdb_seek seek;
    struct group *group;
    uint16_t vid;
    bool same_port;
};

/**
 * struct live - a frame that passed classification
 * @frame: the frame
 * @dest: index into switch_scratch.dest
 */
struct live {
    struct frame *frame;
    uint32_t dest;
};

/**
 * struct switch_scratch - a worker's; used with one switch only, because the memo outlives the burst
 * @live: frames that passed classification
 * @source: distinct sources in a row
 * @dest: distinct destinations in a row, after DEST_FLOOD
 * @delivery: what goes out
 * @memo: ways to addresses
 */
struct switch_scratch {
    struct live live[BURST_MAX];
    struct fdb_seek source[BURST_MAX];
    struct dest dest[BURST_MAX + 1];
    struct delivery delivery;
    struct fdb_memo memo;
};

/**
 * struct pass - one call of switch_burst()
 * @core: the switch
 * @s: scratch
 * @from: the port the frames came from
 * @in: counters of its queue
 * @tags: its rows, never NULL
 * @policy: its policy or NULL
 * @now_ns: the worker's clock
 * @n_live: entries of s->live
 * @n_source: entries of s->source
 * @n_dest: entries of s->dest, DEST_FLOOD included
 */
struct pass {
    struct switch_core *core;
    struct switch_scratch *s;
    struct port *from;
    struct us_queue_counters *in;
    const struct port_tags *tags;
    const struct policy *policy;
    uint64_t now_ns;
    uint32_t n_live;
    uint32_t n_source;
    uint32_t n_dest;
};

/* A port that is in no segment. */
static const struct port_tags no_rows;

struct switch_scratch *switch_scratch_create(void)
{
    struct switch_scratch *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    if (delivery_init(&s->delivery) < 0) {
        free(s);
        return NULL;
    }
    return s;
}

void switch_scratch_destroy(struct switch_scratch *s)
{
    if (!s)
        return;
    delivery_fini(&s->delivery);
    free(s);
}

static uint64_t load_le64(const uint8_t *p)
{
    uint64_t raw;

    memcpy(&raw, p, sizeof(raw));
    return le64toh(raw);
}

static uint16_t load_be16(const uint8_t *p)
{
    uint16_t raw;

    memcpy(&raw, p, sizeof(raw));
    return be16toh(raw);
}

/* Brings a tagged frame into canonical form and finds its segment. */
static enum drop_reason cut_tag(struct frame *f, const struct port_tags *tags)
{
    struct vnet *v = &f->vnet;
    uint16_t tci, vid;

    if (f->len < TAGGED_MIN)
        return DROP_frame_short;
    tci = load_be16(f->hdr + ETH_HDR_LEN);
    vid = tci & VID_MASK;
    /* VID 0 is a priority tag: the frame is untagged (IEEE 802.1Q, 9.6). */
    f->segment = vid == 0 ? tags->untagged : vid == VID_RESERVED ? US_SEGMENT_NONE : port_tags_segment(tags, vid);
    if (f->segment == US_SEGMENT_NONE)
        return vid == 0 ? DROP_no_segment : DROP_vlan_unknown;

    if (v->flags & VNET_NEEDS_CSUM) {
        if (v->csum_start < TAGGED_MIN)
            return DROP_vnet_csum;
        v->csum_start -= VLAN_TAG_LEN;
    }
    v->hdr_len = v->hdr_len >= TAGGED_MIN ? v->hdr_len - VLAN_TAG_LEN : 0;
    f->pcp = tci & TCI_PRIORITY;
    memmove(f->hdr + VLAN_TAG_LEN, f->hdr, (size_t)2 * ETH_ALEN);
    f->hdr += VLAN_TAG_LEN;
    f->hdr_len -= VLAN_TAG_LEN;
    f->len -= VLAN_TAG_LEN;
    return DROP_none;
}

/* The entry of s->dest for a key; only the latest one is compared, which is what runs of frames need. */
static uint32_t dest_for(struct pass *ps, uint64_t key)
{
    struct dest *d = &ps->s->dest[ps->n_dest - 1];

    if (ps->n_dest > 1 && d->seek.key == key)
        return ps->n_dest - 1;
    fdb_seek(ps->core->fdb, &ps->s->memo, &d[1].seek, key);
    return ps->n_dest++;
}

static void source_add(struct pass *ps, uint64_t key)
{
    struct fdb_seek *src = &ps->s->source[ps->n_source];

    if (ps->n_source && src[-1].key == key)
        return;
    fdb_seek(ps->core->fdb, &ps->s->memo, src, key);
    ps->n_source++;
}

/* Everything that can be said about one frame; *dest: index into s->dest. */
static __attribute__((noinline)) enum drop_reason classify(struct pass *ps, struct frame *f, uint32_t *dest)
{
    uint64_t from = load_le64(f->hdr + ETH_ALEN);       /* and the ethertype, in its high half */
    enum drop_reason why;
    uint64_t to;

    if ((uint16_t)(from >> 48) == htole16(htobe16(ETHERTYPE_VLAN))) {
        why = cut_tag(f, ps->tags);
        if (why != DROP_none)
            return why;
    } else if (f->segment == US_SEGMENT_NONE) {
        return DROP_no_segment;
    }
    /* Cutting moved the addresses, but did not change them. */
    from &= MAC48_MASK;
    to = load_le64(f->hdr) & MAC48_MASK;
    if ((from & MAC48_GROUP) || from == 0)
        return DROP_src_invalid;
    if ((to & LINK_LOCAL_MASK) == LINK_LOCAL)
        return DROP_link_local;
    if (unlikely(ps->policy != NULL)) {
        why = policy_verdict(ps->policy, f);
        if (why != DROP_none)
            return why;
    }

    source_add(ps, fdb_key(f->segment, from));
    *dest = to & MAC48_GROUP ? DEST_FLOOD : dest_for(ps, fdb_key(f->segment, to));
    return DROP_none;
}

/* True if there is a reason why the frame ends here; it is counted. */
static inline bool end_if(const struct pass *ps, struct frame *f, enum drop_reason why)
{
    if (likely(why == DROP_none))
        return false;
    f->drop = (uint8_t)why;
    ps->in->drop[why]++;
    return true;
}

/*
 * First pass; counts what came in.  There are two copies of it, so that a port without policy does not ask for one
 * frame by frame.
 */
static inline __attribute__((always_inline)) void classify_frames(struct pass *ps, struct burst *b, const bool policed)
{
    const uint16_t untagged = ps->tags->untagged;
    const uint32_t n = b->n;
    struct live *live = ps->s->live;
    uint64_t bytes = 0, gso = 0, run_to = 0, run_from = 0;
    uint32_t run_dest = DEST_NONE;      /* where frames that begin with run_to, run_from go */

    for (struct frame *f = b->frame; f < b->frame + n; f++) {
        const uint64_t to = load_le64(f->hdr), from = load_le64(f->hdr + ETH_ALEN);
        uint32_t dest = run_dest;

        bytes += f->len;
        gso += f->vnet.gso_type != VNET_GSO_NONE;
        f->pcp = 0;
        f->segment = untagged;
        if (unlikely(((to ^ run_to) | (from ^ run_from)) != 0 || run_dest == DEST_NONE)) {
            if (unlikely(end_if(ps, f, classify(ps, f, &dest))))
                continue;
            /* A tag cannot be judged by the first fourteen bytes. */
            run_dest = (uint16_t)(from >> 48) == htole16(htobe16(ETHERTYPE_VLAN)) ? DEST_NONE : dest;
            run_to = to;
            run_from = from;
        } else if (policed && unlikely(end_if(ps, f, policy_verdict(ps->policy, f)))) {
            continue;
        }
        *live++ = (struct live){ .frame = f, .dest = dest };
    }
    ps->n_live = (uint32_t)(live - ps->s->live);
    ps->in->bursts++;
    ps->in->frames += n;
    ps->in->bytes += bytes;
    ps->in->gso += gso;
}

static __attribute__((noinline)) void classify_policed(struct pass *ps, struct burst *b)
{
    classify_frames(ps, b, true);
}

static void classify_all(struct pass *ps, struct burst *b)
{
    if (unlikely(ps->policy != NULL))
        classify_policed(ps, b);
    else
        classify_frames(ps, b, false);
}

/* Second pass. */
static void learn_all(struct pass *ps)
{
    struct fdb *fdb = ps->core->fdb;
    uint64_t refused = 0;

    for (uint32_t i = 0; i < ps->n_source; i++)
        refused += fdb_seek_learn(fdb, &ps->s->memo, &ps->s->source[i], ps->from) == FDB_REFUSED;
    if (unlikely(refused))
        __atomic_fetch_add(&fdb->page->fdb_refused, refused, __ATOMIC_RELAXED);
}

/* Third pass. An address behind a port that has left the segment is an unknown one. */
static void resolve_all(struct pass *ps)
{
    for (uint32_t i = DEST_FLOOD + 1; i < ps->n_dest; i++) {
        struct dest *d = &ps->s->dest[i];
        const int id = fdb_seek_lookup(ps->core->fdb, &ps->s->memo, &d->seek);
        const struct port_tags *tags;
        struct port *p;

        d->group = NULL;
        d->same_port = false;
        if (id == FDB_NONE)
            continue;
        p = atomic_load_explicit(&ps->core->port[id], memory_order_acquire);
        if (unlikely(!p))
            continue;
        if (unlikely(p == ps->from)) {
            d->same_port = true;
            continue;
        }
        tags = atomic_load_explicit(&p->tags, memory_order_acquire);
        if (unlikely(!tags))
            continue;
        d->vid = port_tags_vid(tags, (uint16_t)(d->seek.key >> 48));
        if (likely(d->vid != VID_NONE))
            d->group = delivery_group(&ps->s->delivery, p);
    }
}

/* Puts a run of frames with the same destination into its group; returns how long it was. */
static inline uint32_t add_run(const struct dest *d, const struct live *live, uint32_t max)
{
    struct group *g = d->group;
    const uint32_t index = live->dest;
    uint32_t i = 0;

    do
        group_add(g, live[i].frame, d->vid);
    while (++i < max && live[i].dest == index);
    return i;
}

/* Sorts a frame into the groups of everybody else in its segment. */
static enum drop_reason flood(struct pass *ps, struct frame *f)
{
    const struct segment_list *list = segment_members(ps->core->segments, f->segment);

    /* The sender is one of the members. */
    if (!list || list->n < 2)
        return DROP_no_receiver;
    if (!flood_charge(&ps->from->flood, list->n - 1, ps->now_ns))
        return DROP_flood_budget;
    f->flooded = 1;
    for (uint32_t i = 0; i < list->n; i++) {
        const struct member *m = &list->member[i];

        if (m->port != ps->from)
            group_add_copy(delivery_group(&ps->s->delivery, m->port), f, m->vid);
    }
    ps->in->flooded++;
    return DROP_none;
}

/* Fourth pass. */
static void sort_all(struct pass *ps)
{
    const struct live *live = ps->s->live;

    for (uint32_t i = 0; i < ps->n_live;) {
        const struct dest *d = &ps->s->dest[live[i].dest];
        enum drop_reason why;

        if (likely(d->group != NULL)) {
            i += add_run(d, &live[i], ps->n_live - i);
            continue;
        }
        why = d->same_port ? DROP_same_port : flood(ps, live[i].frame);
        if (why != DROP_none) {
            live[i].frame->drop = (uint8_t)why;
            ps->in->drop[why]++;
        }
        i++;
    }
}

void switch_burst(struct switch_core *core, struct switch_scratch *s, struct rxq *q, struct burst *b,
                  uint64_t now_ns)
{
    struct port *from = q->port;
    const struct port_tags *tags = atomic_load_explicit(&from->tags, memory_order_acquire);
    struct pass ps = {
        .core = core,
        .s = s,
        .from = from,
        .in = &from->state->in[q->index],
        .tags = tags ? tags : &no_rows,
        .policy = policy_of(from),
        .now_ns = now_ns,
        .n_dest = DEST_FLOOD + 1,
    };

    if (unlikely(port_is_broken(from) || b->n == 0))
        return;
    fdb_tick(core->fdb, now_ns);
    classify_all(&ps, b);
    learn_all(&ps);
    resolve_all(&ps);
    fdb_memo_judge(&s->memo, ps.n_source + ps.n_dest);
    sort_all(&ps);
    delivery_send(&s->delivery);
}
