/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_link.c - the dataplane link over a real socket: uswitchd's ordinary
 * day, its death, and what the next one finds.  test_link_hostile.c has the
 * peers that are wrong.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "drop.h"
#include "link_server.h"

static struct link_answer answer;       /* too big for the stack; closed by whoever expects fds */

static int call(int fd, uint32_t type, const void *payload, size_t len)
{
    return link_client_call(fd, type, payload, len, NULL, 0, &answer);
}

static int call_with(int fd, uint32_t type, const void *payload, size_t len, const int *fds, unsigned n_fds)
{
    return link_client_call(fd, type, payload, len, fds, n_fds, &answer);
}

static int add_port(int fd, uint32_t id)
{
    const struct us_port_add add = toy_guest_port(id);
    const int state_fd = us_state_page_create(id);
    const int rc = call_with(fd, US_LINK_PORT_ADD, &add, sizeof(add), &state_fd, 1);

    close(state_fd);
    return rc;
}

TEST(hello_and_shutdown)
{
    const struct us_link_hello *hello = (const void *)answer.payload;
    const struct us_switch_page *page;
    struct link_server s;
    int fd;

    link_server_start(&s);
    fd = link_client_connect(s.name, s.name_len);
    CHECK_EQ(link_client_hello(fd, &answer), 0);
    REQUIRE(answer.len == sizeof(*hello) && answer.n_fds == 1);
    CHECK_EQ(hello->abi, US_ABI_VERSION);
    CHECK_EQ(hello->build_id, us_build_id());
    CHECK_EQ(hello->pid, getpid());
    CHECK_EQ(hello->n_ports, 0);
    CHECK_EQ(hello->n_escrow, 0);
    page = mmap(NULL, US_SWITCH_PAGE_SIZE, PROT_READ, MAP_SHARED, answer.fds[0], 0);
    REQUIRE(page != MAP_FAILED);
    CHECK_EQ(page->magic, US_SWITCH_MAGIC);
    munmap((void *)(uintptr_t)page, US_SWITCH_PAGE_SIZE);
    link_answer_close(&answer);
    CHECK_EQ(call(fd, US_LINK_PING, NULL, 0), 0);
    CHECK_EQ(call(fd, US_LINK_SHUTDOWN, NULL, 0), 0);
    CHECK_EQ(link_server_finish(&s), 0);
    close(fd);
}

TEST(nothing_before_hello)
{
    const struct us_port_del del = { .port_id = 1 };
    const struct us_link_cursor cursor = { 0 };
    struct us_link_hello other = { .abi = US_ABI_VERSION, .build_id = us_build_id() + 1 };
    struct link_server s;
    int fd;

    link_server_start(&s);
    fd = link_client_connect(s.name, s.name_len);
    CHECK_EQ(call(fd, US_LINK_PORT_DEL, &del, sizeof(del)), -EPROTO);
    CHECK_EQ(call(fd, US_LINK_PING, NULL, 0), 0);
    CHECK_EQ(call(fd, US_LINK_HELLO, &other, sizeof(other)), -EPROTO);
    CHECK_EQ(answer.len, sizeof(struct us_link_hello));
    CHECK_EQ(answer.n_fds, 0);
    CHECK_EQ(call(fd, US_LINK_PORT_DEL, &del, sizeof(del)), -EPROTO);
    /* The way out for a uswitchd of another version. */
    CHECK_EQ(call(fd, US_LINK_ESCROW_GET, &cursor, sizeof(cursor)), 0);
    CHECK_EQ(call(fd, US_LINK_SHUTDOWN, NULL, 0), 0);
    CHECK_EQ(link_server_finish(&s), 0);
    close(fd);
}

