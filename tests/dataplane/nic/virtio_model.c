/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_model.c - see virtio_model.h: config space, registers, commands.
 */
#include "nic/virtio_model.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "nic/nic_math.h"

/* ---- config space: PCI 3.0, 6.1; virtio 1.2, 4.1.4 ---- */

static void put32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, 4);
}

static uint8_t put_cap(uint8_t *config, uint8_t at, uint8_t type, uint32_t offset, uint32_t length, uint8_t next)
{
    const uint8_t len = type == VIRTIO_CAP_TYPE_NOTIFY ? 20 : 16;

    config[at] = 0x09;
    config[at + 1] = next;
    config[at + 2] = len;
    config[at + 3] = type;
    config[at + 4] = VM_BAR;
    put32(config + at + 8, offset);
    put32(config + at + 12, length);
    if (type == VIRTIO_CAP_TYPE_NOTIFY)
        put32(config + at + 16, VM_NOTIFY_MULTIPLIER);
    return at;
}

static void make_config(uint8_t *config)
{
    config[0] = 0xf4;
    config[1] = 0x1a;
    config[2] = 0x41;
    config[3] = 0x10;
    config[0x06] = 0x10;
    config[0x34] = 0x98;
    config[0x98] = 0x11;        /* MSI-X first, as devices have it */
    config[0x99] = 0x40;
    put_cap(config, 0x40, 3, 0x1000, 0x1000, 0x50);     /* interrupt status */
    put_cap(config, 0x50, VIRTIO_CAP_TYPE_COMMON, VM_COMMON, 0x1000, 0x60);
    put_cap(config, 0x60, VIRTIO_CAP_TYPE_DEVICE, VM_DEVICE, VM_DEVICE_SIZE, 0x70);
    put_cap(config, 0x70, VIRTIO_CAP_TYPE_NOTIFY, VM_NOTIFY, 0x1000, 0x84);
    put_cap(config, 0x84, 5, 0, 0, 0);                  /* access by config space */
}

/* ---- life ---- */

void vm_violation(struct vm *vm, const char *what)
{
    vm->violations++;
    fprintf(stderr, "the driver violates the specification: %s\n", what);
}

static void reset(struct vm *vm)
{
    vm->resets++;
    vm->status = 0;
    vm->features = 0;
    vm->config_vector = VIRTIO_NO_VECTOR;
    vm->device_select = vm->driver_select = 0;
    vm->queue_select = 0;
    vm->pairs = 1;
    vm->promiscuous = false;
    vm->coal_usecs = 0;
    vm->rss.on = false;
    memset(vm->queue, 0, sizeof(vm->queue));
    for (unsigned i = 0; i < VM_QUEUES; i++) {
        vm->queue[i].size = vm->queue_max;
        vm->queue[i].vector = VIRTIO_NO_VECTOR;
    }
}

void vm_set_net(struct vm *vm, uint32_t offset, uint32_t value, unsigned bytes)
{
    value = htole32(value);
    memcpy(vm->net + offset, &value, bytes);
    vm->generation++;
}

static void interrupt(struct vm *vm, uint16_t vector)
{
    if (vector < VM_VECTORS)
        vm->interrupts[vector]++;
}

void vm_config_changed(struct vm *vm)
{
    if (vm->status & VIRTIO_STATUS_DRIVER_OK)
        interrupt(vm, vm->config_vector);
}

void vm_break(struct vm *vm)
{
    vm->status |= VIRTIO_STATUS_NEEDS_RESET;
    vm_config_changed(vm);
}

static uint32_t max_pairs(const struct vm *vm)
{
    return vm->net[VIRTIO_NET_CFG_MAX_PAIRS] | (uint32_t)vm->net[VIRTIO_NET_CFG_MAX_PAIRS + 1] << 8;
}

uint32_t vm_ctrl_index(const struct vm *vm)
{
    return vm_has(vm, VIRTIO_NET_F_MQ) ? 2 * max_pairs(vm) : 2;
}

/* ---- the control queue: 5.1.6.5 ---- */

static uint32_t get16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

/* A receive queue as the command names it: in use, and enabled. */
static bool is_rx_queue(struct vm *vm, uint32_t pair)
{
    return pair < max_pairs(vm) && vm->queue[2 * pair].enabled;
}

