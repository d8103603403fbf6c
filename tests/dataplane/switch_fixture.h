/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * switch_fixture.h - a switch with six fake ports and a clock of its own, for
 * tests of switch.c and switch_control.c.  One thread; one test at a time.
 */
#ifndef USWITCH_TESTS_SWITCH_FIXTURE_H
#define USWITCH_TESTS_SWITCH_FIXTURE_H

#include "fake_port.h"
#include "switch.h"

#define SECOND 1000000000ULL
#define N_PORTS 6
#define UNTAGGED US_VID_UNTAGGED

/* The switch of the running test. */
extern struct switch_core *core;
extern struct us_switch_page page;
extern struct fake_port *fp[N_PORTS];   /* attached with their index as id, in no segment */
extern uint64_t now;

/* Begin and end of a test; setup() ends the program if there is no memory. */
void setup(void);
void teardown(void);

/* Make the port an access port of the segment. */
void access_port(uint32_t p, uint16_t segment);

/* Switch everything the port has waiting. */
void run(uint32_t p);

/* Let the port send a frame of fake_eth(), later or at once. */
void put(uint32_t p, uint8_t to, uint8_t from, uint16_t tci, uint32_t len);
void put_run(uint32_t p, uint8_t to, uint8_t from, uint16_t tci, uint32_t len);

/* Drop counters of queue 0. */
uint64_t drop_in(uint32_t p, enum drop_reason why);
uint64_t drop_out(uint32_t p, enum drop_reason why);

/* Frames delivered to all ports; forget them. */
uint32_t got_total(void);
void clear_all(void);

#endif /* USWITCH_TESTS_SWITCH_FIXTURE_H */
