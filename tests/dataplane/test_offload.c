/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_offload.c - software checksums and segmentation: byte for byte against
 * vectors that scapy made (vectors/), however the frame is chopped; hostile
 * requests; a source that changes while it is read (design law 3).
 */
#include "offload.h"

#include <pthread.h>
#include <stdatomic.h>

#include "harness.h"

#define ALL_OFFLOADS (OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN)
#define TCP4_LEN (14 + 20 + 20)

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

#include "vectors/offload_vectors.h"

#define N_VECTORS (sizeof(vectors) / sizeof(vectors[0]))

/* A frame and the memory it lies in: exact sizes, so that ASan sees one byte too many. */
struct source {
    struct frame frame;
    uint8_t *room;              /* HDR_ROOM and the snapshot */
    uint8_t *rest;              /* the source's memory */
    struct iovec *iov;
};

/* As in make_offload_vectors.py. */
static uint8_t byte_at(uint32_t i)
{
    return (uint8_t)(i * 7 + (i >> 8) * 13 + 3);
}

static uint8_t *flat_frame(const char *hdr, uint32_t hdr_len, uint32_t payload)
{
    uint8_t *bytes = malloc(hdr_len + payload);

    memcpy(bytes, hdr, hdr_len);
    for (uint32_t i = 0; i < payload; i++)
        bytes[hdr_len + i] = byte_at(i);
    return bytes;
}

/* Snapshot of @snap bytes, the rest in pieces of @piece bytes. */
static void source_init(struct source *s, const uint8_t *bytes, uint32_t len, uint32_t snap, uint32_t piece)
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

static void source_free(struct source *s)
{
    free(s->room);
    free(s->rest);
    free(s->iov);
}

/* The frame in one piece (static, overwritten by the next call); NULL if its lengths contradict each other. */
static const uint8_t *flatten(const struct frame *f)
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

/* ---- vectors ---- */

static bool result_is(const struct vector *v, unsigned i, uint32_t offset, bool partial, const struct frame *f)
{
    const struct vector_segment *s = &v->segment[i];
    const struct vnet done = { 0 };
    const struct vnet left = { .flags = VNET_NEEDS_CSUM, .csum_start = v->vnet.csum_start,
                               .csum_offset = v->vnet.csum_offset };
    const uint8_t *got = flatten(f);

    if (!got || f->len != v->hdr_len + s->payload)
        return false;
    if (memcmp(got, partial ? s->partial : s->full, v->hdr_len))
        return false;
    for (uint32_t k = 0; k < s->payload; k++)
        if (got[v->hdr_len + k] != byte_at(offset + k))
            return false;
    memset(f->hdr - HDR_ROOM, 0xee, HDR_ROOM);  /* the room is the frame's to use */
    return !memcmp(&f->vnet, partial ? &left : &done, sizeof(done)) && f->segment == 17 && f->pcp == 0xe000 &&
           f->out_vid == 42 && f->flooded == 1 && f->drop == DROP_none;
}

static bool vector_holds(struct offload_scratch *s, const struct vector *v, const struct frame *f,
                         uint32_t offloads, unsigned max)
{
    struct frame *out[BURST_MAX];
    uint32_t offset = 0;
    unsigned seen = 0, n;

    if (offload_begin(s, f, offloads) != DROP_none)
        return false;
    while ((n = offload_next(s, out, max)) != 0) {
        for (unsigned i = 0; i < n; i++, seen++) {
            if (n > max || seen == v->n_segments)
                return false;
            if (!result_is(v, seen, offset, offloads & OFFLOAD_CSUM, out[i]))
                return false;
            offset += v->segment[seen].payload;
        }
    }
    return seen == v->n_segments;
}

static void check_vectors(uint32_t offloads)
{
    static const uint32_t snaps[] = { 18, 64, 128, US_FRAME_MAX };
    static const uint32_t pieces[] = { 1, 3, 60, 1000, 4096, US_FRAME_MAX };
    static const unsigned maxima[] = { 1, 5, BURST_MAX };
    struct offload_scratch *s = offload_scratch_create();

    for (size_t i = 0; i < N_VECTORS; i++) {
        const struct vector *v = &vectors[i];
        uint8_t *bytes = flat_frame(v->hdr, v->hdr_len, v->payload);

        if ((offloads & OFFLOAD_CSUM) && v->vnet.gso_type == VNET_GSO_NONE) {
            free(bytes);        /* needs no help */
            continue;
        }
        for (unsigned k = 0; k < 4 * 6 * 3; k++) {
            struct source src;

            source_init(&src, bytes, v->hdr_len + v->payload, snaps[k % 4], pieces[k / 4 % 6]);
            src.frame.vnet = v->vnet;
            if (!CHECK(vector_holds(s, v, &src.frame, offloads, maxima[k / 24])))
                fprintf(stderr, "  %s, snapshot %u, pieces %u\n", v->name, snaps[k % 4], pieces[k / 4 % 6]);
            source_free(&src);
        }
        free(bytes);
    }
    offload_scratch_destroy(s);
}

