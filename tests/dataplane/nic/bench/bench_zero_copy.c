/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_zero_copy.c - what a frame from a guest to an adapter costs, copied
 * into the adapter's pool and read in place: from the guest's ring to the
 * descriptors and back, by turns, as a ratio (doc/source/uplink.rst has what
 * follows from it).
 *
 *   bench_zero_copy [-n rounds]
 *
 * Timed: rx_burst, tx_burst, rx_complete of a burst, so with zero copy the
 * mapping of pieces, the report, and the buffers that wait.  Not timed: the
 * guest, and the device, the tests' model, which reads what the descriptors
 * name.  Before a burst the guest's payload is fetched into the caches ("hot":
 * the guest has just written it) or thrown out of them ("cold").  The rounds
 * of both kinds take turns, and each pair gives a ratio: above 1 zero copy is
 * cheaper.
 *
 * Asserts no time; exit status 1 if a frame was lost or spoilt.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/guest.h"
#include "nic/igb_regs.h"
#include "nic/rig.h"
#include "nic/lend_rig.h"
#include "state_page.h"
#include "vhost/driver.h"

#define ROUNDS_MAX 1000
#define RING 256u
#define VNET 12u
#define PAGE 4096u
#define LINE 64u
#define SLOT 0x11000u   /* of a frame in the guest's memory */
#define SLOTS 64u

/**
 * struct bench - one case
 * @len: bytes of a frame
 * @burst: frames at once
 * @bursts: a round
 * @gso: bytes of a segment, 0: an ordinary frame
 * @cold: payload is in no cache
 */
struct bench {
    uint32_t len, burst, bursts, gso;
    bool cold;
    /* private */
    uint32_t parts;             /* descriptors of a frame */
    uint32_t next;              /* frames so far */
    uint64_t lost;
    double ratio[ROUNDS_MAX], copied[ROUNDS_MAX], lent[ROUNDS_MAX];
};

static struct driver d;
static struct lend_rig *k;
static struct port *nic;
static struct burst b;

/* Registers while the driver is timed. */
static uint8_t memory[IGB_BAR_SIZE] __attribute__((aligned(4096)));

static int lend(void *arg, void *base, size_t len)
{
    (void)arg;
    return nic_port_lend(nic, base, len);
}

static void goes(void *arg, void *base, size_t len)
{
    (void)arg;
    (void)len;
    nic_port_unlend(nic, base);
}

static void came(void *arg, void *base, size_t len)
{
    (void)arg;
    (void)base;
    (void)len;
}

static const struct vhost_mem_watch watch = { .came = came, .goes = goes };

static void begin(void)
{
    struct us_state_page *state = NULL;
    const int fd = us_state_page_create(3);

    drv_create(&d, F_V1 | VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4), RING);
    k = lend_rig_create();
    if (state_page_map(fd, &state) < 0 || (nic = lend_rig_port_of(k, state, 512)) == NULL)
        exit(2);
    close(fd);
    vhost_port_watch_mem(d.port, &watch);
    if (vhost_port_each_mem(d.port, lend, NULL) < 0)
        exit(2);
    atomic_store(&d.port->max_frame, 9014);
    k->m.discard = true;
}

static uint64_t finish(void)
{
    drv_destroy(&d);
    nic->ops->stop(nic);
    nic->ops->destroy(nic);
    return lend_rig_free(k) ? 0 : 1;
}