/* The whole plug as uswitchd does it, two guests, a frame across. */
static void plug_over_link(int fd, const struct toy_guest *g, uint32_t id)
{
    const struct us_vhost_mem mem = toy_guest_mem(id);
    const struct us_port_tags tags = { .port_id = id, .n = 1, .row = { { US_VID_UNTAGGED, 4 } } };
    const struct us_port_macs macs = { .port_id = id, .n = 1, .mac = { { 2, 0, 0, 0, 0, (uint8_t)id } } };
    const struct us_port_limits limits = { .port_id = id, .fdb_quota = 8, .max_frame = 1518 };
    const struct us_port_guard guard = { .port_id = id };
    const size_t mem_len = offsetof(struct us_vhost_mem, region) + sizeof(mem.region[0]);

    CHECK_EQ(add_port(fd, id), 0);
    CHECK_EQ(call(fd, US_LINK_PORT_GUARD, &guard, offsetof(struct us_port_guard, pair)), 0);
    CHECK_EQ(call(fd, US_LINK_PORT_TAGS, &tags, offsetof(struct us_port_tags, row) + sizeof(tags.row[0])), 0);
    CHECK_EQ(call(fd, US_LINK_PORT_MACS, &macs, offsetof(struct us_port_macs, mac) + sizeof(macs.mac[0])), 0);
    CHECK_EQ(call(fd, US_LINK_PORT_LIMITS, &limits, sizeof(limits)), 0);
    CHECK_EQ(call_with(fd, US_LINK_VHOST_MEM, &mem, mem_len, &g->memfd, 1), 0);
    for (uint32_t ring = 0; ring < 2; ring++) {
        const struct us_vhost_ring start = toy_guest_ring(id, ring);

        CHECK_EQ(call_with(fd, US_LINK_RING_START, &start, sizeof(start), (int[]){ g->kick[ring], g->call[ring] },
                           2), 0);
    }
}

static uint32_t await_frame(struct toy_guest *g, uint8_t *frame, uint32_t size)
{
    uint32_t len = 0;

    for (unsigned i = 0; i < 2000 && len == 0; i++) {
        usleep(1000);
        len = toy_guest_receive(g, frame, size);
    }
    return len;
}

static void check_talk(struct toy_guest *a, struct toy_guest *b)
{
    uint8_t frame[64] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 }, got[2048];

    CHECK(toy_guest_send(a, frame, sizeof(frame)));
    CHECK_EQ(await_frame(b, got, sizeof(got)), sizeof(frame));
    CHECK_MEM(got, frame, sizeof(frame));
}