TEST(vectors_full_checksum)
{
    check_vectors(0);
}

TEST(vectors_partial_checksum)
{
    check_vectors(OFFLOAD_CSUM);
}

/* ---- what must be true of any result ---- */

static uint16_t naive_sum(const uint8_t *at, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++) {
        sum += i % 2 ? at[i] : (uint32_t)at[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

/* An ordinary TCP over IPv4 frame as delivered: both checksums right, lengths right. */
static bool tcp4_is_valid(const uint8_t *bytes, uint32_t len)
{
    const uint8_t *ip = bytes + 14, *tcp = bytes + 34;
    const uint32_t tcp_len = len - 34;

    if (naive_sum(ip, 20, 0) != 0xffff || (uint32_t)(ip[2] << 8 | ip[3]) != len - 14)
        return false;
    return naive_sum(tcp, tcp_len, naive_sum(ip + 12, 8, 6 + tcp_len)) == 0xffff;
}

/* Headers of a TCP over IPv4 request. */
static void tcp4_hdr(uint8_t hdr[TCP4_LEN])
{
    const struct vector *v = vectors;

    while (strcmp(v->name, "tso4") != 0)
        v++;
    memcpy(hdr, v->hdr, TCP4_LEN);
}

static const struct vnet tcp4_vnet = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .gso_size = 1448,
                                       .csum_start = 34, .csum_offset = 16 };

struct flipper {
    _Atomic bool stop;
    uint8_t *at;
    uint32_t len;
};

static void *flip(void *arg)
{
    struct flipper *f = arg;
    uint8_t value = 0;

    while (!atomic_load_explicit(&f->stop, memory_order_relaxed)) {
        value++;
        for (uint32_t i = 0; i < f->len; i++)
            __atomic_store_n(&f->at[i], value, __ATOMIC_RELAXED);
    }
    return NULL;
}

static unsigned bad_results(struct offload_scratch *s, const struct frame *f)
{
    struct frame *out[BURST_MAX];
    unsigned bad = 0, n;

    if (offload_begin(s, f, 0) != DROP_none)
        return 1;
    while ((n = offload_next(s, out, BURST_MAX)) != 0)
        for (unsigned i = 0; i < n; i++)
            bad += out[i]->n_iov != 0 || !tcp4_is_valid(out[i]->hdr, out[i]->len);
    return bad;
}

/* Every checksum fits the bytes beside it, although the source never holds still. */
TEST(changing_source)
{
    struct offload_scratch *s = offload_scratch_create();
    uint8_t hdr[TCP4_LEN], *bytes;
    struct flipper f = { 0 };
    struct source src;
    pthread_t thread;
    unsigned bad = 0;

    tcp4_hdr(hdr);
    bytes = flat_frame((const char *)hdr, sizeof(hdr), 9000);
    source_init(&src, bytes, sizeof(hdr) + 9000, 64, 4096);
    src.frame.vnet = tcp4_vnet;
    f.at = src.rest;
    f.len = 9000 - (64 - TCP4_LEN);
    REQUIRE(pthread_create(&thread, NULL, flip, &f) == 0);
    for (unsigned i = 0; i < 2000; i++) {
        src.frame.vnet.gso_type = i % 4 ? VNET_GSO_TCPV4 : VNET_GSO_NONE;
        if (i % 4 == 0) {       /* a plain request carries the sum over its own length */
            const uint16_t pseudo = naive_sum(src.frame.hdr + 26, 8, 6 + src.frame.len - 34);

            src.frame.hdr[50] = (uint8_t)(pseudo >> 8);
            src.frame.hdr[51] = (uint8_t)pseudo;
            src.frame.hdr[16] = (uint8_t)((src.frame.len - 14) >> 8);
            src.frame.hdr[17] = (uint8_t)(src.frame.len - 14);
            src.frame.hdr[24] = src.frame.hdr[25] = 0;
            const uint16_t ip = (uint16_t)~naive_sum(src.frame.hdr + 14, 20, 0);

            src.frame.hdr[24] = (uint8_t)(ip >> 8);
            src.frame.hdr[25] = (uint8_t)ip;
        }
        bad += bad_results(s, &src.frame);
    }
    atomic_store(&f.stop, true);
    pthread_join(thread, NULL);
    CHECK_EQ(bad, 0);
    source_free(&src);
    free(bytes);
    offload_scratch_destroy(s);
}

/* RFC 768: a sum of zero is sent as its other form. */
TEST(zero_checksum_is_ffff)
{
    struct offload_scratch *s = offload_scratch_create();
    uint8_t bytes[60] = { 0 };
    struct frame *out[1];
    struct source src;
    uint16_t sum;

    for (uint32_t i = 34; i < sizeof(bytes); i++)
        bytes[i] = byte_at(i);
    bytes[40] = bytes[41] = bytes[58] = bytes[59] = 0;
    sum = (uint16_t)~naive_sum(bytes + 34, sizeof(bytes) - 34, 0);
    bytes[58] = (uint8_t)(sum >> 8);
    bytes[59] = (uint8_t)sum;
    source_init(&src, bytes, sizeof(bytes), 64, 64);
    src.frame.vnet = (struct vnet){ .flags = VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6 };
    REQUIRE(offload_begin(s, &src.frame, 0) == DROP_none);
    REQUIRE(offload_next(s, out, 1) == 1);
    CHECK_EQ(out[0]->hdr[40] << 8 | out[0]->hdr[41], 0xffff);
    CHECK_EQ(offload_next(s, out, 1), 0);
    CHECK_EQ(src.frame.hdr[40] | src.frame.hdr[41], 0);  /* the source's snapshot is not touched */
    source_free(&src);
    offload_scratch_destroy(s);
}

/* A receiver that takes checksums gets the source's own memory, not a copy (law 2). */
TEST(partial_does_not_copy)
{
    struct offload_scratch *s = offload_scratch_create();
    struct frame *out[BURST_MAX];
    uint8_t hdr[TCP4_LEN], *bytes;
    struct source src;
    unsigned n, inside = 0;

    tcp4_hdr(hdr);
    bytes = flat_frame((const char *)hdr, sizeof(hdr), 30000);
    source_init(&src, bytes, sizeof(hdr) + 30000, 128, 4096);
    src.frame.vnet = tcp4_vnet;
    REQUIRE(offload_begin(s, &src.frame, OFFLOAD_CSUM) == DROP_none);
    n = offload_next(s, out, BURST_MAX);
    CHECK_EQ(n, 21);
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *last = out[i]->n_iov ? out[i]->iov[out[i]->n_iov - 1].iov_base : NULL;

        CHECK_EQ(out[i]->hdr_len, TCP4_LEN);
        inside += last >= src.rest && last < src.rest + 30000;
    }
    CHECK_EQ(inside, n);
    source_free(&src);
    free(bytes);
    offload_scratch_destroy(s);
}

