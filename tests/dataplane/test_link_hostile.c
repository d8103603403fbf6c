/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_link_hostile.c - peers that are wrong in every way a message can be:
 * refused by name, nothing changes, no file descriptor stays behind.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "link_io.h"
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

/* Every length and number of fds but the right ones, for every type; no fd may stay behind. (M1, M6) */
TEST(wrong_shapes)
{
    static const uint8_t zeros[US_LINK_MSG_MAX];
    const int null = open("/dev/null", O_RDWR);
    int fds[US_LINK_FDS_MAX];
    struct link_server s;
    unsigned before;
    int fd;

    for (unsigned i = 0; i < US_LINK_FDS_MAX; i++)
        fds[i] = null;
    link_server_start(&s);
    fd = link_server_attach(&s);
    before = link_server_open_fds();
    for (uint32_t type = 0; type <= 110; type++) {
        if (type == US_LINK_SHUTDOWN)
            continue;
        for (unsigned n_fds = 0; n_fds <= US_LINK_FDS_MAX; n_fds += n_fds < 3 ? 1 : 61) {
            for (size_t len = 0; len < 80; len++) {
                const int rc = call_with(fd, type, zeros, len, fds, n_fds);

                CHECK(rc > -ENOTCONN || rc == -EOPNOTSUPP);
                CHECK(rc <= 0);
                link_answer_close(&answer);
                if (rc == -EPROTO)      /* a wrong HELLO ends the agreement */
                    CHECK_EQ(link_client_hello(fd, &answer), 0);
                link_answer_close(&answer);
            }
        }
    }
    CHECK_EQ(call_with(fd, US_LINK_PING, zeros, 1, NULL, 0), -EMSGSIZE);
    CHECK_EQ(call_with(fd, US_LINK_PING, NULL, 0, fds, 1), -EBADMSG);
    CHECK_EQ(call(fd, 0, NULL, 0), -EOPNOTSUPP);
    CHECK_EQ(call(fd, US_LINK_REPLY, NULL, 0), -EOPNOTSUPP);
    CHECK_EQ(link_server_open_fds(), before);
    close(fd);
    CHECK_EQ(link_server_stop(&s), 0);
    close(null);
}

static int answer_to_raw(int fd, const void *bytes, size_t len, const int *fds, unsigned n_fds)
{
    CHECK_EQ(link_client_send_raw(fd, bytes, len, fds, n_fds), 0);
    link_client_receive(fd, &answer);
    CHECK_EQ(answer.head.type, US_LINK_REPLY);
    return answer.head.rc;
}

/* What the head says against what came. */
TEST(wrong_heads)
{
    static uint8_t big[US_LINK_MSG_MAX + 100];
    struct us_link_head head = { .type = US_LINK_PING, .len = sizeof(head), .seq = 77 };
    const int null = open("/dev/null", O_RDWR);
    int fds[200];
    struct link_server s;
    unsigned before;
    int fd;

    for (unsigned i = 0; i < 200; i++)
        fds[i] = null;
    link_server_start(&s);
    fd = link_server_attach(&s);
    before = link_server_open_fds();
    for (size_t len = 1; len < sizeof(head); len++) {
        CHECK_EQ(answer_to_raw(fd, &head, len, fds, 1), -EBADMSG);
        CHECK_EQ(answer.head.seq, 0);
    }
    for (uint32_t len = 0; len < 100; len++) {
        head.len = len;
        CHECK_EQ(answer_to_raw(fd, &head, sizeof(head), fds, 2), -EBADMSG);   /* with the right length: the fds */
        CHECK_EQ(answer.head.seq, 77);
    }
    head.len = UINT32_MAX;
    CHECK_EQ(answer_to_raw(fd, &head, sizeof(head), fds, 0), -EBADMSG);
    /* Longer than a message may be: cut off by the socket. */
    head.len = sizeof(big);
    memcpy(big, &head, sizeof(head));
    CHECK_EQ(answer_to_raw(fd, big, sizeof(big), fds, 3), -EMSGSIZE);
    CHECK_EQ(answer.head.seq, 77);
    /* More fds than a message may have. */
    head.len = sizeof(head);
    CHECK_EQ(answer_to_raw(fd, &head, sizeof(head), fds, US_LINK_FDS_MAX + 1), -EMSGSIZE);
    CHECK_EQ(answer_to_raw(fd, &head, sizeof(head), fds, 200), -EMSGSIZE);
    CHECK_EQ(answer_to_raw(fd, &head, sizeof(head), NULL, 0), 0);
    CHECK_EQ(link_server_open_fds(), before);
    close(fd);
    CHECK_EQ(link_server_stop(&s), 0);
    close(null);
}

