/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_rx.c - a guest that offers anything as receive buffers (split ring),
 * while a well-behaved one sends.
 *
 * Claimed, whatever the first one writes:
 *   - no byte of its memory changes, except in buffers that a chain it offered
 *     lets the device write, and in the used ring;
 *   - what it gets, put together by num_buffers, is byte by byte one of the
 *     frames sent, in order, behind a virtio-net header that asks for nothing;
 *   - chains come back in the order in which they were offered;
 *   - every frame sent is delivered or a named drop.
 *
 * A guest whose buffers lie over its own rings or over each other changes what
 * is being read, so only the first, third and fourth are claimed for it, and
 * the first only as "nothing outside of memory".
 *
 * BUG writes_past_the_buffer vhost/virtq_split_tx.c
 *   - if (__builtin_expect(need > s->room, 0))
 *   + if (__builtin_expect(need > s->room + (s->room ? 64 : 0), 0))
 *   ! not true: memcmp(before, receiver.file OR not true: fuzz_canary_alive(&receiver)
 */
#include <string.h>

#include "fuzz_guest.h"

#define SENDER 1
#define RECEIVER 2
#define FRAME_MAX (US_FRAME_MAX + 12)
#define FRAMES_MAX 64u
#define TX_SIZE 64u
#define TX_BUF_LEN 1000u

#define F(bit) VIRTIO_BIT(VIRTIO_##bit)

/**
 * struct offered - a chain the receiver offered, as it was then
 * @head: first descriptor
 * @bytes: writable bytes, -1 if the chain is malformed
 */
struct offered {
    uint16_t head;
    long bytes;
};

static struct fuzz_guest sender, receiver;
static uint8_t before[FG_FILE], pattern[FRAMES_MAX][TX_BUF_LEN];
static struct piece piece[FG_PIECES_MAX];
/* All pieces that the device may write, and 1 for each byte of them. */
static struct piece target[FG_RING_MAX * FG_PIECES_MAX];
static uint8_t writable[FG_FILE];
static unsigned n_targets;
static struct offered offered[FG_RING_MAX];
static unsigned n_offered;
static uint8_t got[FRAME_MAX];
static uint16_t length[FRAMES_MAX];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct uswitch *const us = fuzz_switch();
    static const uint8_t front[14] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };

    (void)argc;
    (void)argv;
    for (unsigned i = 0; i < FRAMES_MAX; i++) {
        for (unsigned k = 0; k < TX_BUF_LEN; k++)
            pattern[i][k] = k < sizeof(front) ? front[k] : (uint8_t)(i * 37 + k * 11 + (k >> 8));
    }
    fuzz_plug(&sender, us, SENDER);
    fuzz_plug(&receiver, us, RECEIVER);
    return 0;
}

static void send_frame(unsigned i, uint16_t len)
{
    const uint64_t buf = FG_BUF + i * TX_BUF_LEN;
    const struct vring_desc d = { .addr = cpu_to_le64(buf), .len = cpu_to_le32(12u + len) };

    length[i] = len;
    fuzz_write(&sender, buf + 12, pattern[i], len);
    fuzz_put_desc(&sender, FG_RING(1), i, &d);
    fuzz_offer(&sender, 1, (uint16_t)i);
}

static void write_ring(struct input *in)
{
    const unsigned n_desc = in8(in) % 32, n_table = in8(in) % 24, n_offer = in8(in) % (FG_RING_MAX + 1);

    for (unsigned i = 0; i < n_desc; i++) {
        const struct vring_desc d = fuzz_desc(in, receiver.size);

        fuzz_put_desc(&receiver, FG_RING(0), in8(in) % receiver.size, &d);
    }
    for (unsigned i = 0; i < n_table; i++) {
        const struct vring_desc d = fuzz_desc(in, 16);

        fuzz_put_desc(&receiver, FG_TABLE, i, &d);
    }
    for (unsigned i = 0; i < n_offer; i++) {
        const uint16_t head = in8(in);

        fuzz_offer(&receiver, 0, head & 0x80 ? head : head % receiver.size);
    }
}

/* What the avail ring says; nothing if its index is too far ahead. */
static void look_at_avail(uint16_t from, uint16_t to)
{
    n_offered = (uint16_t)(to - from) <= receiver.size ? (uint16_t)(to - from) : 0;
    for (unsigned i = 0; i < n_offered; i++) {
        le16 head;

        fuzz_read(&receiver, FG_RING(0) + FG_AVAIL + 4 + 2 * ((from + i) % receiver.size), &head, sizeof(head));
        offered[i].head = le16_to_cpu(head);
    }
}

/* What the device may write; false if that overlaps, or lies over what is read. */
static bool mark_writable(void)
{
    const size_t tables_end = FG_OFFSET0 + (FG_BUF - FG_GPA);
    bool clean = true;

    memset(writable, 0, sizeof(writable));
    n_targets = 0;
    for (unsigned i = 0; i < n_offered; i++) {
        struct offered *const o = &offered[i];
        unsigned pieces = 0;

        o->bytes = o->head < receiver.size ? fuzz_chain(&receiver, 0, o->head, piece, &pieces) : -1;
        for (unsigned k = 0; k < pieces; k++) {
            const size_t where = (size_t)(piece[k].at - receiver.file);

            clean = clean && where >= tables_end && !memchr(writable + where, 1, piece[k].len);
            memset(writable + where, 1, piece[k].len);
            target[n_targets++] = piece[k];
        }
    }
    return clean;
}

