/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_drivers.c - the drivers there are.  To add one: a line here.
 */
#include <stddef.h>

#include "nic/nic.h"

const struct nic_driver *const nic_drivers[] = {
    &igb_driver,
    &ixgbe_driver,
    &virtio_pci_driver,
    NULL,
};

const struct nic_driver *nic_find_driver(uint16_t vendor, uint16_t device, uint32_t *variant)
{
    for (unsigned i = 0; nic_drivers[i]; i++) {
        for (const struct nic_id *id = nic_drivers[i]->ids; id->vendor; id++) {
            if (id->vendor != vendor || id->device != device)
                continue;
            *variant = id->variant;
            return nic_drivers[i];
        }
    }
    return NULL;
}