/* The promise of link_receive() itself: whatever is wrong, no fd is left. (M6) */
TEST(malformed_messages_leave_no_fds)
{
    static struct link_in in;
    struct us_link_head head = { .type = US_LINK_PING, .len = 1 };
    const unsigned before = link_server_open_fds();
    int fds[US_LINK_FDS_MAX + 1], pair[2];

    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    for (unsigned i = 0; i <= US_LINK_FDS_MAX; i++)
        fds[i] = pair[0];
    for (unsigned n = 1; n <= US_LINK_FDS_MAX + 1; n++) {
        CHECK_EQ(link_client_send_raw(pair[0], &head, sizeof(head), fds, n), 0);
        CHECK_EQ(link_receive(pair[1], &in), n > US_LINK_FDS_MAX ? -EMSGSIZE : -EBADMSG);
        CHECK_EQ(in.n_fds, 0);
    }
    CHECK_EQ(link_server_open_fds(), before + 2);
    CHECK_EQ(link_receive(pair[1], &in), 0);
    close(pair[0]);
    CHECK_EQ(link_receive(pair[1], &in), -ECONNRESET);
    close(pair[1]);
}

/* Lists must end where their count says. */
TEST(cut_lists)
{
    static struct us_port_tags tags = { .port_id = 1 };
    static struct us_vhost_mem mem = { .port_id = 1 };
    static struct us_port_macs macs = { .port_id = 1 };
    static struct us_port_guard guard = { .port_id = 1, .guarded = 1 };
    const uint32_t counts[] = { 1, 2, 0x10000, 0x40000000, 0x80000000, UINT32_MAX };
    const int null = open("/dev/null", O_RDWR);
    struct link_server s;
    int fd;

    link_server_start(&s);
    fd = link_server_attach(&s);
    CHECK_EQ(add_port(fd, 1), 0);
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        tags.n = macs.n = mem.n = guard.n = counts[i];
        CHECK_EQ(call(fd, US_LINK_PORT_TAGS, &tags, 8), -EMSGSIZE);
        CHECK_EQ(call(fd, US_LINK_PORT_TAGS, &tags, sizeof(tags)), -EMSGSIZE);
        CHECK_EQ(call(fd, US_LINK_PORT_MACS, &macs, 8), -EMSGSIZE);
        CHECK_EQ(call(fd, US_LINK_PORT_MACS, &macs, sizeof(macs)), -EMSGSIZE);
        CHECK_EQ(call(fd, US_LINK_PORT_GUARD, &guard, 16), -EMSGSIZE);
        CHECK_EQ(call(fd, US_LINK_PORT_GUARD, &guard, sizeof(guard)), -EMSGSIZE);
        CHECK_EQ(call(fd, US_LINK_VHOST_MEM, &mem, 8), -EMSGSIZE);
        CHECK_EQ(call(fd, US_LINK_VHOST_MEM, &mem, sizeof(mem)), -EMSGSIZE);
    }
    tags.n = mem.n = 0;
    CHECK_EQ(call(fd, US_LINK_PORT_TAGS, &tags, 8), 0);
    CHECK_EQ(call(fd, US_LINK_VHOST_MEM, &mem, 8), 0);
    CHECK_EQ(call_with(fd, US_LINK_VHOST_MEM, &mem, 8, &null, 1), -EBADMSG);
    guard.n = 0;
    CHECK_EQ(call(fd, US_LINK_PORT_GUARD, &guard, 16), 0);
    CHECK_EQ(call_with(fd, US_LINK_PORT_GUARD, &guard, 16, &null, 1), -EBADMSG);
    guard.n = 1;                /* of nobody */
    CHECK_EQ(call(fd, US_LINK_PORT_GUARD, &guard, 16 + sizeof(guard.pair[0])), -EINVAL);
    CHECK_EQ(call(fd, US_LINK_PORT_GUARD, &guard, 15 + sizeof(guard.pair[0])), -EMSGSIZE);
    mem.n = 1;
    CHECK_EQ(call(fd, US_LINK_VHOST_MEM, &mem, 8 + sizeof(mem.region[0])), -EBADMSG);
    tags.n = US_TAG_ROWS_MAX;
    for (uint16_t i = 0; i < 4094; i++)
        tags.row[i] = (struct us_tag_row){ (uint16_t)(i + 1), (uint16_t)(i + 1) };
    tags.n = 4094;
    CHECK_EQ(call(fd, US_LINK_PORT_TAGS, &tags, 8 + 4094 * sizeof(tags.row[0])), 0);
    close(fd);
    CHECK_EQ(link_server_stop(&s), 0);
    close(null);
}