/* A malformed chain may have been filled up to where it is malformed. */
static bool all_well_formed(void)
{
    for (unsigned i = 0; i < n_offered; i++) {
        if (offered[i].bytes < 0)
            return false;
    }
    return true;
}

/* What may have changed is taken over; then nothing else may differ. */
static void compare_memory(void)
{
    const size_t bytes = VRING_USED_BYTES(receiver.size);

    for (unsigned ring = 0; ring < 2; ring++) {
        const size_t used = FG_OFFSET0 + (FG_RING(ring) - FG_GPA) + FG_USED;

        memcpy(before + used, receiver.file + used, bytes);
    }
    for (unsigned i = 0; i < n_targets; i++)
        memcpy(before + (target[i].at - receiver.file), target[i].at, target[i].len);
    MUST(memcmp(before, receiver.file, FG_FILE) == 0);
}

/* Put a frame together; -1 if there is none. Empty chains were malformed. */
static long receive(unsigned *chain, uint32_t hdr_len)
{
    uint32_t id, len, buffers = 1;
    long n = 0;

    for (uint32_t i = 0; i < buffers; i++) {
        uint32_t left;
        unsigned pieces;

        do {
            if (!fuzz_used(&receiver, 0, &id, &len)) {
                MUST(i == 0);
                return -1;
            }
            MUST(*chain < n_offered && id == offered[(*chain)++].head);
        } while (len == 0);
        left = len;
        MUST(fuzz_chain(&receiver, 0, (uint16_t)id, piece, &pieces) >= (long)len && n + len <= FRAME_MAX);
        for (unsigned k = 0; k < pieces && left; k++) {
            const uint32_t part = piece[k].len < left ? piece[k].len : left;

            memcpy(got + n, piece[k].at, part);
            n += part;
            left -= part;
        }
        if (i == 0) {
            MUST(len >= hdr_len);
            buffers = hdr_len == 12 ? got[10] | (uint32_t)got[11] << 8 : 1;
            MUST(buffers >= 1 && buffers <= receiver.size);
        }
    }
    return n;
}

static void compare_frames(unsigned n_frames)
{
    const uint32_t hdr_len = receiver.features ? 12 : 10;
    unsigned chain = 0, frame = 0;
    uint64_t delivered = 0;
    long n;

    while ((n = receive(&chain, hdr_len)) >= 0) {
        /* What was not delivered is passed over. */
        while (frame < n_frames && (length[frame] + (long)hdr_len != n ||
                                    memcmp(got + hdr_len, pattern[frame], length[frame])))
            frame++;
        MUST(frame++ < n_frames);
        for (unsigned i = 0; i < 10; i++)
            MUST(got[i] == 0);
        delivered++;
    }
    MUST(delivered <= n_frames);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    const uint8_t choice = in8(&in);
    const uint64_t features = (choice & 1 ? F(F_VERSION_1) : 0) | (choice & 2 ? F(NET_F_MRG_RXBUF) : 0) |
                              (choice & 3 ? (choice & 4 ? F(F_RING_INDIRECT_DESC) : 0) : 0);
    const unsigned n_frames = 1 + in8(&in) % FRAMES_MAX;
    const struct us_queue_counters *out;
    uint64_t counted;
    uint16_t base, idx;
    bool clean;

    fuzz_restart(&sender, F(F_VERSION_1), TX_SIZE, 0);
    fuzz_restart(&receiver, features, 2u << (choice >> 3) % 6, (uint16_t)(choice & 0x80 ? 0xfff0 : 0));
    for (unsigned i = 0; i < n_frames; i++)
        send_frame(i, (uint16_t)(US_FRAME_MIN + (in8(&in) * 17u) % (TX_BUF_LEN - 12 - US_FRAME_MIN)));
    base = receiver.avail_idx[0];
    write_ring(&in);
    idx = in8(&in) == 0xff ? in16(&in) : receiver.avail_idx[0];
    look_at_avail(base, idx);
    clean = mark_writable();
    fuzz_publish(&receiver, 0, idx);
    memcpy(before, receiver.file, FG_FILE);
    out = receiver.state->out;
    counted = out->frames + fuzz_drops(out);
    fuzz_publish(&sender, 1, sender.avail_idx[1]);
    for (unsigned turn = 0; turn < 4; turn++)
        (void)uswitch_poll(sender.us);
    MUST(out->frames + fuzz_drops(out) - counted == n_frames);
    if (clean && all_well_formed()) {
        compare_memory();
        if (!receiver.state->broken)
            compare_frames(n_frames);
    }
    MUST(fuzz_canary_alive(&receiver));
    return 0;
}