/* ---- refusals ---- */

/* A change to an acceptable request that makes it unacceptable. */
struct spoil {
    const char *what;
    uint32_t at;                /* byte of the frame, 0: none */
    uint8_t value;
    struct vnet vnet;
};

#define GSO4 .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .gso_size = 1448, .csum_offset = 16

static const struct spoil spoils[] = {
    { "EtherType", 12, 0x09, { GSO4, .csum_start = 34 } },
    { "IP version", 14, 0x55, { GSO4, .csum_start = 34 } },
    { "header length 16", 14, 0x44, { GSO4, .csum_start = 34 } },
    { "header length 60 beyond TCP", 14, 0x4f, { GSO4, .csum_start = 34 } },
    { "UDP", 23, 17, { GSO4, .csum_start = 34 } },
    { "more fragments", 20, 0x20, { GSO4, .csum_start = 34 } },
    { "fragment offset", 21, 1, { GSO4, .csum_start = 34 } },
    { "TCP header 16", 46, 0x40, { GSO4, .csum_start = 34 } },
    { "csum_start low", 0, 0, { GSO4, .csum_start = 33 } },
    { "csum_start high", 0, 0, { GSO4, .csum_start = 38 } },
    { "csum_offset", 0, 0,
      { .flags = 1, .gso_type = 1, .gso_size = 1448, .csum_start = 34, .csum_offset = 6 } },
    { "IPv6 request", 0, 0,
      { .flags = 1, .gso_type = 4, .gso_size = 1448, .csum_start = 34, .csum_offset = 16 } },
    { "size 0", 0, 0, { .flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16 } },
};

