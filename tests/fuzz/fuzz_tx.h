/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_tx.h - what the targets for the two layouts of a transmit ring share: a
 * guest that writes anything into its ring, one that only receives, and frames
 * as they lay in the first one's memory compared with what the second one got.
 */
#ifndef USWITCH_FUZZ_TX_H
#define USWITCH_FUZZ_TX_H

#include "fuzz_guest.h"

#define TX_FRAME_MAX (US_FRAME_MAX + 12)
#define TX_ROUNDS 4u

#define F(bit) VIRTIO_BIT(VIRTIO_##bit)

/**
 * struct fuzz_tx - two guests, and a frame on its way from one to the other
 * @sender: writes anything
 * @receiver: takes everything, so that frames arrive as they were sent
 * @before: the sender's file before the switch looked
 * @moves: 1 where the switch itself writes in that file
 * @sent: a frame as it lay there, virtio-net header and priority tag cut off
 * @moving: 1 where a byte of @sent may have moved meanwhile
 * @got: a frame as it was received
 * @unclear: what was sent cannot be known: a type field, or a table of descriptors, lay where the switch writes
 */
struct fuzz_tx {
    struct fuzz_guest sender, receiver;
    uint8_t before[FG_FILE];
    uint8_t moves[FG_FILE];
    uint8_t sent[TX_FRAME_MAX];
    uint8_t moving[TX_FRAME_MAX];
    uint8_t got[TX_FRAME_MAX];
    bool unclear;
};

/* Plug both into a new switch. */
void tx_open(struct fuzz_tx *t);
/* Start the sender's rings: layout as said; sizes, offloads, longest frame as the input chooses, perhaps at @base. */
void tx_start(struct fuzz_tx *t, struct input *in, uint64_t layout, uint16_t base);
/* Start the receiver's rings with buffers for everything. */
void tx_offer_buffers(struct fuzz_tx *t);
/* Data for buffers: a few bytes here and there. */
void tx_write_data(const struct fuzz_tx *t, struct input *in);
/* The next frame from the receiver's buffers into @got: its length, or -1. */
long tx_receive(struct fuzz_tx *t);

/**
 * tx_frame() - the frame that the pieces of a chain hold
 * @t: its bytes are taken from @before
 * @piece: pieces
 * @pieces: how many
 * @bytes: in all of them, -1: the chain is malformed
 *
 * Return: its length in @sent, or -1 if it is none.
 */
long tx_frame(struct fuzz_tx *t, const struct piece *piece, unsigned pieces, long bytes);

/* Are the first n bytes of @got those of @sent, as far as these did not move? */
bool tx_same(const struct fuzz_tx *t, long n);

#endif /* USWITCH_FUZZ_TX_H */
