/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_intel_ring.c - a broken adapter: any words written back into the
 * descriptors of a receive and a transmit ring, and any bytes into the
 * buffers, between any calls of the driver's fast path; what is received goes
 * out again, with any offload request.
 *
 * Claimed:
 *   - a frame of a burst is the bytes of buffers that the ring gave away, one
 *     after the other, none of them twice, none beyond its end;
 *   - what was given back is a descriptor for the same buffer as ever;
 *   - what is to be sent lies in the ring's own buffers, within their bounds;
 *   - tails stay inside of the rings, a context says what a header of the
 *     switch's could bear out, and nothing beside the pool is written.
 *
 * BUG rx_length_is_believed nic/intel_rx.c
 *   - if (claimed_len > DMA_BUF_SIZE)
 *   + if (claimed_len > 4 * DMA_BUF_SIZE)
 *   ! not true
 *
 * BUG segments_without_payload nic/intel_offload.c
 *   - hdr_len >= f->len ||
 *   + hdr_len > f->len ||
 *   ! not true
 */
#include <string.h>
#include <sys/mman.h>

#include "fuzz_guest.h"
#include "nic/intel_ring.h"
#include "vnet.h"

#define RING 128u
#define RDT 0x18u
#define TDT 0x118u
#define IOVA 0x7f00000000ull
#define MARGIN 4096u
#define CANARY 0xa5
#define STEPS_MAX 64
#define CHAIN_MAX (NIC_SEGS_MAX + 1)

static const struct intel_kind kind = { .rx_l4_checked = 0x30, .rx_l4_wrong = 1u << 29, .rx_ip_wrong = 1u << 30,
                                        .rx_damaged = 1u << 31 };

static struct nic nic;
static struct us_state_page page;
static struct burst burst;
static uint8_t *memory;
static uint8_t registers[0x1000] __attribute__((aligned(64)));
static uint32_t tail_seen;      /* transmit descriptors up to here have been looked at */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct nic_config cfg = { .n_queues = 1, .ring_size = RING, .max_frame = 9216 };
    const size_t bytes = (intel_ring_pool_size(&cfg) + 4095) / 4096 * 4096;

    (void)argc;
    (void)argv;
    memory = mmap(NULL, bytes + 2 * MARGIN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(memory != MAP_FAILED);
    memset(memory, CANARY, MARGIN);
    memset(memory + MARGIN + bytes, CANARY, MARGIN);
    nic.cfg = cfg;
    nic.pool = (struct dma_pool){ .base = memory + MARGIN, .size = bytes, .iova = IOVA };
    nic.bar[0] = (struct bar){ .base = registers, .size = sizeof(registers) };
    nic.port.state = &page;
    nic.port.news_fd = -1;
    nic.queue[0].nic = &nic;
    atomic_store(&nic.port.max_frame, cfg.max_frame);
    return 0;
}

static void restart(void)
{
    intel_ring_destroy(&nic.queue[0]);
    dma_reset(&nic.pool);
    memset(registers, 0, sizeof(registers));
    MUST(intel_ring_create(&nic.queue[0], &kind, RDT, TDT) == 0);
    intel_rx_offer(&nic.queue[0]);
    atomic_store(&nic.failed, 0);
    port_mend(&nic.port);
    burst.n = 0;
    tail_seen = 0;
}

static const struct intel_rx *rx(void)
{
    return nic.queue[0].rx;
}

static struct intel_tx *tx(void)
{
    return nic.queue[0].tx;
}

static uint32_t tail(uint32_t reg)
{
    const uint32_t value = bar_read32(&nic.bar[0], reg);

    MUST(value < RING);
    return value;
}

/* ---- what the device does ---- */

/* Completed descriptors, mostly like a device's. */
static void write_back(struct input *in)
{
    const uint8_t how = in8(in);
    const unsigned n = 1 + how % 40;
    uint32_t at = (rx()->pos + (how & 0x40 ? in8(in) : 0)) % RING;

    for (unsigned i = 0; i < n; i++, at = (at + 1) % RING) {
        const uint8_t what = in8(in);
        uint64_t word = INTEL_RX_DD | (uint64_t)(in16(in) % (DMA_BUF_SIZE + 1)) << 32;

        if (what & 1)
            word |= INTEL_RX_EOP;
        if (what & 2)
            word |= 0x70;
        if (what & 4)
            word |= (uint64_t)(what >> 4 & 7) << 29;
        if (what & 8)
            word = (uint64_t)in32(in) << 32 | in32(in);
        rx()->desc[at].word = cpu_to_le64(word);
        rx()->desc[at].addr = cpu_to_le64((uint64_t)what * 0x0101010101010101u);
        in_bytes(in, intel_rx_buf(rx(), at), what >> 5 << 4);
    }
}

static void report(struct input *in)
{
    const unsigned n = in8(in);

    for (unsigned i = 0; i < n; i++)
        tx()->desc[(tail_seen + i) % RING].word = cpu_to_le64(in8(in) & 1 ? ~0ull : 0);
}

/* ---- what the driver did ---- */

