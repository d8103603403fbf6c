/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_tx_packed.c - a guest that writes anything into its transmit ring
 * (packed), beside one that only receives.
 *
 * Claimed, whatever the first one writes:
 *   - each frame the other one gets is, byte by byte, a frame that lay in a
 *     chain of the first, and they come in order;
 *   - chains come back in the order in which they were offered, each where it
 *     began, with its id, with length 0, and none that is not whole;
 *   - every chain taken is a frame or a named drop, but for those of the burst
 *     that breaks the port;
 *   - a chain that goes on into what is not available breaks the port, and
 *     nothing else does;
 *   - nothing but those descriptors and the event suppression is written into
 *     the sender's memory.
 *
 * What comes back changes a table, or the type field of a frame, that lies in
 * the ring itself; what such frames are is not claimed.
 *
 * BUG length_forgotten vhost/virtq_packed_rx.c
 *   - vq->taken_len[vq->n_taken] = c.cursor.n;
 *   + vq->taken_len[vq->n_taken] = 1;
 *   ! not true: memcmp(expected
 * BUG id_of_the_first vhost/virtq_packed.h
 *   - *c = (struct packed_cursor){ pos, d->next, (uint16_t)(c->n + 1), d->flags & VRING_DESC_F_NEXT };
 *   + *c = (struct packed_cursor){ pos, c->id, (uint16_t)(c->n + 1), d->flags & VRING_DESC_F_NEXT };
 *   ! not true: used_state(state
 */
#include <string.h>

#include "fuzz_tx.h"

#define WRAP 0x8000u
#define TABLE_MAX 1024u     /* descriptors; no ring here is longer */

/**
 * struct sent_chain - a chain as it lay in the ring
 * @pos: position of its first descriptor
 * @id: buffer id, the last one's
 * @bytes: in its pieces, -1: malformed
 * @first: its pieces begin here
 * @pieces: how many
 */
struct sent_chain {
    uint16_t pos;
    uint16_t id;
    long bytes;
    unsigned first;
    unsigned pieces;
};

static struct fuzz_tx tx;
static struct fuzz_guest *const sender = &tx.sender;

/* What was offered in a round; how many were compared, and came back. */
static struct sent_chain chain[FG_RING_MAX];
static unsigned n_chains, compared, returned;
static struct piece piece[4 * FG_PIECES_MAX];
static unsigned n_pieces;
/* What the sender's file must be, but for what moves. */
static uint8_t expected[FG_FILE];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    tx_open(&tx);
    memset(tx.moves + FG_OFFSET0, 1, FG_TABLE - FG_GPA);
    return 0;
}

static uint16_t after(uint16_t pos)
{
    const uint16_t next = (uint16_t)(pos + 1);

    return (next & ~WRAP) == sender->size ? (next & WRAP) ^ WRAP : next;
}

static uint64_t state_at(uint16_t pos)
{
    struct pvirtq_desc d;

    fuzz_read(sender, FG_RING(1) + (pos & ~WRAP) * sizeof(d), &d, sizeof(d));
    return le64_to_cpu(d.state);
}

static bool is_avail(uint64_t state, uint16_t pos)
{
    const uint16_t both = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

    return (state >> 48 & both) == (pos & WRAP ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);
}

static bool used_state(uint64_t state, uint16_t pos, uint16_t id)
{
    const uint64_t both = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

    return state == ((pos & WRAP ? both : 0) << 48 | (uint64_t)id << 32);
}

/* A buffer of the chain; false: it is malformed. */
static bool add_buffer(struct sent_chain *c, uint64_t addr, uint32_t len)
{
    unsigned more = 0;
    bool good;

    if (n_pieces + 2 > sizeof(piece) / sizeof(piece[0])) {
        tx.unclear = true; /* too many pieces */
        return false;
    }
    good = fuzz_pieces(sender, addr, len, piece + n_pieces, &more);
    n_pieces += more;
    c->pieces += more;
    c->bytes += len;
    return good;
}

/* 2.8.7; a driver may leave WRITE set there. */
static bool add_table(struct sent_chain *c, uint64_t addr, uint32_t len)
{
    struct pvirtq_desc d;

    if (!(sender->features & F(F_RING_INDIRECT_DESC)) || len == 0 || len % sizeof(d) || len > FG_SIZE ||
        addr - FG_GPA > FG_SIZE - len)
        return false;
    tx.unclear = tx.unclear || addr < FG_TABLE;
    for (uint32_t i = 0; i < len / sizeof(d); i++) {
        uint64_t state;

        fuzz_read(sender, addr + i * sizeof(d), &d, sizeof(d));
        state = le64_to_cpu(d.state);
        if (i == TABLE_MAX || state >> 48 & VRING_DESC_F_INDIRECT ||
            !add_buffer(c, le64_to_cpu(d.addr), (uint32_t)state))
            return false;
    }
    return true;
}

static bool add_desc(struct sent_chain *c, uint16_t pos, bool first)
{
    struct pvirtq_desc d;
    uint64_t state, flags;

    fuzz_read(sender, FG_RING(1) + (pos & ~WRAP) * sizeof(d), &d, sizeof(d));
    state = le64_to_cpu(d.state);
    flags = state >> 48;
    if (flags & VRING_DESC_F_INDIRECT)
        return first && !(flags & VRING_DESC_F_NEXT) && add_table(c, le64_to_cpu(d.addr), (uint32_t)state);
    return !(flags & VRING_DESC_F_WRITE) && add_buffer(c, le64_to_cpu(d.addr), (uint32_t)state);
}

/* What is available from here on; false if the last chain does not end. */
static bool read_ring(uint16_t pos)
{
    uint32_t left = sender->size;

    n_chains = compared = returned = n_pieces = 0;
    while (left && is_avail(state_at(pos), pos)) {
        struct sent_chain *const c = &chain[n_chains];
        bool good = true, first = true, more = true;

        *c = (struct sent_chain){ .pos = pos, .first = n_pieces };
        for (; more; first = false, pos = after(pos)) {
            const uint64_t state = state_at(pos);

            if (left-- == 0 || !is_avail(state, pos))
                return false;
            good = good && add_desc(c, pos, first);
            c->id = (uint16_t)(state >> 32);
            more = state >> 48 & VRING_DESC_F_NEXT;
        }
        if (!good)
            c->bytes = -1;
        n_chains++;
        sender->avail_idx[1] = pos;
    }
    return true;
}

/* Each frame received is that of a chain not compared yet; those in between were dropped. */
static void compare_frames(void)
{
    long n;

    while ((n = tx_receive(&tx)) >= 0) {
        while (!tx.unclear) {
            const struct sent_chain *const c = &chain[compared];

            MUST(compared < n_chains);
            compared++;
            if (tx_frame(&tx, piece + c->first, c->pieces, c->bytes) == n && tx_same(&tx, n))
                break;
        }
    }
}

/* Chains that came back leave their mark, once. */
static void take_returned(void)
{
    for (; returned < n_chains; returned++) {
        const struct sent_chain *const c = &chain[returned];
        const uint64_t state = state_at(c->pos);
        const size_t at = FG_OFFSET0 + (FG_RING(1) - FG_GPA) + (c->pos & ~WRAP) * sizeof(struct pvirtq_desc) + 8;

        if (is_avail(state, c->pos))
            return;
        MUST(used_state(state, c->pos, c->id));
        memcpy(expected + at, sender->file + at, sizeof(state));
    }
}

static void compare_memory(void)
{
    const size_t event = FG_OFFSET0 + (FG_RING(1) - FG_GPA) + FG_USED;

    memcpy(expected + event, sender->file + event, sizeof(struct pvirtq_event_suppress));
    MUST(memcmp(expected, sender->file, FG_FILE) == 0);
}

/* The descriptor at a position, mostly available; as in a split ring, but for the id. */
static void write_desc(struct input *in, uint16_t pos)
{
    const struct vring_desc wild = fuzz_desc(in, sender->size);
    const uint8_t turn = in8(in);
    const uint64_t avail = pos & WRAP ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
    uint64_t flags = le16_to_cpu(wild.flags) & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT);
    struct pvirtq_desc d = { .addr = wild.addr };

    if (turn & 1)
        flags &= ~(uint64_t)VRING_DESC_F_WRITE;
    flags |= turn < 0xf8 ? avail : (uint64_t)turn << 8 & (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED);
    d.state = cpu_to_le64(flags << 48 | (uint64_t)le16_to_cpu(wild.next) << 32 | le32_to_cpu(wild.len));
    fuzz_write(sender, FG_RING(1) + (pos & ~WRAP) * sizeof(d), &d, sizeof(d));
}