/* Fill all slots with the case's frame. */
static void fill(struct bench *t)
{
    static uint8_t frame[65536 + VNET];
    const struct rig_flow flow = { .from = 1, .to = 2, .sport = 1000, .dport = 2000, .flags = 0x10, .bare = true };
    struct vnet v = { 0 };

    memset(frame, 0, sizeof(frame));
    (void)rig_packet(frame + VNET, &flow, t->len - 54);
    if (t->gso) {
        v = rig_request(frame + VNET, t->len, t->gso);
        frame[0] = v.flags;
        frame[1] = v.gso_type;
        memcpy(frame + 2, &v.hdr_len, 8);
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        memcpy(drv_ptr(&d, DRV_BUF + (uint64_t)i * SLOT), frame, VNET + t->len);
    t->parts = (VNET + t->len + PAGE - 1) / PAGE;
    t->next = 0;
}

/* The guest offers a frame, and its payload is where the case wants it. */
static void offer(struct bench *t)
{
    const uint32_t at = t->next % (RING / t->parts) * t->parts, slot = t->next % (SLOTS / 2);
    const uint64_t gpa = DRV_BUF + (uint64_t)slot * SLOT;
    volatile const uint8_t *const bytes = drv_ptr(&d, gpa);

    for (uint32_t i = 0; i < t->parts; i++) {
        const uint32_t left = VNET + t->len - i * PAGE;

        drv_desc(&d.tx, at + i, gpa + (uint64_t)i * PAGE, left < PAGE ? left : PAGE, i + 1 < t->parts ? D_NEXT : 0,
                 (uint16_t)(at + i + 1));
    }
    for (uint32_t i = 0; i < VNET + t->len; i += LINE) {
        (void)bytes[i];
#if defined(__x86_64__)
        if (t->cold)
            __builtin_ia32_clflush((const void *)(bytes + i));
#endif
    }
    drv_offer(&d.tx, (uint16_t)at);
    t->next++;
}

/* The doorbell, as the driver rang it: the device reads. */
static void ring(void)
{
    const struct bar_model *const m = &k->m.bar;
    uint32_t tail;

    memcpy(&tail, memory + IGB_TDT(0), sizeof(tail));
    m->write(m->ctx, IGB_TDT(0), le32toh(tail), sizeof(tail));
}

static uint64_t timed(struct bench *t)
{
    struct bar *const bar = &((struct nic *)nic)->bar[0];
    struct rxq *const q = &d.port->rxq[0];
    struct frame *list[BURST_MAX];
    uint64_t began, cycles;
    unsigned got, sent;

    bar->base = memory;
    began = clock_cycles();
    got = d.port->ops->rx_burst(q, &b);
    for (unsigned i = 0; i < got; i++) {
        list[i] = &b.frame[i];
        list[i]->out_vid = US_VID_UNTAGGED;     /* the switch's part */
    }
    sent = nic->ops->tx_burst(nic, list, got);
    d.port->ops->rx_complete(q, &b);
    cycles = clock_cycles() - began;
    bar->base = NULL;
    t->lost += t->burst - sent;
    return cycles;
}

/* Cycles a frame in one round. */
static double one_round(struct bench *t, bool in_place)
{
    uint64_t cycles = 0;

    vhost_port_lend(d.port, in_place);
    for (uint32_t i = 0; i < t->bursts; i++) {
        for (uint32_t j = 0; j < t->burst; j++)
            offer(t);
        drv_publish(&d.tx);
        cycles += timed(t);
        ring();
    }
    return (double)cycles / (t->burst * t->bursts);
}

static int compare(const void *a, const void *z)
{
    const double x = *(const double *)a, y = *(const double *)z;

    return (x > y) - (x < y);
}

/* Everything has come back, and what was read in place was read there. */
static void check(struct bench *t)
{
    const unsigned before = k->m.e.guest_reads;

    (void)d.port->ops->rx_burst(&d.port->rxq[0], &b);
    d.port->ops->rx_complete(&d.port->rxq[0], &b);
    t->lost += guest_load16(&d.tx.used->idx) != d.tx.avail_idx;
    k->m.discard = false;
    (void)one_round(t, true);
    t->lost += k->m.e.guest_reads - before < t->burst * t->bursts;
    for (uint32_t i = 0; !t->gso && i < k->m.n_sent; i++)
        t->lost += k->m.sent[i].len != t->len ||
                   memcmp(k->m.sent[i].data, (uint8_t *)drv_ptr(&d, DRV_BUF) + VNET, t->len) != 0;
    for (uint32_t i = 0, done = 0; t->gso && i < k->m.n_sent; i++) {
        const uint32_t n = k->m.sent[i].len - 54;

        t->lost += memcmp(k->m.sent[i].data + 54, (uint8_t *)drv_ptr(&d, DRV_BUF) + VNET + 54 + done, n) != 0;
        done = done + n == t->len - 54 ? 0 : done + n;
    }
}

static uint64_t run(struct bench *t, uint32_t rounds)
{
    begin();
    fill(t);
    for (uint32_t i = 0; i < rounds; i++) {
        t->copied[i] = one_round(t, false);
        t->lent[i] = one_round(t, true);
        t->ratio[i] = t->copied[i] / t->lent[i];
    }
    check(t);
    t->lost += finish();
    qsort(t->copied, rounds, sizeof(double), compare);
    qsort(t->lent, rounds, sizeof(double), compare);
    qsort(t->ratio, rounds, sizeof(double), compare);
    printf("%7u %6s %6u %10.0f %10.0f %9.2f %8.2f %8.2f%s\n", t->len, t->cold ? "cold" : "hot", t->burst,
           t->copied[rounds / 2], t->lent[rounds / 2], t->ratio[rounds / 2], t->ratio[rounds / 4],
           t->ratio[rounds * 3 / 4], t->lost ? "  LOST FRAMES" : "");
    fflush(stdout);
    return t->lost;
}

int main(int argc, char **argv)
{
    static const struct { uint32_t len, burst, bursts, gso; } row[] = {
        { 1100, 32, 64, 0 }, { 1514, 32, 64, 0 }, { 1514, 1, 512, 0 }, { 9014, 8, 32, 0 }, { 65226, 4, 16, 1448 },
    };
    static struct bench t;
    uint32_t rounds = 41;
    uint64_t lost = 0;
    int option;

    while ((option = getopt(argc, argv, "n:")) != -1) {
        rounds = option == 'n' ? (uint32_t)strtoul(optarg, NULL, 0) : 0;
        if (rounds < 1 || rounds > ROUNDS_MAX) {
            fprintf(stderr, "usage: bench_zero_copy [-n rounds]\n");
            return 2;
        }
    }
    printf("zero copy memory burst copied c/f  lent c/f     ratio      1/4      3/4\n");
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        for (unsigned cold = 0; cold < 2; cold++) {
            t = (struct bench){ .len = row[i].len, .burst = row[i].burst, .bursts = row[i].bursts, .gso = row[i].gso,
                                .cold = cold };
            lost += run(&t, rounds);
        }
    }
    return lost ? EXIT_FAILURE : EXIT_SUCCESS;
}