/* Which fds come with a ring is said twice and must agree. */
TEST(ring_fds)
{
    const int null = open("/dev/null", O_RDWR);
    const int fds[2] = { null, null };
    struct link_server s;
    unsigned before;
    int fd;

    link_server_start(&s);
    fd = link_server_attach(&s);
    CHECK_EQ(add_port(fd, 1), 0);
    before = link_server_open_fds();
    for (uint32_t mask = 0; mask < 4; mask++) {
        struct us_vhost_ring ring = toy_guest_ring(1, 0);

        ring.fds = mask;
        for (unsigned n = 0; n <= 2; n++) {
            const int rc = call_with(fd, US_LINK_RING_START, &ring, sizeof(ring), fds, n);

            CHECK(rc < 0);      /* without guest memory it cannot be anything else */
            CHECK_EQ(rc == -EBADMSG, n != (unsigned)__builtin_popcount(mask));
        }
    }
    CHECK_EQ(link_server_open_fds(), before);
    close(fd);
    CHECK_EQ(link_server_stop(&s), 0);
    close(null);
}

TEST(escrow_shapes)
{
    struct {
        struct us_link_escrow id;
        uint8_t blob[US_BLOB_MAX + 1];
    } m = { .id = { 1, 1, 0, 0 } };
    const int null = open("/dev/null", O_RDWR);
    int fds[US_LINK_FDS_MAX];
    struct link_server s;
    unsigned before;
    int fd;

    for (unsigned i = 0; i < US_LINK_FDS_MAX; i++)
        fds[i] = null;
    link_server_start(&s);
    fd = link_server_attach(&s);
    before = link_server_open_fds();
    CHECK_EQ(call(fd, US_LINK_ESCROW_PUT, &m, sizeof(m.id) + 1), -EMSGSIZE);
    m.id.blob_len = UINT32_MAX;
    CHECK_EQ(call(fd, US_LINK_ESCROW_PUT, &m, sizeof(m.id) - 1), -EMSGSIZE);
    CHECK_EQ(call(fd, US_LINK_ESCROW_PUT, &m, sizeof(m.id) + 15), -EMSGSIZE);
    m.id.blob_len = US_BLOB_MAX + 1;
    CHECK_EQ(call(fd, US_LINK_ESCROW_PUT, &m, sizeof(m)), -EMSGSIZE);
    m.id.blob_len = US_BLOB_MAX;
    m.id.n_fds = US_LINK_FDS_MAX;
    CHECK_EQ(call_with(fd, US_LINK_ESCROW_PUT, &m, sizeof(m.id) + US_BLOB_MAX, fds, 1), -EBADMSG);
    CHECK_EQ(call_with(fd, US_LINK_ESCROW_PUT, &m, sizeof(m.id) + US_BLOB_MAX, fds, US_LINK_FDS_MAX), 0);
    CHECK_EQ(link_server_open_fds(), before + US_LINK_FDS_MAX);
    CHECK_EQ(call(fd, US_LINK_ESCROW_GET, &(struct us_link_cursor){ 0 }, 8), 0);
    CHECK_EQ(answer.len, sizeof(m.id) + US_BLOB_MAX);
    CHECK_EQ(answer.n_fds, US_LINK_FDS_MAX);
    link_answer_close(&answer);
    m.id = (struct us_link_escrow){ .port_id = US_PORTS_MAX };
    CHECK_EQ(call(fd, US_LINK_ESCROW_PUT, &m, sizeof(m.id)), -EINVAL);
    m.id = (struct us_link_escrow){ .port_id = 1, .slot = 1 };
    CHECK_EQ(call(fd, US_LINK_ESCROW_DROP, &m, sizeof(m.id)), 0);
    CHECK_EQ(link_server_open_fds(), before);
    close(fd);
    CHECK_EQ(link_server_stop(&s), 0);
    close(null);
}

TEST(listener_must_be_one)
{
    struct link *link = NULL;
    int pair[2];

    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    CHECK_EQ(link_create(NULL, pair[0], -1, &link), -EINVAL);
    CHECK_EQ(link_create(NULL, STDERR_FILENO, -1, &link), -EINVAL);
    CHECK_EQ(link_create(NULL, -1, -1, &link), -EBADF);
    close(pair[0]);
    close(pair[1]);
    pair[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(link_create(NULL, pair[0], -1, &link), -EINVAL);
    close(pair[0]);
    link_destroy(NULL);
}

MAIN
{
    alarm(250);
    log_init(LOG_LEVEL_ERROR);
    signal(SIGPIPE, SIG_IGN);
    RUN(wrong_shapes);
    RUN(wrong_heads);
    RUN(malformed_messages_leave_no_fds);
    RUN(cut_lists);
    RUN(ring_fds);
    RUN(escrow_shapes);
    RUN(listener_must_be_one);
}
