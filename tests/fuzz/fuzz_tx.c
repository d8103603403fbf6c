/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_tx.c - see fuzz_tx.h.
 */
#include "fuzz_tx.h"

#include <string.h>

#define SENDER 1
#define RECEIVER 2
#define RX_SIZE 64u
#define RX_BUF_LEN 1000u

/* What the receiver takes: everything, so that frames arrive as they were sent. */
#define RX_FEATURES (F(F_VERSION_1) | F(NET_F_MRG_RXBUF) | F(NET_F_GUEST_CSUM) | F(NET_F_GUEST_TSO4) | \
                     F(NET_F_GUEST_TSO6) | F(NET_F_GUEST_ECN) | F(NET_F_GUEST_USO4) | F(NET_F_GUEST_USO6))

/* What the sender may ask for. */
#define TX_FEATURES (F(NET_F_MRG_RXBUF) | F(NET_F_CSUM) | F(NET_F_HOST_TSO4) | F(NET_F_HOST_TSO6) | \
                     F(NET_F_HOST_ECN) | F(NET_F_HOST_USO) | F(F_RING_INDIRECT_DESC) | F(F_RING_EVENT_IDX))

void tx_open(struct fuzz_tx *t)
{
    struct uswitch *const us = fuzz_switch();

    fuzz_plug(&t->sender, us, SENDER);
    fuzz_plug(&t->receiver, us, RECEIVER);
}

void tx_start(struct fuzz_tx *t, struct input *in, uint64_t layout, uint16_t base)
{
    const uint16_t choice = in16(in);
    const uint64_t chosen = layout | (choice & 1 ? F(F_VERSION_1) : 0) | (choice & 2 ? TX_FEATURES : 0) |
                            (choice & 4 ? F(F_RING_INDIRECT_DESC) : 0);
    const struct us_port_limits limits = { .port_id = SENDER, .fdb_quota = 8,
                                           .max_frame = choice & 8 ? US_FRAME_MAX : US_FRAME_MIN + in8(in) * 8u };
    uint32_t size = 2u << (choice >> 8) % 6;

    /* 2.8.10.1: a packed ring may have any size. */
    if ((layout & F(F_RING_PACKED)) && choice & 0x20)
        size = 2 + (choice >> 8) % (FG_RING_MAX - 1);
    t->unclear = false;
    MUST(uswitch_port_limits(t->sender.us, &limits) == 0);
    if (!(choice & 0x10))
        base = layout & F(F_RING_PACKED) ? 0x8000 : 0;
    fuzz_restart(&t->sender, chosen, size, base);
}

void tx_offer_buffers(struct fuzz_tx *t)
{
    fuzz_restart(&t->receiver, RX_FEATURES, RX_SIZE, 0);
    for (uint16_t i = 0; i < RX_SIZE; i++) {
        const struct vring_desc d = { .addr = cpu_to_le64(FG_BUF + i * RX_BUF_LEN), .len = cpu_to_le32(RX_BUF_LEN),
                                      .flags = cpu_to_le16(VRING_DESC_F_WRITE) };

        fuzz_put_desc(&t->receiver, FG_RING(0), i, &d);
        fuzz_offer(&t->receiver, 0, i);
    }
    fuzz_publish(&t->receiver, 0, t->receiver.avail_idx[0]);
}

void tx_write_data(const struct fuzz_tx *t, struct input *in)
{
    for (unsigned left = in8(in) % 8; left; left--) {
        const uint64_t gpa = FG_BUF + in16(in) % (FG_BUF_BYTES - 64);
        uint8_t bytes[32];

        in_bytes(in, bytes, sizeof(bytes));
        fuzz_write(&t->sender, gpa, bytes, sizeof(bytes));
    }
}

long tx_receive(struct fuzz_tx *t)
{
    uint32_t id, len, buffers = 1;
    long n = 0;

    for (uint32_t i = 0; i < buffers; i++) {
        if (!fuzz_used(&t->receiver, 0, &id, &len)) {
            MUST(i == 0);
            return -1;
        }
        MUST(id < RX_SIZE && len <= RX_BUF_LEN && n + len <= TX_FRAME_MAX);
        fuzz_read(&t->receiver, FG_BUF + id * RX_BUF_LEN, t->got + n, len);
        if (i == 0) {
            MUST(len >= 12 + US_FRAME_MIN);
            buffers = t->got[10] | (uint32_t)t->got[11] << 8;
            MUST(buffers >= 1 && buffers <= RX_SIZE);
        }
        n += len;
    }
    memmove(t->got, t->got + 12, (size_t)n - 12);
    return n - 12;
}

long tx_frame(struct fuzz_tx *t, const struct piece *piece, unsigned pieces, long bytes)
{
    const uint32_t hdr_len = t->sender.features & (F(F_VERSION_1) | F(NET_F_MRG_RXBUF)) ? 12 : 10;
    uint8_t *const sent = t->sent;
    long n = bytes, filled = 0;

    if (n < (long)hdr_len + US_FRAME_MIN || n > (long)TX_FRAME_MAX)
        return -1;
    for (unsigned i = 0; i < pieces; i++) {
        const size_t where = (size_t)(piece[i].at - t->sender.file);

        memcpy(sent + filled, t->before + where, piece[i].len);
        memcpy(t->moving + filled, t->moves + where, piece[i].len);
        filled += piece[i].len;
    }
    n -= hdr_len;
    memmove(sent, sent + hdr_len, (size_t)n);
    memmove(t->moving, t->moving + hdr_len, (size_t)n);
    if (n >= 18 && memchr(t->moving + 12, 1, 4))
        t->unclear = true; /* is there a tag? */
    if (n >= 18 && sent[12] == 0x81 && sent[13] == 0 && (sent[14] & 0x0f) == 0 && sent[15] == 0) {
        memmove(sent + 12, sent + 16, (size_t)n - 16);
        memmove(t->moving + 12, t->moving + 16, (size_t)n - 16);
        n -= 4;
    }
    return n;
}

bool tx_same(const struct fuzz_tx *t, long n)
{
    for (long i = 0; i < n; i++) {
        if (t->sent[i] != t->got[i] && !t->moving[i])
            return false;
    }
    return true;
}
