/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * switch_fixture.c - the switch with fake ports of switch_fixture.h.
 */
#include "switch_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct switch_core *core;
struct us_switch_page page;
struct fake_port *fp[N_PORTS];
uint64_t now;

static struct switch_scratch *scratch;
static struct burst *burst;

static void must(bool ok)
{
    if (!ok) {
        fprintf(stderr, "the fixture of the test does not stand\n");
        exit(EXIT_FAILURE);
    }
}

void setup(void)
{
    const struct us_config config = { .n_workers = 1, .fdb_buckets = 256, .fdb_age_s = 300 };

    memset(&page, 0, sizeof(page));
    core = calloc(1, sizeof(*core));
    burst = aligned_alloc(64, sizeof(*burst));
    scratch = switch_scratch_create();
    must(core && burst && scratch && switch_core_init(core, &config, &page) == 0);
    for (uint32_t i = 0; i < N_PORTS; i++) {
        fp[i] = fake_port_create(i);
        must(fp[i] && switch_port_attach(core, &fp[i]->port) == 0);
    }
    now = 1000 * SECOND;
}

void teardown(void)
{
    for (uint32_t i = 0; i < N_PORTS; i++) {
        if (atomic_load(&core->port[i]))
            switch_port_detach(core, &fp[i]->port);
        fake_port_destroy(fp[i]);
    }
    switch_core_fini(core);
    switch_scratch_destroy(scratch);
    free(burst);
    free(core);
}

void access_port(uint32_t p, uint16_t segment)
{
    const struct us_tag_row row = { UNTAGGED, segment };

    must(switch_port_set_tags(core, &fp[p]->port, &row, 1) == 0);
}

void run(uint32_t p)
{
    struct rxq *q = &fp[p]->port.rxq[0];

    while (fake_port_ops.rx_burst(q, burst)) {
        switch_burst(core, scratch, q, burst, now);
        fake_port_ops.rx_complete(q, burst);
    }
}

void put(uint32_t p, uint8_t to, uint8_t from, uint16_t tci, uint32_t len)
{
    uint8_t data[2048];

    fake_eth(data, to, from, tci, len);
    must(fake_port_inject(fp[p], data, len, NULL) == 0);
}

void put_run(uint32_t p, uint8_t to, uint8_t from, uint16_t tci, uint32_t len)
{
    put(p, to, from, tci, len);
    run(p);
}

uint64_t drop_in(uint32_t p, enum drop_reason why)
{
    return fake_in(fp[p])->drop[why];
}

uint64_t drop_out(uint32_t p, enum drop_reason why)
{
    return fake_out(fp[p])->drop[why];
}

uint32_t got_total(void)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < N_PORTS; i++)
        n += fp[i]->n_got;
    return n;
}

void clear_all(void)
{
    for (uint32_t i = 0; i < N_PORTS; i++)
        fake_port_clear(fp[i]);
}