/* 5.1.6.5.7.1: hash types, mask, queue of what has no hash, table, transmit queues, key. */
static uint8_t configure_rss(struct vm *vm, const uint8_t *data, uint32_t len)
{
    const uint32_t types = len < 8 ? 0 : get16(data) | get16(data + 2) << 16, n = len < 8 ? 0 : get16(data + 4) + 1;
    const uint32_t tail = 8 + 2 * n;
    struct vm_rss *const rss = &vm->rss;

    if (len < tail + 3 || len != tail + 3 + data[tail + 2] || data[tail + 2] > vm->net[VIRTIO_NET_CFG_RSS_KEY] ||
        n > get16(vm->net + VIRTIO_NET_CFG_RSS_TABLE) || (n & (n - 1)) || n > VM_RSS_TABLE ||
        data[tail + 2] != VM_RSS_KEY || (types & ~get16(vm->net + VIRTIO_NET_CFG_HASH_TYPES)) ||
        !is_rx_queue(vm, get16(data + 6)) || get16(data + tail) < 1 || get16(data + tail) > max_pairs(vm)) {
        vm_violation(vm, "RSS_CONFIG beyond what the device has");
        return 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        rss->table[i] = (uint16_t)get16(data + 8 + 2 * i);
        if (!is_rx_queue(vm, rss->table[i]))
            vm_violation(vm, "RSS_CONFIG names a queue that is not enabled");
    }
    if (vm->fault.rss_refuse)
        return 1;
    rss->on = true;
    rss->types = types;
    rss->n = n;
    memcpy(rss->key, data + tail + 3, VM_RSS_KEY);
    vm->pairs = get16(data + tail);
    return 0;
}

uint32_t vm_rss_pair(const struct vm *vm, const uint8_t *frame, uint32_t len)
{
    struct nic_packet p;
    uint32_t types;

    nic_packet_parse(frame, len, &p);
    types = p.ip6 ? vm->rss.types >> 3 : vm->rss.types;
    if (!vm->rss.on || !p.l3 || !(types & 7))
        return 0;
    if (!(types & (p.udp ? 4 : 2)))
        p.l4 = 0;
    return vm->rss.table[nic_rss_hash(vm->rss.key, frame, &p) & (vm->rss.n - 1)];
}

static uint8_t carry_out(struct vm *vm, const uint8_t *cmd, uint32_t len)
{
    const uint32_t value = len >= 4 ? cmd[2] | (uint32_t)cmd[3] << 8 : 0;

    if (len < 3)
        return 1;
    if (cmd[0] == 0 && cmd[1] == 0 && len == 3 && vm_has(vm, VIRTIO_NET_F_CTRL_RX)) {
        vm->promiscuous = cmd[2];
        return 0;
    }
    if (cmd[0] == 4 && cmd[1] == 0 && len == 4 && vm_has(vm, VIRTIO_NET_F_MQ)) {
        if (value < 1 || value > max_pairs(vm))
            return 1;
        vm->pairs = value;
        vm->rss.on = false;
        return 0;
    }
    if (cmd[0] == 4 && cmd[1] == 1 && vm_has(vm, VIRTIO_NET_F_RSS))
        return configure_rss(vm, cmd + 2, len - 2);
    if (cmd[0] == 6 && cmd[1] == 1 && len == 10 && vm_has(vm, VIRTIO_NET_F_NOTF_COAL)) {
        vm->coal_usecs = cmd[6] | (uint32_t)cmd[7] << 8;
        return 0;
    }
    vm_violation(vm, "a command that is unknown, malformed or not negotiated");
    return 1;
}

static void serve_ctrl(struct vm *vm, struct vm_queue *q)
{
    struct vm_buf b;

    while (!vm->fault.ctrl_silent && vm_pop(vm, q, &b)) {
        uint8_t answer;

        if (b.n != 2 || b.part[0].write || !b.part[1].write || b.part[1].len < 1) {
            vm_violation(vm, "a command is one part to read and one to write");
            return;
        }
        vm->commands++;
        answer = carry_out(vm, b.part[0].p, b.part[0].len);
        *b.part[1].p = vm->fault.ctrl_refuse ? 1 : answer;
        if (vm->fault.ctrl_wild)
            vm_push_raw(vm, q, q->size - 1u, 1, 1, b.slots);
        else
            vm_push(vm, q, &b, 1);
        vm_signal(vm, q);
    }
}

static void notified(struct vm *vm, uint32_t offset, uint32_t value, unsigned bytes)
{
    if (bytes != 2 || offset != value * VM_NOTIFY_MULTIPLIER || value >= VM_QUEUES || !vm->queue[value].enabled) {
        vm_violation(vm, "a notification to the wrong place, or of a queue that is not enabled");
        return;
    }
    if (!(vm->status & VIRTIO_STATUS_DRIVER_OK)) {
        vm_violation(vm, "a notification before DRIVER_OK");    /* 3.1.1 */
        return;
    }
    vm->queue[value].notified++;
    if (vm_has(vm, VIRTIO_NET_F_CTRL_VQ) && value == vm_ctrl_index(vm))
        serve_ctrl(vm, &vm->queue[value]);
}

/* ---- registers: 4.1.4.3 ---- */

