/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_ixgbe_rsc.c - a broken adapter that coalesces: any words written back
 * into the descriptors of a ring in which frames may be joined, and any bytes
 * into the buffers, between any calls of the driver's fast path.
 *
 * Claimed:
 *   - a frame of a burst is bytes of buffers that the device had, none of them
 *     twice, none beyond its end, as long as the frame says;
 *   - a request is one that the switch would take from a guest, and its
 *     segments are no longer than frames of the link;
 *   - the buffers given back are those of frames that were delivered, each with
 *     a descriptor for the same buffer as ever; the tail stays in the ring.
 *
 * BUG rsc_next_is_believed nic/ixgbe_rsc.c
 *   - if (!can_follow(s, i, next))
 *   + if (next >= s->size && !can_follow(s, i, next))
 *   ! not true
 *
 * BUG rsc_header_is_believed nic/ixgbe_rsc_request.c
 *   - end >= f->len ||
 *   + end > f->len + 65535 ||
 *   ! not true
 */
#include <string.h>
#include <sys/mman.h>

#include "fuzz_guest.h"
#include "nic/intel_ring.h"
#include "nic/ixgbe.h"
#include "vnet.h"

#define RING 128u
#define RDT 0x18u
#define TDT 0x118u
#define IOVA 0x7f00000000ull
#define STEPS_MAX 64
#define MAX_FRAME 1514u

static const struct intel_kind kind = { .rx_l4_checked = 0x20, .rx_l4_wrong = 1u << 30, .rx_ip_wrong = 1u << 31,
                                        .rx_damaged = 1u << 29 };

static struct nic nic;
static struct ixgbe ixgbe;
static struct us_state_page page;
static struct burst burst;
static uint8_t registers[0x1000] __attribute__((aligned(64)));

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct nic_config cfg = { .n_queues = 1, .ring_size = RING, .max_frame = MAX_FRAME, .lro = true };
    const size_t bytes = (intel_ring_pool_size(&cfg) + 4095) / 4096 * 4096;
    uint8_t *const memory = mmap(NULL, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)argc;
    (void)argv;
    MUST(memory != MAP_FAILED && mprotect(memory + bytes, 4096, PROT_NONE) == 0);
    nic.cfg = cfg;
    nic.pool = (struct dma_pool){ .base = memory, .size = bytes, .iova = IOVA };
    nic.bar[0] = (struct bar){ .base = registers, .size = sizeof(registers) };
    nic.priv = &ixgbe;
    nic.port.state = &page;
    nic.port.news_fd = -1;
    nic.queue[0].nic = &nic;
    atomic_store(&nic.port.max_frame, MAX_FRAME);
    return 0;
}

static const struct intel_rx *rx(void)
{
    return nic.queue[0].rx;
}

static struct ixgbe_rsc *rsc(void)
{
    return &ixgbe.joined[0];
}

static void restart(void)
{
    intel_ring_destroy(&nic.queue[0]);
    ixgbe_rsc_destroy(rsc());
    dma_reset(&nic.pool);
    memset(registers, 0, sizeof(registers));
    MUST(intel_ring_create(&nic.queue[0], &kind, RDT, TDT) == 0 && ixgbe_rsc_create(rsc(), RING) == 0);
    intel_rx_offer(&nic.queue[0]);
    atomic_store(&nic.failed, 0);
    port_mend(&nic.port);
    burst.n = 0;
}

/* A header that may be joined, into a buffer; then anything over it. */
static void fill_buffer(struct input *in, uint8_t *to, uint8_t how)
{
    static const uint8_t ipv4[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 1, 0, 0, 0, 0, 0, 64, 6 };
    static const uint8_t ipv6[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 1, 0, 6, 64 };

    if (how & 1)
        memcpy(to, how & 2 ? ipv4 : ipv6, how & 2 ? sizeof(ipv4) : sizeof(ipv6));
    if (how & 1)
        to[(how & 2 ? 34 : 54) + 12] = 0x50;
    in_bytes(in, to + (how >> 2), how & 0xf);
}