/* A piece of a frame is the next of the buffers taken, or is left out as empty. */
static void check_pieces(const struct frame *f, uint32_t *at)
{
    uint32_t len = f->hdr_len;

    MUST(f->hdr_len <= SNAP_SIZE && f->hdr_len <= f->len && f->len >= ETH_HDR_LEN && f->len <= US_FRAME_MAX);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        const uint8_t *const from = f->iov[i].iov_base;
        unsigned looked = 0;

        while (from < intel_rx_buf(rx(), *at) || from >= intel_rx_buf(rx(), *at) + DMA_BUF_SIZE) {
            *at = (*at + 1) % RING;
            MUST(++looked < RING);
        }
        MUST(f->iov[i].iov_len > 0 && from + f->iov[i].iov_len <= intel_rx_buf(rx(), *at) + DMA_BUF_SIZE);
        len += (uint32_t)f->iov[i].iov_len;
        *at = (*at + 1) % RING;
    }
    MUST(len == f->len);
}

static void receive(struct input *in)
{
    uint32_t at = rx()->pos, first = rx()->pos;
    unsigned n;

    burst.held_back = in8(in) % BURST_MAX;
    n = intel_rx_burst(&nic.queue[0], &burst);
    MUST(n == burst.n && n <= BURST_MAX - burst.held_back && rx()->taken < RING);
    for (unsigned i = 0; i < n; i++)
        check_pieces(&burst.frame[i], &at);
    MUST((at + RING - first) % RING <= rx()->taken || rx()->taken == 0);
}

static void check_given_back(uint32_t first, uint32_t n)
{
    for (uint32_t i = first; n; i = (i + 1) % RING, n--) {
        MUST(le64_to_cpu(rx()->desc[i].addr) == dma_iova(&nic.pool, intel_rx_buf(rx(), i)));
        MUST(le64_to_cpu(rx()->desc[i].word) == 0);
    }
}

static void complete(void)
{
    const uint32_t n = rx()->taken, first = (rx()->pos + RING - n) % RING;

    intel_rx_complete(&nic.queue[0], &burst);
    check_given_back(first, n);
    MUST(tail(RDT) == (rx()->pos + RING - 1) % RING);
    burst.n = 0;
}

/* 82576 7.2.2.2: headers that are there, and of plausible length. */
static void check_context(uint64_t low, uint64_t high)
{
    const uint32_t ip_len = low & 0x1ff, mac_len = low >> 9 & 0x7f;

    MUST(mac_len >= ETH_HDR_LEN && mac_len <= ETH_HDR_LEN + 3 * VLAN_TAG_LEN && ip_len >= 20);
    MUST((low >> 16) == 0 && (high >> 32 & 0xff) == 0);
}

/* Descriptors that the device was given since the last time. */
static void check_given(void)
{
    const uint32_t end = tail(TDT);
    uint32_t sum = 0, total = 0, segs = 0;

    for (; tail_seen != end; tail_seen = (tail_seen + 1) % RING) {
        const uint64_t high = le64_to_cpu(tx()->desc[tail_seen].word), low = le64_to_cpu(tx()->desc[tail_seen].addr);
        const uint32_t len = high & 0xffff;

        if ((high >> 20 & 0xf) == 2) {
            check_context(low, high);
            continue;
        }
        MUST(low == dma_iova(&nic.pool, tx()->buf) + (uint64_t)tail_seen * DMA_BUF_SIZE);
        MUST(len > 0 && len <= DMA_BUF_SIZE && ++segs <= CHAIN_MAX);
        if (segs == 1) {
            total = (uint32_t)(high >> 46);
            MUST(total > 0);
        }
        sum += len;
        if (high & INTEL_TX_EOP) {
            MUST(high & INTEL_TX_TSE ? total < sum : total == sum && sum >= 60);
            sum = segs = 0;
        }
    }
    MUST(sum == 0);
}

/* What was received goes out again, as if a guest had sent it with that request. */
static void forward(struct input *in)
{
    struct frame *frames[BURST_MAX];
    uint8_t why[BURST_MAX], wire[VNET_WIRE_LEN];
    const uint8_t how = in8(in);

    in_bytes(in, wire, sizeof(wire));
    for (unsigned i = 0; i < burst.n; i++) {
        struct frame *const f = &burst.frame[i];

        frames[i] = f;
        f->out_vid = how & 1 ? 100 : US_VID_UNTAGGED;
        if ((how & 2) && vnet_parse(wire, f->len, ~0u, &f->vnet) != DROP_none)
            f->vnet = (struct vnet){ 0 };
        why[i] = DROP_COUNT;
    }
    intel_tx_burst(&nic.queue[0], frames, burst.n, why);
    for (unsigned i = 0; i < burst.n; i++)
        MUST(why[i] == DROP_none || why[i] == DROP_ring_full || why[i] == DROP_offload || why[i] == DROP_mtu);
    check_given();
}

static void check_canary(void)
{
    for (unsigned i = 0; i < MARGIN; i++)
        MUST(memory[i] == CANARY && memory[MARGIN + nic.pool.size + i] == CANARY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };

    restart();
    for (unsigned i = 0; i < STEPS_MAX && in.left; i++) {
        switch (in8(&in) % 6) {
        case 0:
        case 1:
            write_back(&in);
            break;
        case 2:
            if (rx()->taken == 0)
                receive(&in);
            break;
        case 3:
            forward(&in);
            break;
        case 4:
            complete();
            break;
        default:
            report(&in);
            (void)intel_rx_pending(&nic.queue[0]);
        }
        if (atomic_load(&nic.failed))
            restart();
    }
    check_canary();
    return 0;
}
