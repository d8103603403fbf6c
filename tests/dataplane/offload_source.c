/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * offload_source.c - see offload_source.h.
 */
#include "offload_source.h"

#include <stdlib.h>
#include <string.h>

#include "vectors/offload_vectors.h"

const struct vector *const offload_vectors = vectors;
const unsigned n_offload_vectors = sizeof(vectors) / sizeof(vectors[0]);

/* As in make_offload_vectors.py. */
uint8_t byte_at(uint32_t i)
{
    return (uint8_t)(i * 7 + (i >> 8) * 13 + 3);
}

uint8_t *flat_frame(const char *hdr, uint32_t hdr_len, uint32_t payload)
{
    uint8_t *bytes = malloc(hdr_len + payload);

    memcpy(bytes, hdr, hdr_len);
    for (uint32_t i = 0; i < payload; i++)
        bytes[hdr_len + i] = byte_at(i);
    return bytes;
}

/* Snapshot of @snap bytes, the rest in pieces of @piece bytes. */
void source_init(struct source *s, const uint8_t *bytes, uint32_t len, uint32_t snap, uint32_t piece)
{
    const uint32_t hdr_len = len < snap ? len : snap, left = len - hdr_len;

    memset(s, 0, sizeof(*s));
    s->room = malloc(HDR_ROOM + hdr_len);
    s->rest = malloc(left ? left : 1);
    s->iov = calloc(left / piece + 1, sizeof(s->iov[0]));
    memcpy(s->room + HDR_ROOM, bytes, hdr_len);
    memcpy(s->rest, bytes + hdr_len, left);
    for (uint32_t at = 0; at < left; at += piece)
        s->iov[s->frame.n_iov++] = (struct iovec){ s->rest + at, left - at < piece ? left - at : piece };
    s->frame.hdr = s->room + HDR_ROOM;
    s->frame.hdr_len = hdr_len;
    s->frame.len = len;
    s->frame.iov = s->frame.n_iov ? s->iov : NULL;
    s->frame.segment = 17;
    s->frame.pcp = 0xe000;
    s->frame.out_vid = 42;
    s->frame.flooded = 1;
}

void source_free(struct source *s)
{
    free(s->room);
    free(s->rest);
    free(s->iov);
}

/* The frame in one piece (static, overwritten by the next call); NULL if its lengths contradict each other. */
const uint8_t *flatten(const struct frame *f)
{
    static uint8_t bytes[US_FRAME_MAX];
    uint32_t at = f->hdr_len;

    if (f->len > sizeof(bytes) || f->hdr_len > f->len || (f->hdr_len < 18 && f->hdr_len < f->len))
        return NULL;
    memcpy(bytes, f->hdr, f->hdr_len);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        if (f->iov[i].iov_len == 0 || f->iov[i].iov_len > f->len - at)
            return NULL;
        memcpy(bytes + at, f->iov[i].iov_base, f->iov[i].iov_len);
        at += (uint32_t)f->iov[i].iov_len;
    }
    return at == f->len ? bytes : NULL;
}

const struct vector *vector_of(const char *name)
{
    const struct vector *v = offload_vectors;

    while (strcmp(v->name, name) != 0)
        v++;
    return v;
}

/* Headers of a TCP over IPv4 request. */
void tcp4_hdr(uint8_t hdr[TCP4_LEN])
{
    memcpy(hdr, vector_of("tso4")->hdr, TCP4_LEN);
}
