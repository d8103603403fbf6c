/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_tx_split.c - a guest that writes anything into its transmit ring
 * (split), beside one that only receives.
 *
 * Claimed, whatever the first one writes:
 *   - each frame the other one gets is, byte by byte, a frame that lay in a
 *     chain of the first, and they come in order;
 *   - chains come back in the order in which they were offered, with length 0;
 *   - every chain taken is a frame or a named drop;
 *   - nothing but used entries is written into the sender's memory.
 *
 * BUG region_end_ignored vhost/guest_mem.h
 *   - *span = len <= r->size - off ? len : r->size - off;
 *   + *span = len <= r->size - off + 8 ? len : r->size - off;
 *   ! not true: compared < n_heads
 * BUG snapshot_from_the_wrong_place vhost/virtq_take.h
 *   - *iov = (struct iovec){ (void *)(uintptr_t)(src + SNAP_SHORT), len - snapped };
 *   + *iov = (struct iovec){ (void *)(uintptr_t)(src + SNAP_SHORT - 1), len - snapped };
 *   ! not true: compared < n_heads
 */
#include <string.h>

#include "fuzz_tx.h"

static struct fuzz_tx tx;
static struct fuzz_guest *const sender = &tx.sender;

/* Heads in the order of the avail ring; how many of them were compared, and came back. */
static uint16_t heads[TX_ROUNDS * FG_RING_MAX];
static unsigned n_heads, compared, returned;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where a ring's used ring lies in the file. */
static size_t used_of(unsigned ring)
{
    return FG_OFFSET0 + (FG_RING(ring) - FG_GPA) + FG_USED;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    tx_open(&tx);
    for (unsigned ring = 0; ring < 2; ring++)
        memset(tx.moves + used_of(ring), 1, VRING_USED_BYTES(FG_RING_MAX));
    return 0;
}

/* Each frame received is that of a chain not compared yet; those in between were dropped. */
static void compare_frames(void)
{
    struct piece piece[FG_PIECES_MAX];
    unsigned pieces;
    long n, bytes;

    while ((n = tx_receive(&tx)) >= 0) {
        while (!tx.unclear) {
            MUST(compared < n_heads);
            bytes = fuzz_chain(sender, 1, heads[compared++], piece, &pieces);
            if (tx_frame(&tx, piece, pieces, bytes) == n && tx_same(&tx, n))
                break;
        }
    }
}

static void take_returned(void)
{
    uint32_t id, len;

    while (fuzz_used(sender, 1, &id, &len)) {
        MUST(returned < n_heads);
        MUST(id == heads[returned++] && len == 0);
    }
}

/* The used rings may have changed; nothing else may. */
static void compare_memory(void)
{
    const size_t bytes = VRING_USED_BYTES(sender->size);
    size_t at = 0;

    for (unsigned ring = 0; ring < 2; ring++) {
        MUST(memcmp(tx.before + at, sender->file + at, used_of(ring) - at) == 0);
        at = used_of(ring) + bytes;
    }
    MUST(memcmp(tx.before + at, sender->file + at, FG_FILE - at) == 0);
}

/* Write descriptors, tables and data as the input says, and offer some heads. */
static uint16_t write_ring(struct input *in)
{
    const unsigned n_desc = in8(in) % 24, n_table = in8(in) % 24, n_offer = in8(in) % 16;

    for (unsigned i = 0; i < n_desc; i++) {
        const struct vring_desc d = fuzz_desc(in, sender->size);

        fuzz_put_desc(sender, FG_RING(1), in8(in) % sender->size, &d);
    }
    for (unsigned i = 0; i < n_table; i++) {
        const struct vring_desc d = fuzz_desc(in, 16);

        fuzz_put_desc(sender, FG_TABLE, i, &d);
    }
    tx_write_data(&tx, in);
    for (unsigned i = 0; i < n_offer; i++) {
        const uint16_t head = in8(in);

        fuzz_offer(sender, 1, head & 0x80 ? head : head % sender->size);
    }
    return sender->avail_idx[1];
}

/* What the avail ring holds up to the index; false if that is further than it is long. */
static bool take_heads(uint16_t from, uint16_t to)
{
    if ((uint16_t)(to - from) > sender->size)
        return false;
    for (; from != to; from++) {
        le16 head;

        fuzz_read(sender, FG_RING(1) + FG_AVAIL + 4 + 2 * (from % sender->size), &head, sizeof(head));
        heads[n_heads++] = le16_to_cpu(head);
    }
    return true;
}

/* False: the sender's port is broken, as it must be. */
static bool one_round(struct input *in)
{
    const uint64_t taken = fuzz_drops(sender->state->in) + sender->state->in->frames;
    const uint16_t from = sender->avail_idx[1];
    const unsigned was_returned = returned;
    uint16_t idx = write_ring(in);
    bool good;

    if (in8(in) == 0xff)
        idx = in16(in);
    fuzz_publish(sender, 1, idx);
    sender->avail_idx[1] = idx;
    good = take_heads(from, idx);
    memcpy(tx.before, sender->file, FG_FILE);
    for (unsigned turn = 0; turn < 4 + FG_RING_MAX && (turn == 0 || returned < n_heads); turn++) {
        (void)uswitch_poll(sender->us);
        take_returned();
    }
    compare_memory();
    compare_frames();
    for (unsigned i = returned; i < n_heads; i++)
        good = good && heads[i] < sender->size;
    MUST(good == !sender->state->broken);
    MUST(!good || returned == n_heads);
    /* A frame may be taken in and dropped by the switch, so these are at least as many. */
    MUST(fuzz_drops(sender->state->in) + sender->state->in->frames - taken >= returned - was_returned);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };

    tx_start(&tx, &in, 0, 0xfff8);
    n_heads = compared = returned = 0;
    for (unsigned round = 0; round < TX_ROUNDS && (round == 0 || in.left); round++) {
        tx_offer_buffers(&tx);
        if (!one_round(&in))
            break;
    }
    MUST(fuzz_canary_alive(sender) && fuzz_canary_alive(&tx.receiver));
    return 0;
}
