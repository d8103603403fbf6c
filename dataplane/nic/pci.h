/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * pci.h - a device's config space (PCI 3.0, chapter 6): who it is, which
 * BARs it has, which capabilities, and the command register.
 *
 * The space is read once, whole; what is looked for is looked for in the
 * copy, so that no device can change its mind between check and use.  A
 * device's list of capabilities may be a loop or lead nowhere.
 */
#ifndef USWITCH_NIC_PCI_H
#define USWITCH_NIC_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_CONFIG_SIZE 256
#define PCI_BARS 6

/* Offsets (6.1, 6.2). */
#define PCI_VENDOR 0x00
#define PCI_DEVICE 0x02
#define PCI_COMMAND 0x04
#define PCI_STATUS 0x06
#define PCI_HEADER_TYPE 0x0e
#define PCI_BAR0 0x10
#define PCI_CAP_POINTER 0x34

#define PCI_COMMAND_MEMORY 0x2
#define PCI_COMMAND_MASTER 0x4
#define PCI_STATUS_CAPS 0x10

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64, PCI_BAR_UPPER_HALF };

/**
 * struct pci_config - the way to a device's config space
 * @fd: file that pread() and pwrite() reach it by (borrowed)
 * @offset: where it begins there
 */
struct pci_config {
    int fd;
    uint64_t offset;
};

/* The whole space.  Control thread.  Return: 0; -EIO if it is shorter, or all ones: nobody is there. */
int pci_read_config(const struct pci_config *c, uint8_t config[PCI_CONFIG_SIZE]);

/* Change bits of the command register.  Control thread.  Return: 0 or -EIO. */
int pci_command(const struct pci_config *c, uint16_t clear, uint16_t set);

/* ---- in a copy; any thread ---- */

uint16_t pci_get16(const uint8_t config[PCI_CONFIG_SIZE], unsigned at);

/* What BAR @i (0 .. PCI_BARS - 1) is. */
enum pci_bar_kind pci_bar(const uint8_t config[PCI_CONFIG_SIZE], unsigned i);

/**
 * pci_find_cap() - the next capability of a kind
 * @config: copy of the config space
 * @id: capability id (appendix H)
 * @after: offset of the last one found; 0: the first
 *
 * Return: its offset, 64 .. 252; or 0 if there is none.
 */
unsigned pci_find_cap(const uint8_t config[PCI_CONFIG_SIZE], uint8_t id, unsigned after);

#endif /* USWITCH_NIC_PCI_H */