static enum drop_reason begin_of(const uint8_t *bytes, uint32_t len, const struct vnet *v)
{
    struct offload_scratch *s = offload_scratch_create();
    struct source src;
    enum drop_reason why;

    source_init(&src, bytes, len, 64, 100);
    src.frame.vnet = *v;
    why = offload_begin(s, &src.frame, 0);
    source_free(&src);
    offload_scratch_destroy(s);
    return why;
}

TEST(spoiled_requests)
{
    uint8_t hdr[TCP4_LEN], *bytes;

    tcp4_hdr(hdr);
    bytes = flat_frame((const char *)hdr, sizeof(hdr), 5000);
    CHECK_EQ(begin_of(bytes, sizeof(hdr) + 5000, &tcp4_vnet), DROP_none);
    for (size_t i = 0; i < sizeof(spoils) / sizeof(spoils[0]); i++) {
        const struct spoil *sp = &spoils[i];
        const uint8_t before = bytes[sp->at];

        if (sp->at)
            bytes[sp->at] = sp->value;
        if (!CHECK_EQ(begin_of(bytes, sizeof(hdr) + 5000, &sp->vnet), DROP_offload))
            fprintf(stderr, "  %s\n", sp->what);
        bytes[sp->at] = before;
    }
    free(bytes);
}

/* Every length at which the headers are cut short. */
TEST(short_frames)
{
    uint8_t hdr[TCP4_LEN];

    tcp4_hdr(hdr);
    for (uint32_t len = 14; len < TCP4_LEN; len++)
        CHECK_EQ(begin_of(hdr, len, &tcp4_vnet), DROP_offload);
    CHECK_EQ(begin_of(hdr, TCP4_LEN, &tcp4_vnet), DROP_none);
}

/* A segment whose length its IP header cannot hold. */
TEST(segment_too_long_for_ip)
{
    struct vnet v = tcp4_vnet;
    uint8_t hdr[TCP4_LEN], *bytes;

    tcp4_hdr(hdr);
    bytes = flat_frame((const char *)hdr, sizeof(hdr), US_FRAME_MAX - TCP4_LEN);
    v.gso_size = 65535;
    CHECK_EQ(begin_of(bytes, US_FRAME_MAX, &v), DROP_offload);
    CHECK_EQ(begin_of(bytes, 65535 + 14, &v), DROP_none);
    v.gso_size = 1448;
    CHECK_EQ(begin_of(bytes, US_FRAME_MAX, &v), DROP_none);
    free(bytes);
}

/* A chain of @n extension headers of 8 * (1 + @more) bytes, @kind each, then TCP. */
static enum drop_reason begin_ipv6(uint8_t kind, unsigned n, uint8_t more, uint8_t route_left)
{
    const uint32_t l4 = 14 + 40 + n * 8u * (1u + more), len = l4 + 20 + 3000;
    const struct vnet v = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV6, .gso_size = 1000,
                            .csum_start = (uint16_t)l4, .csum_offset = 16 };
    uint8_t *bytes = calloc(1, len);
    enum drop_reason why;

    bytes[12] = 0x86;
    bytes[13] = 0xdd;
    bytes[14] = 0x60;
    bytes[14 + 6] = n ? kind : 6;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *ext = bytes + 54 + i * 8u * (1u + more);

        ext[0] = i == n - 1 ? 6 : kind;
        ext[1] = more;
        ext[3] = route_left;
    }
    bytes[l4 + 12] = 0x50;
    why = begin_of(bytes, len, &v);
    free(bytes);
    return why;
}

TEST(ipv6_extensions)
{
    CHECK_EQ(begin_ipv6(60, 0, 0, 0), DROP_none);
    CHECK_EQ(begin_ipv6(60, 8, 0, 0), DROP_none);
    CHECK_EQ(begin_ipv6(60, 9, 0, 0), DROP_offload);     /* more than we walk */
    CHECK_EQ(begin_ipv6(0, 1, 21, 0), DROP_none);        /* 14 + 40 + 176 + 20 = 250 bytes of headers */
    CHECK_EQ(begin_ipv6(0, 1, 22, 0), DROP_offload);     /* 258 */
    CHECK_EQ(begin_ipv6(0, 1, 255, 0), DROP_offload);
    CHECK_EQ(begin_ipv6(43, 1, 2, 0), DROP_none);
    CHECK_EQ(begin_ipv6(43, 1, 2, 1), DROP_offload);     /* the final destination is elsewhere */
    CHECK_EQ(begin_ipv6(44, 1, 0, 0), DROP_offload);     /* fragment */
    CHECK_EQ(begin_ipv6(51, 1, 0, 0), DROP_offload);     /* authentication covers what we would change */
}

