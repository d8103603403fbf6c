/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_uswitch_guard.c - the library's call for guards: what it refuses changes
 * nothing, and what a guest with real rings sends is judged.
 */
#include <errno.h>
#include <unistd.h>

#include "drop.h"
#include "harness.h"
#include "policy/packets.h"
#include "toy_guest.h"

static struct uswitch *make_switch(void)
{
    struct us_config c = { .fdb_buckets = 64, .fdb_age_s = 300 };
    struct uswitch *us = NULL;

    for (unsigned i = 0; i < US_WORKERS_MAX; i++)
        c.cpu[i] = -1;
    if (!CHECK_EQ(uswitch_create(&c, &us), 0))
        exit(EXIT_FAILURE);
    return us;
}

static int add_simple(struct uswitch *us, uint32_t id)
{
    const struct us_port_add add = toy_guest_port(id);
    const int fd = us_state_page_create(id), rc = uswitch_port_add(us, &add, fd, NULL, 0);

    close(fd);
    return rc;
}

TEST(what_is_refused)
{
    struct uswitch *us = make_switch();
    static struct us_port_guard guard = { .port_id = 1, .guarded = 1, .n = US_GUARD_PAIRS_MAX };
    static const struct us_guard_pair pair = { .mac = { 2, 0, 0, 0, 0, 1 }, .family = US_GUARD_IPV4, .prefix_len = 24,
                                               .ip = { 10, 0, 0, 0 } };

    for (unsigned i = 0; i < US_GUARD_PAIRS_MAX; i++)
        guard.pair[i] = pair;
    CHECK_EQ(uswitch_port_guard(us, &guard), -ENOENT);
    guard.port_id = US_PORTS_MAX;
    CHECK_EQ(uswitch_port_guard(us, &guard), -ENOENT);
    guard.port_id = 1;
    CHECK_EQ(add_simple(us, 1), 0);
    CHECK_EQ(uswitch_port_guard(us, &guard), 0);
    guard.n = US_GUARD_PAIRS_MAX + 1;
    CHECK_EQ(uswitch_port_guard(us, &guard), -E2BIG);
    guard.n = UINT32_MAX;
    CHECK_EQ(uswitch_port_guard(us, &guard), -E2BIG);
    guard.n = US_GUARD_PAIRS_MAX;
    guard.pair[US_GUARD_PAIRS_MAX - 1].ip[3] = 1;
    CHECK_EQ(uswitch_port_guard(us, &guard), -EINVAL);
    guard.pair[US_GUARD_PAIRS_MAX - 1] = pair;
    guard.guarded = 2;
    CHECK_EQ(uswitch_port_guard(us, &guard), -EINVAL);
    guard.guarded = 1, guard.spare = 1;
    CHECK_EQ(uswitch_port_guard(us, &guard), -EINVAL);
    guard.spare = 0, guard.guarded = 0, guard.n = 1;
    CHECK_EQ(uswitch_port_guard(us, &guard), -EINVAL);
    guard.n = 0;
    CHECK_EQ(uswitch_port_guard(us, &guard), 0);
    guard.guarded = 1;
    CHECK_EQ(uswitch_port_guard(us, &guard), 0);
    uswitch_destroy(us);                        /* with a guard in force */
}

/* The longest honest frame whose verdict needs more than the usual snapshot, and the same for another's address. */
TEST(frames_of_a_guest)
{
    static struct us_port_guard guard = { .port_id = 1, .guarded = 1, .n = OWN_PAIRS };
    struct uswitch *us = make_switch();
    struct toy_guest a, b;
    struct packet p;
    uint8_t got[2048];

    memcpy(guard.pair, own_pairs, sizeof(own_pairs));
    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    CHECK_EQ(toy_guest_plug(&a, us, 1, 4), 0);
    CHECK_EQ(toy_guest_plug(&b, us, 2, 4), 0);
    CHECK_EQ(uswitch_port_guard(us, &guard), 0);
    packet_make(&p, PACKET_NA);
    memset(p.data, 0xff, 6);
    CHECK(toy_guest_send(&a, p.data, p.len));
    while (uswitch_poll(us))
        ;
    CHECK_EQ(toy_guest_receive(&b, got, sizeof(got)), p.len);
    CHECK_MEM(got, p.data, p.len);
    p.data[AT_IPV6_UP + 8] = 0x30;
    CHECK(toy_guest_send(&a, p.data, p.len));
    while (uswitch_poll(us))
        ;
    CHECK_EQ(toy_guest_receive(&b, got, sizeof(got)), 0);
    guard.guarded = guard.n = 0;
    CHECK_EQ(uswitch_port_guard(us, &guard), 0);
    CHECK(toy_guest_send(&a, p.data, p.len));
    while (uswitch_poll(us))
        ;
    CHECK_EQ(toy_guest_receive(&b, got, sizeof(got)), p.len);
    uswitch_destroy(us);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

MAIN
{
    RUN(what_is_refused);
    RUN(frames_of_a_guest);
}
