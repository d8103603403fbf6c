/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * offload_source.h - what the tests of the software offloads share: scapy's
 * vectors, and frames that lie in memory as a guest chose to chop them.
 */
#ifndef USWITCH_TESTS_OFFLOAD_SOURCE_H
#define USWITCH_TESTS_OFFLOAD_SOURCE_H

#include "offload.h"

#define ALL_OFFLOADS (OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN | OFFLOAD_USO4 | OFFLOAD_USO6)
#define TCP4_LEN (14 + 20 + 20)
#define UDP4_LEN (14 + 20 + 8)

/* Headers with full and with partial checksum, and the bytes of payload behind them. */
struct vector_segment {
    const char *full;
    const char *partial;
    uint32_t payload;
};

struct vector {
    const char *name;
    const char *hdr;
    uint32_t hdr_len;
    uint32_t payload;
    struct vnet vnet;
    const struct vector_segment *segment;
    unsigned n_segments;
};

/* A frame and the memory it lies in: exact sizes, so that ASan sees one byte too many. */
struct source {
    struct frame frame;
    uint8_t *room;              /* HDR_ROOM and the snapshot */
    uint8_t *rest;              /* the source's memory */
    struct iovec *iov;
};

extern const struct vector *const offload_vectors;
extern const unsigned n_offload_vectors;

/* As in make_offload_vectors.py: the payload's bytes. */
uint8_t byte_at(uint32_t i);

/* Headers and payload in one piece, to be freed. */
uint8_t *flat_frame(const char *hdr, uint32_t hdr_len, uint32_t payload);

/* Snapshot of @snap bytes, the rest in pieces of @piece bytes. */
void source_init(struct source *s, const uint8_t *bytes, uint32_t len, uint32_t snap, uint32_t piece);
void source_free(struct source *s);

/* The frame in one piece (static, overwritten by the next call); NULL if its lengths contradict each other. */
const uint8_t *flatten(const struct frame *f);

/* There must be one of that name. */
const struct vector *vector_of(const char *name);

/* Headers of a TCP over IPv4 request. */
void tcp4_hdr(uint8_t hdr[TCP4_LEN]);

static const struct vnet tcp4_vnet = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .gso_size = 1448,
                                       .csum_start = 34, .csum_offset = 16 };

#endif /* USWITCH_TESTS_OFFLOAD_SOURCE_H */
