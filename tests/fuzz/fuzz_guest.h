/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_guest.h - what the fuzz targets share: the fuzzer's bytes as a stream,
 * and a guest on a real switch whose rings those bytes write.
 *
 * The guest's memory is two regions of one file that touch in guest-physical
 * addresses and lie apart in the file, neither of which begins or ends with a
 * page.  What a region's mapping has beyond the region is a canary, and the
 * pages around each mapping cannot be touched (fuzz_mmap.c).
 *
 * Everything goes through the calls of uswitch.h, so that the targets outlive
 * changes of what is below.
 */
#ifndef USWITCH_FUZZ_GUEST_H
#define USWITCH_FUZZ_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/virtq_spec.h"
#include "drop.h"
#include "include/uswitch.h"

#define FG_GPA 0x100000ULL
#define FG_SIZE0 0xb010u
#define FG_SIZE1 0x5ff0u
#define FG_SIZE (FG_SIZE0 + FG_SIZE1)
#define FG_OFFSET0 0x1010u              /* in the file */
#define FG_OFFSET1 0xe020u
#define FG_FILE 0x16000u
#define FG_UVA 0x7e0000000000ULL        /* uva = gpa + this */
#define FG_CANARY 0xa5

#define FG_RING_MAX 64u                 /* descriptors */
#define FG_RING(r) (FG_GPA + (r) * 0x800u)
#define FG_AVAIL 0x400u                 /* behind the ring's start */
#define FG_USED 0x500u
#define FG_TABLE (FG_GPA + 0x1000u)     /* room for indirect tables */
#define FG_BUF (FG_GPA + 0x1400u)       /* buffers, to the end of memory */
#define FG_BUF_BYTES (FG_SIZE - 0x1400u)

/* What fails here is what libFuzzer is to find: it ends the program. */
void fuzz_fail(const char *what, const char *file, int line) __attribute__((noreturn));
#define MUST(cond)                                  \
    do {                                            \
        if (!(cond))                                \
            fuzz_fail(#cond, __FILE__, __LINE__);   \
    } while (0)

/**
 * struct input - the fuzzer's bytes; zeros when they are used up
 * @at: next byte
 * @left: how many are left
 */
struct input {
    const uint8_t *at;
    size_t left;
};

void in_bytes(struct input *in, void *out, size_t n);
uint8_t in8(struct input *in);
uint16_t in16(struct input *in);
uint32_t in32(struct input *in);

/**
 * struct fuzz_guest - a guest and its port
 * @us: its switch
 * @id: its port
 * @memfd: its memory
 * @file: the whole file, mapped
 * @state: its state page
 * @call: eventfd, never read
 * @features: of the rings now
 * @size: descriptors of each ring
 * @avail_idx: next avail index of each ring; packed: position of what is offered next
 * @used_idx: used entries seen of each ring; packed: position of what comes back next
 */
struct fuzz_guest {
    struct uswitch *us;
    uint32_t id;
    int memfd;
    uint8_t *file;
    const struct us_state_page *state;
    int call;
    uint64_t features;
    uint32_t size;
    uint16_t avail_idx[2];
    uint16_t used_idx[2];
};

/* A switch without threads; ends the program if that fails, as all of these do. */
struct uswitch *fuzz_switch(void);
/* Plug a guest into segment 1, untagged, rings stopped. */
void fuzz_plug(struct fuzz_guest *g, struct uswitch *us, uint32_t id);
/* Stop both rings, wipe memory, start them with other features and size from an index on. */
void fuzz_restart(struct fuzz_guest *g, uint64_t features, uint32_t size, uint16_t base);

/* The byte at a guest-physical address, NULL outside of memory. */
uint8_t *fuzz_at(const struct fuzz_guest *g, uint64_t gpa);
/* Copy bytes that are known to be inside. */
void fuzz_write(const struct fuzz_guest *g, uint64_t gpa, const void *src, size_t n);
void fuzz_read(const struct fuzz_guest *g, uint64_t gpa, void *dst, size_t n);
/* Do all bytes outside of the two regions hold the canary? */
bool fuzz_canary_alive(const struct fuzz_guest *g);

/* A descriptor as the fuzzer wants it: mostly inside memory, anything if it insists. */
struct vring_desc fuzz_desc(struct input *in, uint32_t entries);
void fuzz_put_desc(const struct fuzz_guest *g, uint64_t table, uint32_t i, const struct vring_desc *d);

/* Split rings. */
void fuzz_offer(struct fuzz_guest *g, unsigned ring, uint16_t head);
void fuzz_publish(const struct fuzz_guest *g, unsigned ring, uint16_t idx);
bool fuzz_used(struct fuzz_guest *g, unsigned ring, uint32_t *id, uint32_t *len);

/**
 * struct piece - some bytes of a chain, contiguous in our mapping
 * @at: in the file's mapping
 * @len: bytes, > 0
 */
struct piece {
    uint8_t *at;
    uint32_t len;
};

#define FG_PIECES_MAX 256u

/* A buffer's bytes as pieces, two at most, behind the n there are; false if one of them lies outside of memory. */
bool fuzz_pieces(const struct fuzz_guest *g, uint64_t gpa, uint32_t len, struct piece *piece, unsigned *n);

/**
 * fuzz_chain() - walk a chain as the specification reads
 * @g: guest
 * @ring: 0 receives, 1 transmits
 * @head: first descriptor
 * @piece: FG_PIECES_MAX pieces to fill
 * @n: how many were filled
 *
 * Return: bytes, or -1 if the chain is malformed.
 */
long fuzz_chain(const struct fuzz_guest *g, unsigned ring, uint16_t head, struct piece *piece, unsigned *n);

/* Sums of the drop counters of a direction. */
uint64_t fuzz_drops(const struct us_queue_counters *c);

#endif /* USWITCH_FUZZ_GUEST_H */