/* Completed descriptors, mostly like a device's: lengths of buffers, chains that go forward. */
static void write_back(struct input *in)
{
    uint32_t at = (rsc()->head + in8(in)) % RING;

    for (unsigned n = 1 + in8(in) % 32; n; n--) {
        const uint8_t what = in8(in), step = in8(in);
        const uint32_t next = what & 0x20 ? in16(in) : (at + 1 + step % 8) % RING;
        uint64_t word = (what & 1 ? INTEL_RX_DD : 0) | (what & 2 ? INTEL_RX_EOP : 0) | (uint64_t)next << 4;

        if (what & 2)
            word &= ~0xffff0ull;
        word |= (uint64_t)(what & 0x40 ? in16(in) : in16(in) % (DMA_BUF_SIZE + 1)) << 32;
        if (what & 0x80)
            word |= (uint64_t)(in8(in) & 7) << 29;
        rx()->desc[at].addr = cpu_to_le64((uint64_t)(what & 4 ? step >> 3 & 15 : 0) << 17);
        rx()->desc[at].word = cpu_to_le64(word);
        if (what & 8)
            fill_buffer(in, intel_rx_buf(rx(), at), in8(in));
        at = what & 0x10 ? next % RING : (at + 1) % RING;
    }
}

/* Which buffer a piece lies in; each may be part of one frame only. */
static void use_piece(const struct iovec *iov, uint8_t used[RING])
{
    const size_t past = (size_t)((const uint8_t *)iov->iov_base - rx()->buf);
    const size_t i = past / INTEL_BUF_STRIDE;

    MUST(i < RING && iov->iov_len > 0 && past % INTEL_BUF_STRIDE + iov->iov_len <= DMA_BUF_SIZE);
    MUST(!used[i] && rsc()->mark[i] == UINT32_MAX);
    used[i] = 1;
}

static void check_frame(const struct frame *f, uint8_t used[RING])
{
    const struct vnet *const v = &f->vnet;
    uint32_t len = f->hdr_len;
    uint8_t wire[VNET_WIRE_LEN];
    struct vnet again;

    for (uint32_t i = 0; i < f->n_iov; i++) {
        use_piece(&f->iov[i], used);
        len += (uint32_t)f->iov[i].iov_len;
    }
    MUST(len == f->len && f->hdr_len <= SNAP_SIZE && len >= ETH_HDR_LEN && len <= US_FRAME_MAX);
    if (!(v->flags & VNET_NEEDS_CSUM)) {
        MUST(v->gso_type == VNET_GSO_NONE && len <= MAX_FRAME + VLAN_TAG_LEN);
        return;
    }
    vnet_format(v, 0, wire);
    MUST(vnet_parse(wire, len, OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6, &again) == DROP_none);
    MUST(v->hdr_len < len);
    MUST(v->gso_type == VNET_GSO_NONE || v->gso_size <= VNET_GSO_SIZE_MIN ||
         v->hdr_len + v->gso_size <= MAX_FRAME + VLAN_TAG_LEN);
}

static void receive(struct input *in)
{
    uint8_t used[RING] = { 0 };
    unsigned n;

    burst.held_back = in8(in) % BURST_MAX;
    n = ixgbe_rsc_burst(&nic.queue[0], &burst);
    MUST(n == burst.n && n <= BURST_MAX - burst.held_back);
    for (unsigned i = 0; i < n; i++)
        check_frame(&burst.frame[i], used);
}

static void complete(void)
{
    const uint32_t first = rsc()->head;

    ixgbe_rsc_complete(&nic.queue[0], &burst);
    for (uint32_t i = first; i != rsc()->head; i = (i + 1) % RING) {
        MUST(le64_to_cpu(rx()->desc[i].addr) == dma_iova(&nic.pool, intel_rx_buf(rx(), i)));
        MUST(le64_to_cpu(rx()->desc[i].word) == 0);
    }
    MUST(bar_read32(&nic.bar[0], RDT) == (rsc()->head + RING - 1) % RING);
    burst.n = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };

    restart();
    for (unsigned i = 0; i < STEPS_MAX && in.left; i++) {
        switch (in8(&in) % 4) {
        case 0:
        case 1:
            write_back(&in);
            break;
        case 2:
            receive(&in);
            complete();
            break;
        default:
            (void)ixgbe_rsc_pending(&nic.queue[0]);
        }
        if (atomic_load(&nic.failed))
            restart();
    }
    return 0;
}