/* Law 1: uswitchd dies between any two requests, packets go on, the next one takes over. */
TEST(controller_dies_packets_go_on)
{
    const struct us_vhost_ring_ref ref = { .port_id = 1, .ring = 1 };
    const struct us_vhost_ring_ref enable = { .port_id = 1, .ring = 1, .enabled = 1 };
    const struct us_link_hello *hello = (const void *)answer.payload;
    const struct us_fdb_entry *entry = (const void *)answer.payload;
    const struct us_link_cursor cursor = { 0 };
    const struct us_link_fdb_flush flush = { US_ANY, US_ANY };
    const struct us_port_del del = { .port_id = 2 };
    struct toy_guest a, b;
    struct link_server s;
    int fd;

    link_server_start(&s);
    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    fd = link_server_attach(&s);
    plug_over_link(fd, &a, 1);
    plug_over_link(fd, &b, 2);
    check_talk(&a, &b);
    close(fd);
    check_talk(&a, &b);
    fd = link_client_connect(s.name, s.name_len);
    CHECK_EQ(link_client_hello(fd, &answer), 0);
    CHECK_EQ(hello->n_ports, 2);
    link_answer_close(&answer);
    check_talk(&a, &b);
    CHECK_EQ(call(fd, US_LINK_FDB_DUMP, &cursor, sizeof(cursor)), 0);
    CHECK_EQ(answer.head.value, 0);
    CHECK_EQ(answer.len, 2 * sizeof(*entry));
    CHECK(entry[0].pinned && entry[0].segment == 4);
    CHECK_EQ(call(fd, US_LINK_FDB_FLUSH, &flush, sizeof(flush)), 0);
    CHECK_EQ(answer.head.value, 0);     /* pinned ones stay */
    CHECK_EQ(call_with(fd, US_LINK_RING_CALL, &ref, sizeof(ref), &a.call[1], 1), 0);
    CHECK_EQ(call(fd, US_LINK_RING_ENABLE, &enable, sizeof(enable)), 0);
    CHECK_EQ(call(fd, US_LINK_RING_STOP, &ref, sizeof(ref)), 0);
    CHECK_EQ(answer.head.value, a.avail[1]);
    CHECK_EQ(call(fd, US_LINK_PORT_DEL, &del, sizeof(del)), 0);
    CHECK_EQ(call(fd, US_LINK_PORT_DEL, &del, sizeof(del)), -ENOENT);
    CHECK_EQ(link_server_stop(&s), 0);
    close(fd);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

/* M11 */
TEST(second_controller_is_refused)
{
    struct link_server s;
    int first, second;

    link_server_start(&s);
    first = link_server_attach(&s);
    for (unsigned i = 0; i < 20; i++) {
        second = link_client_connect(s.name, s.name_len);
        REQUIRE(second >= 0);
        link_client_receive(second, &answer);
        CHECK_EQ(answer.head.type, US_LINK_REPLY);
        CHECK_EQ(answer.head.rc, -EBUSY);
        CHECK_EQ(answer.len, sizeof(struct us_link_hello));
        link_client_receive(second, &answer);
        CHECK_EQ(answer.head.type, 0);
        close(second);
        CHECK_EQ(call(first, US_LINK_PING, NULL, 0), 0);
    }
    close(first);
    /* The first one's end and the next one's beginning arrive together. */
    first = link_server_attach(&s);
    close(first);
    CHECK_EQ(link_server_stop(&s), 0);
}

static int put(int fd, uint32_t port, uint32_t slot, const char *text, const int *fds, uint32_t n)
{
    struct {
        struct us_link_escrow id;
        char blob[US_BLOB_MAX];
    } m = { .id = { port, slot, (uint32_t)strlen(text), n } };

    memcpy(m.blob, text, strlen(text));
    return call_with(fd, US_LINK_ESCROW_PUT, &m, sizeof(m.id) + strlen(text), fds, n);
}

/* Law 6: a connection left with the dataplane is the same one for the next uswitchd. */
TEST(escrow_outlives_the_controller)
{
    const struct us_link_escrow *id = (const void *)answer.payload;
    struct us_link_escrow all = { .port_id = 3, .slot = US_SLOT_ALL };
    struct us_link_cursor cursor = { 0 };
    struct link_server s;
    int fd, pair[2];
    char byte;

    link_server_start(&s);
    fd = link_server_attach(&s);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK_EQ(put(fd, 3, 1, "state of port 3", &pair[0], 1), 0);
    CHECK_EQ(put(fd, US_ANY, 0, "state of all", NULL, 0), 0);
    close(pair[0]);
    close(fd);
    fd = link_server_attach(&s);
    CHECK_EQ(call(fd, US_LINK_ESCROW_GET, &cursor, sizeof(cursor)), 0);
    REQUIRE(answer.n_fds == 1 && answer.len == sizeof(*id) + 15);
    CHECK_EQ(id->port_id, 3);
    CHECK_EQ(id->slot, 1);
    CHECK_EQ(id->n_fds, 1);
    CHECK_MEM(answer.payload + sizeof(*id), "state of port 3", 15);
    CHECK_EQ(write(answer.fds[0], "!", 1), 1);
    CHECK_EQ(read(pair[1], &byte, 1), 1);
    link_answer_close(&answer);
    cursor.cursor = answer.head.value;
    CHECK(cursor.cursor != 0);
    CHECK_EQ(call(fd, US_LINK_ESCROW_GET, &cursor, sizeof(cursor)), 0);
    CHECK_EQ(id->port_id, US_ANY);
    CHECK_EQ(answer.head.value, 0);
    /* The port's own life does not touch it. */
    CHECK_EQ(add_port(fd, 3), 0);
    CHECK_EQ(call(fd, US_LINK_PORT_DEL, &(struct us_port_del){ .port_id = 3 }, 8), 0);
    CHECK_EQ(call(fd, US_LINK_ESCROW_DROP, &all, sizeof(all)), 0);
    CHECK_EQ(answer.head.value, 1);
    CHECK_EQ(read(pair[1], &byte, 1), 0);
    all.port_id = US_ANY;
    CHECK_EQ(call(fd, US_LINK_ESCROW_DROP, &all, sizeof(all)), 0);
    cursor.cursor = 0;
    CHECK_EQ(call(fd, US_LINK_ESCROW_GET, &cursor, sizeof(cursor)), 0);
    CHECK_EQ(answer.len, 0);
    close(pair[1]);
    close(fd);
    CHECK_EQ(link_server_stop(&s), 0);
}

TEST(broken_ports_are_pushed)
{
    const struct us_event *event = (const void *)answer.payload;
    struct toy_guest a, b;
    struct link_server s;
    int fd;

    link_server_start(&s);
    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    fd = link_server_attach(&s);
    plug_over_link(fd, &a, 1);
    plug_over_link(fd, &b, 2);
    toy_guest_misbehave(&a);
    link_client_receive(fd, &answer);
    CHECK_EQ(answer.head.type, US_LINK_EVENT);
    CHECK_EQ(answer.len, sizeof(*event));
    CHECK_EQ(event->kind, US_EVENT_PORT_BROKEN);
    CHECK_EQ(event->port_id, 1);
    CHECK_EQ(event->reason, BREAK_avail_index);
    /* What breaks while nobody listens is told to the next one. */
    close(fd);
    usleep(20000);
    toy_guest_misbehave(&b);
    usleep(20000);
    fd = link_client_connect(s.name, s.name_len);
    link_client_receive(fd, &answer);
    CHECK_EQ(answer.head.type, US_LINK_EVENT);
    CHECK_EQ(event->port_id, 2);
    close(fd);
    CHECK_EQ(link_server_stop(&s), 0);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

/* A controller that sends and never reads blocks itself; one that starts to read gets every reply. */
TEST(controller_that_does_not_read)
{
    struct us_link_head ping = { .type = US_LINK_PING, .len = sizeof(ping) };
    struct toy_guest a, b;
    struct link_server s;
    uint32_t sent = 0, got = 0;
    int fd;

    link_server_start(&s);
    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    fd = link_server_attach(&s);
    plug_over_link(fd, &a, 1);
    plug_over_link(fd, &b, 2);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (unsigned idle = 0; idle < 20 && sent < 100000;) {
        ping.seq = sent + 1;
        if (link_client_send_raw(fd, &ping, sizeof(ping), NULL, 0) == 0) {
            sent++;
            idle = 0;
        } else {
            usleep(5000);
            idle++;
        }
    }
    CHECK(sent > 10 && sent < 100000);
    check_talk(&a, &b);
    while (got < sent) {
        link_client_receive(fd, &answer);
        REQUIRE(answer.head.type == US_LINK_REPLY);
        CHECK_EQ(answer.head.seq, ++got);
    }
    /* And the stop signal is heard although a reply waits. */
    for (unsigned idle = 0; idle < 5;) {
        if (link_client_send_raw(fd, &ping, sizeof(ping), NULL, 0) != 0) {
            usleep(2000);
            idle++;
        }
    }
    CHECK_EQ(link_server_stop(&s), 0);
    close(fd);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

MAIN
{
    alarm(250);
    log_init(LOG_LEVEL_ERROR);
    signal(SIGPIPE, SIG_IGN);
    RUN(hello_and_shutdown);
    RUN(nothing_before_hello);
    RUN(controller_dies_packets_go_on);
    RUN(second_controller_is_refused);
    RUN(escrow_outlives_the_controller);
    RUN(broken_ports_are_pushed);
    RUN(controller_that_does_not_read);
}