static struct vm_queue *selected(struct vm *vm)
{
    vm->no_queue = (struct vm_queue){ .vector = VIRTIO_NO_VECTOR };
    return vm->queue_select < VM_QUEUES ? &vm->queue[vm->queue_select] : &vm->no_queue;
}

static uint32_t read_common(struct vm *vm, uint32_t reg)
{
    struct vm_queue *const q = selected(vm);

    switch (reg) {
    case VIRTIO_COMMON_DEVICE_FEATURE_SELECT: return vm->device_select;
    case VIRTIO_COMMON_DEVICE_FEATURE:
        return vm->device_select < 2 ? (uint32_t)(vm->offered >> (32 * vm->device_select)) : 0;
    case VIRTIO_COMMON_DRIVER_FEATURE_SELECT: return vm->driver_select;
    case VIRTIO_COMMON_DRIVER_FEATURE:
        return vm->driver_select < 2 ? (uint32_t)(vm->features >> (32 * vm->driver_select)) : 0;
    case VIRTIO_COMMON_CONFIG_MSIX_VECTOR: return vm->config_vector;
    case VIRTIO_COMMON_NUM_QUEUES: return VM_QUEUES;
    case VIRTIO_COMMON_DEVICE_STATUS: return vm->status;
    case VIRTIO_COMMON_CONFIG_GENERATION:
        vm->generation += vm->fault.unstable;
        return vm->generation;
    case VIRTIO_COMMON_QUEUE_SELECT: return vm->queue_select;
    case VIRTIO_COMMON_QUEUE_SIZE: return q->size;
    case VIRTIO_COMMON_QUEUE_MSIX_VECTOR: return q->vector;
    case VIRTIO_COMMON_QUEUE_ENABLE: return q->enabled;
    case VIRTIO_COMMON_QUEUE_NOTIFY_OFF: return vm->queue_select + vm->fault.notify_off;
    default:
        vm_violation(vm, "a register that is none is read");
        return 0;
    }
}

static unsigned width(uint32_t reg)
{
    switch (reg) {
    case VIRTIO_COMMON_DEVICE_STATUS:
    case VIRTIO_COMMON_CONFIG_GENERATION:
        return 1;
    case VIRTIO_COMMON_CONFIG_MSIX_VECTOR:
    case VIRTIO_COMMON_NUM_QUEUES:
        return 2;
    default:
        return reg >= VIRTIO_COMMON_QUEUE_SELECT && reg < VIRTIO_COMMON_QUEUE_DESC ? 2 : 4;
    }
}

static void write_status(struct vm *vm, uint8_t status)
{
    if (status == 0) {
        if (!vm->fault.reset_stuck)
            reset(vm);
        return;
    }
    if (vm->status & ~status & ~VIRTIO_STATUS_NEEDS_RESET)
        vm_violation(vm, "a bit of the status is taken back");  /* 2.1.1 */
    if ((status & ~vm->status & VIRTIO_STATUS_FEATURES_OK) &&
        (vm->fault.refuse_features || (vm->features & ~vm->offered) ||
         (vm->offered & ~vm->features & VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM))))
        status &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    if (status & ~vm->status & VIRTIO_STATUS_DRIVER_OK) {
        if (!(status & VIRTIO_STATUS_FEATURES_OK))
            vm_violation(vm, "DRIVER_OK without FEATURES_OK");
        for (unsigned i = 0; i < VM_QUEUES; i++)
            if (vm->queue[i].enabled)
                vm_ring_reset(vm, &vm->queue[i]);
        if (vm->fault.needs_reset)
            status |= VIRTIO_STATUS_NEEDS_RESET;
    }
    vm->status = status;
}

static void set_half(uint64_t *word, bool high, uint32_t value)
{
    if (high)
        *word = (*word & 0xffffffffu) | (uint64_t)value << 32;
    else
        *word = (*word & ~0xffffffffull) | value;
}

static uint16_t wired(const struct vm *vm, uint32_t vector)
{
    return vm->fault.no_vector || vector >= VM_VECTORS ? VIRTIO_NO_VECTOR : (uint16_t)vector;
}

