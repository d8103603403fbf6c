/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_engine.c - see intel_engine.h.
 */
#include "nic/intel_engine.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nic/nic_math.h"

#define GATHER_MAX (256 * 1024)

#define RX_DD 1u
#define RX_EOP 2u

#define DTYP(cmd) ((cmd) >> 20 & 0xf)
#define CMD_EOP (1u << 24)
#define CMD_IFCS (1u << 25)
#define CMD_RS (1u << 27)
#define CMD_DEXT (1u << 29)
#define CMD_VLE (1u << 30)
#define CMD_TSE (1u << 31)
#define OLINFO_DD 1u
#define OLINFO_IDX(o) ((o) >> 4 & 7)
#define OLINFO_IXSM (1u << 8)
#define OLINFO_TXSM (1u << 9)
#define OLINFO_PAYLEN(o) ((o) >> 14)

void engine_breach(struct engine *e, const char *format, ...)
{
    va_list ap;

    e->breaches++;
    fputs("the data sheet forbids this: ", stderr);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

uint8_t *engine_memory(struct engine *e, uint64_t iova, uint32_t len)
{
    const struct dma_pool *const p = e->pool;

    if (iova >= p->iova && iova - p->iova <= p->size && len <= p->size - (iova - p->iova))
        return p->base + (iova - p->iova);
    e->faults++;
    return NULL;
}

/* What a data descriptor names, to be read.  As an emulated adapter does it: in one piece of its machine's memory. */
static const uint8_t *payload(struct engine *e, uint64_t iova, uint32_t len)
{
    const uint8_t *const at = e->guest ? e->guest(e->guest_ctx, iova, len) : NULL;

    if (len && iova % 4096 + len > 4096)
        engine_breach(e, "%u bytes at %#llx lie in two pages", len, (unsigned long long)iova);
    e->guest_reads += at != NULL;
    return at ? at : engine_memory(e, iova, len);
}

uint32_t engine_given(const struct engine_ring *r)
{
    return r->size && r->tail < r->size ? (r->tail + r->size - r->head) % r->size : 0;
}

static uint64_t *descriptor(struct engine *e, const struct engine_ring *r)
{
    return (uint64_t *)(void *)engine_memory(e, r->base + 16 * (uint64_t)r->head, 16);
}

/* What the device did before is visible to who sees the second word. */
static void write_back(struct engine *e, struct engine_ring *r, bool tx, uint64_t *to, uint64_t low, uint64_t high)
{
    uint64_t desc[2] = { low, high };

    if (e->mangle)
        e->mangle(e->ctx, tx, r->head, desc);
    r->writes++;
    __atomic_store_n(&to[0], htole64(desc[0]), __ATOMIC_RELAXED);
    __atomic_store_n(&to[1], htole64(desc[1]), __ATOMIC_RELEASE);
}

/* ---- receive, 7.1.5 ---- */

bool engine_receive(struct engine *e, struct engine_ring *r, const uint8_t *frame, uint32_t len, uint32_t status,
                    uint32_t hash)
{
    const uint32_t need = (len + r->buf_size - 1) / r->buf_size;

    if (engine_given(r) < need)
        return false;
    for (uint32_t at = 0, left = need; left; left--) {
        const uint32_t part = len - at < r->buf_size ? len - at : r->buf_size;
        uint64_t *const d = descriptor(e, r);
        uint8_t *to;

        if (!d)
            return false;
        if (le64toh(d[1]) != 0)
            engine_breach(e, "7.1.5.1: receive descriptor %u has 0x%llx for a header buffer", r->head,
                          (unsigned long long)le64toh(d[1]));
        to = engine_memory(e, le64toh(d[0]), r->buf_size);
        if (to)
            memcpy(to, frame + at, part);
        at += part;
        write_back(e, r, false, d, (uint64_t)hash << 32,
                   (uint64_t)part << 32 | RX_DD | (left == 1 ? RX_EOP | status : 0));
        r->head = (r->head + 1) % r->size;
    }
    return true;
}

/* ---- checksums, 7.2.5 ---- */

static void insert_ip(uint8_t *frame, uint32_t l3, uint32_t ip_len)
{
    nic_put16(frame + l3 + 10, 0);
    nic_put16(frame + l3 + 10, (uint16_t)~nic_sum(frame + l3, ip_len, 0));
}

/* The field holds the sum of the pseudo header; a UDP checksum of zero would mean "none". */
static void insert_l4(uint8_t *frame, uint32_t len, uint32_t l4, bool udp)
{
    const uint16_t sum = (uint16_t)~nic_sum(frame + l4, len - l4, 0);

    nic_put16(frame + l4 + (udp ? 6 : 16), sum == 0 && udp ? 0xffff : sum);
}

/* ---- segmentation, 7.2.4 ---- */

/* The headers of a segment of @n bytes: lengths, identification, sequence number and flags of its own. */
static void make_headers(const struct engine *e, const struct engine_context *c, uint8_t *out, uint32_t index,
                         uint32_t done, uint32_t n, bool last)
{
    const uint32_t l3 = c->mac_len, l4 = l3 + c->ip_len, hdr = l4 + c->l4_len;
    uint32_t mask = index == 0 ? e->flags_first : e->flags_middle;

    if (last)
        mask = index == 0 ? 0xfff : e->flags_last;
    if (c->ipv4) {
        nic_put16(out + l3 + 2, hdr - l3 + n);
        nic_put16(out + l3 + 4, nic_get16(out + l3 + 4) + index);
    } else {
        nic_put16(out + l3 + 4, hdr - l3 - 40 + n);
    }
    nic_put32(out + l4 + 4, nic_get32(out + l4 + 4) + done);
    nic_put16(out + l4 + 12, nic_get16(out + l4 + 12) & (mask | 0xf000));
    /* The pseudo header came without its length. */
    nic_put16(out + l4 + 16, nic_sum(NULL, 0, (uint32_t)nic_get16(out + l4 + 16) + c->l4_len + n));
    insert_l4(out, hdr + n, l4, false);
    if (c->ipv4)
        insert_ip(out, l3, c->ip_len);
}

static void segment(struct engine *e, const struct engine_context *c, const struct engine_ring *r)
{
    const uint32_t hdr = c->mac_len + c->ip_len + c->l4_len, payload = r->len - hdr;
    static uint8_t out[ENGINE_FRAME_MAX];

    if (payload == 0 || hdr + c->mss > sizeof(out)) {
        engine_breach(e, "7.2.4: %u bytes to be cut by %u", payload, c->mss);
        return;
    }
    for (uint32_t i = 0, done = 0; done < payload; i++) {
        const uint32_t n = payload - done < c->mss ? payload - done : c->mss;

        memcpy(out, r->data, hdr);
        memcpy(out + hdr, r->data + hdr + done, n);
        make_headers(e, c, out, i, done, n, done + n == payload);
        e->sent(e->ctx, out, hdr + n);
        done += n;
    }
}

/* ---- transmit, 7.2 ---- */

static bool context_fits(struct engine *e, const struct engine_context *c, const struct engine_ring *r)
{
    const bool tse = r->cmd & CMD_TSE;
    const uint32_t hdr = c->mac_len + c->ip_len + (tse ? c->l4_len : c->udp ? 8 : 20);

    if (!c->valid) {
        engine_breach(e, "7.2.2.3: a data descriptor needs a context that was never given");
        return false;
    }
    if (c->mac_len < 14 || c->ip_len < (c->ipv4 ? 20 : 40) || hdr > r->len ||
        (tse && (c->l4_len < 20 || c->mss == 0 || !c->tcp))) {
        engine_breach(e, "7.2.2.2: MACLEN %u, IPLEN %u, L4LEN %u, MSS %u for a frame of %u bytes", c->mac_len,
                      c->ip_len, c->l4_len, c->mss, r->len);
        return false;
    }
    return true;
}

static void send_frame(struct engine *e, struct engine_ring *r)
{
    const struct engine_context *const c = &r->context[OLINFO_IDX(r->olinfo) & 1];
    const bool tse = r->cmd & CMD_TSE, offload = tse || (r->olinfo & (OLINFO_IXSM | OLINFO_TXSM));
    uint32_t payload = r->len;

    if (offload && !context_fits(e, c, r))
        return;
    if (tse)
        payload -= c->mac_len + c->ip_len + c->l4_len;
    if (OLINFO_PAYLEN(r->olinfo) != payload)
        engine_breach(e, "7.2.2.3: PAYLEN %u, should be %u", OLINFO_PAYLEN(r->olinfo), payload);
    if (tse) {
        if (!(r->olinfo & OLINFO_TXSM) || !(r->olinfo & OLINFO_IXSM) == c->ipv4)
            engine_breach(e, "7.2.4: segmentation with olinfo 0x%x", r->olinfo);
        segment(e, c, r);
        return;
    }
    if (r->len < 17 || r->len > ENGINE_FRAME_MAX) {
        engine_breach(e, "7.2.1: a frame of %u bytes", r->len);
        return;
    }
    if (r->olinfo & OLINFO_TXSM)
        insert_l4(r->data, r->len, c->mac_len + c->ip_len, c->udp);
    if (r->olinfo & OLINFO_IXSM)
        insert_ip(r->data, c->mac_len, c->ip_len);
    e->sent(e->ctx, r->data, r->len);
}

static void take_context(struct engine *e, struct engine_ring *r, uint64_t low, uint64_t high)
{
    const uint32_t type = (uint32_t)high, rest = (uint32_t)(high >> 32);

    if (r->n)
        engine_breach(e, "7.2.2: a context inside of a frame");
    if (OLINFO_IDX(rest) > 1)
        engine_breach(e, "7.2.2.2: IDX %u, there are two contexts", OLINFO_IDX(rest));
    r->context[OLINFO_IDX(rest) & 1] = (struct engine_context){
        .valid = true, .ip_len = low & 0x1ff, .mac_len = low >> 9 & 0x7f, .ipv4 = type & 1u << 10,
        .tcp = (type >> 11 & 3) == 1, .udp = (type >> 11 & 3) == 0, .l4_len = rest >> 8 & 0xff, .mss = rest >> 16,
    };
}

static void take_data(struct engine *e, struct engine_ring *r, uint64_t addr, uint32_t cmd, uint32_t olinfo)
{
    const uint32_t len = cmd & 0xffff;
    const uint8_t *from;

    if (!(cmd & CMD_IFCS) || (cmd & CMD_VLE) || len == 0)
        engine_breach(e, "7.2.2.3: command 0x%x", cmd);
    if (r->n++ == 0) {
        r->cmd = cmd;
        r->olinfo = olinfo;
    } else if ((r->cmd ^ cmd) & CMD_TSE) {
        engine_breach(e, "7.2.2.3: TSE in a part of a frame");
    }
    from = payload(e, addr, len);
    if (!r->data)
        r->data = malloc(GATHER_MAX);
    if (from && r->data && r->len + len <= GATHER_MAX) {
        memcpy(r->data + r->len, from, len);
        r->len += len;
    }
    if (cmd & CMD_EOP) {
        send_frame(e, r);
        r->len = r->n = 0;
    }
}

bool engine_transmit(struct engine *e, struct engine_ring *r)
{
    bool reported = false;

    while (engine_given(r)) {
        uint64_t *const d = descriptor(e, r);
        uint64_t low, high;
        uint32_t cmd;

        if (!d)
            return reported;
        low = le64toh(d[0]);
        high = le64toh(d[1]);
        cmd = (uint32_t)high;
        if (!(cmd & CMD_DEXT) || (DTYP(cmd) != 2 && DTYP(cmd) != 3) || ((high >> 32) & OLINFO_DD))
            engine_breach(e, "7.2.2: descriptor 0x%llx", (unsigned long long)high);
        else if (DTYP(cmd) == 2)
            take_context(e, r, low, high);
        else
            take_data(e, r, low, cmd, (uint32_t)(high >> 32));
        if (cmd & CMD_RS) {
            write_back(e, r, true, d, 0, (uint64_t)OLINFO_DD << 32);
            reported = true;
        }
        r->head = (r->head + 1) % r->size;
    }
    return reported;
}

void engine_ring_reset(struct engine_ring *r)
{
    free(r->data);
    memset(r, 0, sizeof(*r));
}