static void write_ring(struct input *in)
{
    const unsigned n_desc = in8(in) % 48, n_table = in8(in) % 24;
    uint16_t pos = sender->avail_idx[1];

    for (unsigned i = 0; i < n_table; i++) {
        const struct vring_desc d = fuzz_desc(in, 16);
        const struct pvirtq_desc entry = {
            d.addr, cpu_to_le64((uint64_t)le16_to_cpu(d.flags) << 48 | le32_to_cpu(d.len)) };

        fuzz_write(sender, FG_TABLE + i * sizeof(entry), &entry, sizeof(entry));
    }
    tx_write_data(&tx, in);
    for (unsigned i = 0; i < n_desc && i < sender->size; i++, pos = after(pos))
        write_desc(in, pos);
}

/* Is there something that the switch has to come to yet? */
static bool waits(bool good)
{
    return returned < n_chains || (!good && !sender->state->broken);
}

/* False: the sender's port is broken, as it must be. */
static bool one_round(struct input *in)
{
    const uint64_t taken = fuzz_drops(sender->state->in) + sender->state->in->frames;
    bool good;

    write_ring(in);
    good = read_ring(sender->avail_idx[1]);
    memcpy(tx.before, sender->file, FG_FILE);
    memcpy(expected, sender->file, FG_FILE);
    for (unsigned turn = 0; turn < 4 + FG_RING_MAX && (turn < 2 || waits(good)); turn++) {
        (void)uswitch_poll(sender->us);
        take_returned();
    }
    compare_memory();
    compare_frames();
    MUST(good == !sender->state->broken);
    MUST(returned == n_chains);
    /* A frame may be taken in and dropped by the switch, so these are at least as many. */
    MUST(!good || fuzz_drops(sender->state->in) + sender->state->in->frames - taken >= returned);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };

    tx_start(&tx, &in, F(F_RING_PACKED), 0x0001);
    for (unsigned round = 0; round < TX_ROUNDS && (round == 0 || in.left); round++) {
        tx_offer_buffers(&tx);
        if (!one_round(&in))
            break;
    }
    MUST(fuzz_canary_alive(sender) && fuzz_canary_alive(&tx.receiver));
    return 0;
}