/* The switch may have cut a tag out after the request was validated. */
TEST(csum_out_of_frame)
{
    const struct vnet v = { .flags = VNET_NEEDS_CSUM, .csum_start = 40, .csum_offset = 19 };
    const uint8_t bytes[61] = { 0 };

    CHECK_EQ(begin_of(bytes, 60, &v), DROP_offload);
    CHECK_EQ(begin_of(bytes, 61, &v), DROP_none);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Bytes that are mostly right, with some noise; a request that is mostly right. */
static void make_noise(uint32_t *state, uint8_t *bytes, uint32_t *len, struct vnet *v)
{
    const struct vector *base = &vectors[next_random(state) % N_VECTORS];

    *len = base->hdr_len + next_random(state) % 3000;
    memcpy(bytes, base->hdr, base->hdr_len);
    for (uint32_t i = base->hdr_len; i < *len; i++)
        bytes[i] = (uint8_t)next_random(state);
    for (unsigned i = next_random(state) % 4; i; i--)
        bytes[next_random(state) % base->hdr_len] = (uint8_t)next_random(state);
    if (next_random(state) % 4 == 0)
        *len = 14 + next_random(state) % (*len - 13);
    *v = base->vnet;
    if (next_random(state) % 4 == 0)
        v->csum_start = (uint16_t)(14 + next_random(state) % 80);
    if (v->gso_type)
        v->gso_size = (uint16_t)(48 + next_random(state) % 1500);
}

/* Whatever is accepted comes out whole, in frames that are consistent. */
static bool comes_out_whole(struct offload_scratch *s, const struct frame *f, uint32_t offloads)
{
    struct frame *out[BURST_MAX];
    uint32_t hdrs = 0, total = 0, segments = 0;
    unsigned n;

    if (offload_begin(s, f, offloads) != DROP_none)
        return true;
    while ((n = offload_next(s, out, 7)) != 0) {
        for (unsigned i = 0; i < n; i++) {
            if (!flatten(out[i]))
                return false;
            total += out[i]->len;
            segments++;
        }
    }
    if (!f->vnet.gso_type)
        return segments == 1 && total == f->len;
    hdrs = segments > 1 ? (total - f->len) / (segments - 1) : 0;
    return total == f->len + (segments - 1) * hdrs && hdrs <= 256;
}

TEST(noise)
{
    struct offload_scratch *s = offload_scratch_create();
    static uint8_t bytes[4096];
    uint32_t state = 12345, len;
    unsigned wrong = 0;

    for (unsigned i = 0; i < 30000; i++) {
        struct source src;
        struct vnet v;

        make_noise(&state, bytes, &len, &v);
        source_init(&src, bytes, len, 18 + next_random(&state) % 200, 1 + next_random(&state) % 700);
        src.frame.vnet = v;
        wrong += !comes_out_whole(s, &src.frame, i % 2 ? OFFLOAD_CSUM : 0);
        source_free(&src);
    }
    CHECK_EQ(wrong, 0);
    offload_scratch_destroy(s);
}

TEST(fits)
{
    struct frame f = { 0 };

    CHECK(offload_fits(&f, 0));
    f.vnet = tcp4_vnet;
    CHECK(!offload_fits(&f, OFFLOAD_CSUM));
    CHECK(offload_fits(&f, OFFLOAD_CSUM | OFFLOAD_TSO4));
    f.vnet.gso_type |= VNET_GSO_ECN;
    CHECK(!offload_fits(&f, OFFLOAD_CSUM | OFFLOAD_TSO4));
    CHECK(offload_fits(&f, ALL_OFFLOADS));
}

MAIN
{
    RUN(vectors_full_checksum);
    RUN(vectors_partial_checksum);
    RUN(changing_source);
    RUN(zero_checksum_is_ffff);
    RUN(partial_does_not_copy);
    RUN(spoiled_requests);
    RUN(short_frames);
    RUN(segment_too_long_for_ip);
    RUN(ipv6_extensions);
    RUN(csum_out_of_frame);
    RUN(noise);
    RUN(fits);
}