static void write_queue(struct vm *vm, struct vm_queue *q, uint32_t reg, uint32_t value)
{
    if (q->enabled || !(vm->status & VIRTIO_STATUS_FEATURES_OK))
        vm_violation(vm, "a queue is set up that is enabled, or before the features are");
    switch (reg) {
    case VIRTIO_COMMON_QUEUE_SIZE:
        if (value == 0 || value > vm->queue_max || (!vm_has(vm, VIRTIO_F_RING_PACKED) && (value & (value - 1))))
            vm_violation(vm, "size of a queue");
        q->size = (uint16_t)value;
        break;
    case VIRTIO_COMMON_QUEUE_MSIX_VECTOR: q->vector = wired(vm, value); break;
    case VIRTIO_COMMON_QUEUE_ENABLE: q->enabled = value == 1; break;
    case VIRTIO_COMMON_QUEUE_DESC: set_half(&q->desc, false, value); break;
    case VIRTIO_COMMON_QUEUE_DESC + 4: set_half(&q->desc, true, value); break;
    case VIRTIO_COMMON_QUEUE_DRIVER: set_half(&q->driver, false, value); break;
    case VIRTIO_COMMON_QUEUE_DRIVER + 4: set_half(&q->driver, true, value); break;
    case VIRTIO_COMMON_QUEUE_DEVICE: set_half(&q->device, false, value); break;
    case VIRTIO_COMMON_QUEUE_DEVICE + 4: set_half(&q->device, true, value); break;
    default: vm_violation(vm, "a register that is none, or not to be written, is written"); break;
    }
}

static void write_common(struct vm *vm, uint32_t reg, uint32_t value)
{
    switch (reg) {
    case VIRTIO_COMMON_DEVICE_FEATURE_SELECT: vm->device_select = value; break;
    case VIRTIO_COMMON_DRIVER_FEATURE_SELECT: vm->driver_select = value; break;
    case VIRTIO_COMMON_DRIVER_FEATURE:
        if (vm->status & VIRTIO_STATUS_FEATURES_OK)
            vm_violation(vm, "features are changed after FEATURES_OK");
        if (vm->driver_select < 2)
            set_half(&vm->features, vm->driver_select == 1, value);
        break;
    case VIRTIO_COMMON_CONFIG_MSIX_VECTOR: vm->config_vector = wired(vm, value); break;
    case VIRTIO_COMMON_DEVICE_STATUS: write_status(vm, (uint8_t)value); break;
    case VIRTIO_COMMON_QUEUE_SELECT: vm->queue_select = (uint16_t)value; break;
    default: write_queue(vm, selected(vm), reg, value); break;
    }
}

static uint32_t model_read(void *ctx, uint32_t offset, unsigned bytes)
{
    struct vm *const vm = ctx;
    uint32_t value = 0;

    if (vm->fault.gone)
        return UINT32_MAX >> (32 - 8 * bytes);
    if (offset < VM_COMMON + VIRTIO_COMMON_SIZE) {
        if (width(offset) != bytes)
            vm_violation(vm, "a register is read in another width than its own");
        return read_common(vm, offset);
    }
    if (offset >= VM_DEVICE && offset + bytes <= VM_DEVICE + VM_DEVICE_SIZE) {
        memcpy(&value, vm->net + offset - VM_DEVICE, bytes);
        return le32toh(value);
    }
    vm_violation(vm, "something is read that is no register");
    return UINT32_MAX;
}

static void model_write(void *ctx, uint32_t offset, uint32_t value, unsigned bytes)
{
    struct vm *const vm = ctx;

    if (vm->fault.gone)
        return;
    if (offset < VM_COMMON + VIRTIO_COMMON_SIZE) {
        if (width(offset) != bytes)
            vm_violation(vm, "a register is written in another width than its own");
        write_common(vm, offset, value);
    } else if (offset >= VM_NOTIFY && offset < VM_NOTIFY + 0x1000) {
        notified(vm, offset - VM_NOTIFY, value, bytes);
    } else {
        vm_violation(vm, "something is written that is no register");
    }
}

void vm_init(struct vm *vm, const struct dma_pool *pool, uint64_t offered, uint16_t queue_max)
{
    static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

    memset(vm, 0, sizeof(*vm));
    vm->model = (struct bar_model){ model_read, model_write, vm };
    vm->pool = pool;
    vm->offered = offered;
    vm->queue_max = queue_max;
    make_config(vm->config);
    memcpy(vm->net, mac, sizeof(mac));
    vm_set_net(vm, VIRTIO_NET_CFG_STATUS, 1, 2);
    vm_set_net(vm, VIRTIO_NET_CFG_MAX_PAIRS, 1, 2);
    vm_set_net(vm, VIRTIO_NET_CFG_MTU, 1500, 2);
    vm_set_net(vm, VIRTIO_NET_CFG_SPEED, 10000, 4);
    vm_set_net(vm, VIRTIO_NET_CFG_DUPLEX, 1, 1);
    vm_set_net(vm, VIRTIO_NET_CFG_RSS_KEY, VM_RSS_KEY, 1);
    vm_set_net(vm, VIRTIO_NET_CFG_RSS_TABLE, VM_RSS_TABLE, 2);
    vm_set_net(vm, VIRTIO_NET_CFG_HASH_TYPES, 0x1ff, 4);
    reset(vm);
    vm->resets = 0;
}
