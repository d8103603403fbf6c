/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_offload.c - software checksums and segmentation: byte for byte against
 * vectors that scapy made (vectors/), however the frame is chopped; a source
 * that changes while it is read (design law 3); noise.  Requests that must be
 * refused are in test_offload_refused.c.
 */
#include "offload.h"

#include <pthread.h>
#include <stdatomic.h>

#include "harness.h"
#include "offload_source.h"

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

    for (size_t i = 0; i < n_offload_vectors; i++) {
        const struct vector *v = &offload_vectors[i];
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

/* The same for a segment: two datagrams of two bytes, each chosen so that its sum is zero. */
TEST(zero_checksum_of_a_segment_is_ffff)
{
    struct offload_scratch *s = offload_scratch_create();
    const struct vector *v = vector_of("uso4");
    uint8_t bytes[UDP4_LEN + 4];
    struct frame *out[3];
    struct source src;
    uint32_t sum;

    memcpy(bytes, v->hdr, UDP4_LEN);
    sum = naive_sum(bytes + 26, 8, 17 + 10);            /* pseudo header: addresses, protocol, length */
    sum = (uint16_t)~naive_sum(bytes + 34, 4, sum + 10); /* ports, length of one datagram */
    for (unsigned i = 0; i < 4; i++)
        bytes[UDP4_LEN + i] = (uint8_t)(i % 2 ? sum : sum >> 8);
    source_init(&src, bytes, sizeof(bytes), 64, 64);
    src.frame.vnet = v->vnet;
    src.frame.vnet.gso_size = 2;
    REQUIRE(offload_begin(s, &src.frame, 0) == DROP_none);
    REQUIRE(offload_next(s, out, 3) == 2);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(out[i]->hdr[40] << 8 | out[i]->hdr[41], 0xffff);
        CHECK_EQ(out[i]->hdr[38] << 8 | out[i]->hdr[39], 10);
    }
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

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Bytes that are mostly right, with some noise; a request that is mostly right. */
static void make_noise(uint32_t *state, uint8_t *bytes, uint32_t *len, struct vnet *v)
{
    const struct vector *base = &offload_vectors[next_random(state) % n_offload_vectors];

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

static bool uso_fits(const char *name, uint32_t hdr_len, uint32_t offloads)
{
    const struct vector *v = vector_of(name);
    uint8_t hdr[128];
    const struct frame f = { .hdr = hdr, .hdr_len = hdr_len ? hdr_len : v->hdr_len, .len = 5000, .vnet = v->vnet };

    memcpy(hdr, v->hdr, v->hdr_len);
    return offload_fits(&f, offloads);
}

/* The request does not tell which version of IP it is about, and receivers choose by version. */
TEST(fits_udp_by_version)
{
    const uint32_t four = OFFLOAD_CSUM | OFFLOAD_USO4, six = OFFLOAD_CSUM | OFFLOAD_USO6;

    CHECK(uso_fits("uso4", 0, four) && !uso_fits("uso4", 0, six));
    CHECK(uso_fits("uso4_two_tags", 0, four) && !uso_fits("uso4_two_tags", 0, six));
    CHECK(uso_fits("uso6", 0, six) && !uso_fits("uso6", 0, four));
    CHECK(uso_fits("uso6_tag", 0, six) && !uso_fits("uso6_tag", 0, four));
    CHECK(!uso_fits("uso4", 0, OFFLOAD_USO4) && !uso_fits("uso4", 0, ALL_OFFLOADS & ~four));
    CHECK(!uso_fits("uso4", 0, OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6));
    CHECK(uso_fits("uso4_two_tags", 21, four | six) && !uso_fits("uso4_two_tags", 21, four));
}

/* More datagrams than a receiver need take are cut here. */
TEST(fits_udp_by_number)
{
    const struct vector *v = vector_of("uso4");
    uint8_t hdr[128];
    struct frame f = { .hdr = hdr, .hdr_len = v->hdr_len, .vnet = v->vnet };

    memcpy(hdr, v->hdr, v->hdr_len);
    f.vnet.gso_size = 100;
    f.len = v->hdr_len + 6400;
    CHECK(offload_fits(&f, ALL_OFFLOADS));
    f.len++;
    CHECK(!offload_fits(&f, ALL_OFFLOADS));
    f.vnet.gso_size = 65535;
    CHECK(offload_fits(&f, ALL_OFFLOADS));
}

MAIN
{
    RUN(vectors_full_checksum);
    RUN(vectors_partial_checksum);
    RUN(changing_source);
    RUN(zero_checksum_is_ffff);
    RUN(zero_checksum_of_a_segment_is_ffff);
    RUN(partial_does_not_copy);
    RUN(noise);
    RUN(fits);
    RUN(fits_udp_by_version);
    RUN(fits_udp_by_number);
}
