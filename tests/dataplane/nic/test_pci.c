/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_pci.c - config spaces, sound ones and those of a device that lies.
 */
#include "harness.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nic/pci.h"

static uint8_t config[PCI_CONFIG_SIZE];

static void cap(unsigned at, uint8_t id, uint8_t next)
{
    config[at] = id;
    config[at + 1] = next;
}

TEST(capabilities)
{
    memset(config, 0, sizeof(config));
    config[PCI_CAP_POINTER] = 0x40;
    cap(0x40, 1, 0x50);
    cap(0x50, 9, 0x63);         /* the low two bits are reserved */
    cap(0x60, 9, 0x70);
    cap(0x70, 17, 0);
    CHECK_EQ(pci_find_cap(config, 1, 0), 0);    /* the status says that there are none */
    config[PCI_STATUS] = PCI_STATUS_CAPS;
    CHECK_EQ(pci_find_cap(config, 1, 0), 0x40);
    CHECK_EQ(pci_find_cap(config, 9, 0), 0x50);
    CHECK_EQ(pci_find_cap(config, 9, 0x50), 0x60);
    CHECK_EQ(pci_find_cap(config, 9, 0x60), 0);
    CHECK_EQ(pci_find_cap(config, 17, 0), 0x70);
    CHECK_EQ(pci_find_cap(config, 5, 0), 0);
    cap(0x70, 17, 0x40);        /* a loop */
    CHECK_EQ(pci_find_cap(config, 5, 0), 0);
    CHECK_EQ(pci_find_cap(config, 9, 0x60), 0);
    cap(0x50, 9, 0x20);         /* into the header */
    CHECK_EQ(pci_find_cap(config, 17, 0), 0);
    config[PCI_CAP_POINTER] = 0xff;
    cap(0xfc, 17, 0xfc);
    CHECK_EQ(pci_find_cap(config, 17, 0), 0xfc);
    CHECK_EQ(pci_find_cap(config, 17, 0xfc), 0);
}

TEST(bars)
{
    memset(config, 0, sizeof(config));
    config[PCI_BAR0] = 0x04;            /* 64 bits wide, at 0xfe00000004 */
    config[PCI_BAR0 + 3] = 0xfe;
    config[PCI_BAR0 + 4] = 0x01;        /* its upper half looks like an I/O BAR */
    config[PCI_BAR0 + 8] = 0x01;
    config[PCI_BAR0 + 12 + 2] = 0x10;
    config[PCI_BAR0 + 20] = 0x04;       /* the last: no room for an upper half */
    CHECK_EQ(pci_bar(config, 0), PCI_BAR_MEM64);
    CHECK_EQ(pci_bar(config, 1), PCI_BAR_UPPER_HALF);
    CHECK_EQ(pci_bar(config, 2), PCI_BAR_IO);
    CHECK_EQ(pci_bar(config, 3), PCI_BAR_MEM32);
    CHECK_EQ(pci_bar(config, 4), PCI_BAR_NONE);
    CHECK_EQ(pci_bar(config, 5), PCI_BAR_MEM64);
}

TEST(files)
{
    const int fd = memfd_create("config", MFD_CLOEXEC);
    const struct pci_config c = { .fd = fd, .offset = 4096 };
    uint8_t raw[PCI_CONFIG_SIZE];

    REQUIRE(fd >= 0);
    CHECK_EQ(pci_read_config(&c, raw), -EIO);
    CHECK_EQ(pci_command(&c, 0, PCI_COMMAND_MASTER), -EIO);
    memset(raw, 0xff, sizeof(raw));
    REQUIRE(pwrite(fd, raw, sizeof(raw), 4096) == sizeof(raw));
    CHECK_EQ(pci_read_config(&c, raw), -EIO);   /* nobody answers */
    memset(raw, 0, sizeof(raw));
    raw[0] = 0x86;
    raw[1] = 0x80;
    raw[PCI_COMMAND] = 0x07;
    raw[PCI_COMMAND + 1] = 0x04;
    REQUIRE(pwrite(fd, raw, sizeof(raw), 4096) == sizeof(raw));
    CHECK_EQ(pci_command(&c, PCI_COMMAND_MASTER, 0), 0);
    CHECK_EQ(pci_read_config(&c, raw), 0);
    CHECK_EQ(pci_get16(raw, PCI_VENDOR), 0x8086);
    CHECK_EQ(pci_get16(raw, PCI_COMMAND), 0x0403);
    CHECK_EQ(pci_command(&c, 0, PCI_COMMAND_MASTER), 0);
    CHECK_EQ(pci_read_config(&c, raw), 0);
    CHECK_EQ(pci_get16(raw, PCI_COMMAND), 0x0407);
    close(fd);
}

MAIN
{
    RUN(capabilities);
    RUN(bars);
    RUN(files);
}
