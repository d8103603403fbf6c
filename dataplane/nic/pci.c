/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * pci.c - see pci.h.
 */
#include "nic/pci.h"

#include <errno.h>
#include <unistd.h>

/* Capabilities lie behind the header, on multiples of four (6.7): each place is a bit of a word. */
#define CAPS_BEGIN 0x40

int pci_read_config(const struct pci_config *c, uint8_t config[PCI_CONFIG_SIZE])
{
    if (pread(c->fd, config, PCI_CONFIG_SIZE, (off_t)c->offset) != PCI_CONFIG_SIZE)
        return -EIO;
    return pci_get16(config, PCI_VENDOR) == 0xffff ? -EIO : 0;
}

int pci_command(const struct pci_config *c, uint16_t clear, uint16_t set)
{
    const off_t at = (off_t)(c->offset + PCI_COMMAND);
    uint8_t raw[2];
    uint16_t value;

    if (pread(c->fd, raw, sizeof(raw), at) != sizeof(raw))
        return -EIO;
    value = (uint16_t)(((raw[0] | raw[1] << 8) & ~clear) | set);
    raw[0] = (uint8_t)value;
    raw[1] = (uint8_t)(value >> 8);
    return pwrite(c->fd, raw, sizeof(raw), at) == sizeof(raw) ? 0 : -EIO;
}

uint16_t pci_get16(const uint8_t config[PCI_CONFIG_SIZE], unsigned at)
{
    return (uint16_t)(config[at] | config[at + 1] << 8);
}

/* 6.2.5.1: bit 0 tells I/O from memory, bits 2:1 how wide; a register that is all zero holds no address. */
static enum pci_bar_kind kind_of(const uint8_t bar[4])
{
    if (bar[0] & 1)
        return PCI_BAR_IO;
    if (!(bar[0] | bar[1] | bar[2] | bar[3]))
        return PCI_BAR_NONE;
    return (bar[0] >> 1 & 3) == 2 ? PCI_BAR_MEM64 : PCI_BAR_MEM32;
}

enum pci_bar_kind pci_bar(const uint8_t config[PCI_CONFIG_SIZE], unsigned i)
{
    enum pci_bar_kind kind = PCI_BAR_NONE;

    for (unsigned at = 0; at <= i; at++)
        kind = kind == PCI_BAR_MEM64 ? PCI_BAR_UPPER_HALF : kind_of(config + PCI_BAR0 + (size_t)4 * at);
    return kind;
}

unsigned pci_find_cap(const uint8_t config[PCI_CONFIG_SIZE], uint8_t id, unsigned after)
{
    unsigned at = config[PCI_CAP_POINTER] & ~3u;
    bool passed = after == 0;
    uint64_t seen = 0;

    if (!(pci_get16(config, PCI_STATUS) & PCI_STATUS_CAPS))
        return 0;
    while (at >= CAPS_BEGIN && !(seen & 1ull << at / 4)) {
        seen |= 1ull << at / 4;
        if (passed && config[at] == id)
            return at;
        passed |= at == after;
        at = config[at + 1] & ~3u;
    }
    return 0;
}
