/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link_server.c - see link_server.h.
 */
#include "link_server.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(EXIT_FAILURE);
}

static void *serve(void *arg)
{
    struct link_server *s = arg;

    s->rc = link_serve(s->link);
    return NULL;
}

void link_server_start(struct link_server *s)
{
    struct us_config config = { .n_workers = 1, .poll_us = 20, .fdb_buckets = 64, .fdb_age_s = 300, .cpu = { -1 } };

    memset(s, 0, sizeof(*s));
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    s->listen_fd = link_client_listen(s->name, &s->name_len);
    must(s->stop_fd >= 0 && s->listen_fd >= 0, "listen");
    must(uswitch_create(&config, &s->us) == 0, "uswitch_create");
    must(link_create(s->us, s->listen_fd, s->stop_fd, &s->link) == 0, "link_create");
    must(pthread_create(&s->thread, NULL, serve, s) == 0, "pthread_create");
}

int link_server_finish(struct link_server *s)
{
    pthread_join(s->thread, NULL);
    link_destroy(s->link);
    uswitch_destroy(s->us);
    close(s->listen_fd);
    close(s->stop_fd);
    return s->rc;
}

int link_server_stop(struct link_server *s)
{
    const uint64_t one = 1;

    must(write(s->stop_fd, &one, sizeof(one)) == sizeof(one), "stop");
    return link_server_finish(s);
}

int link_server_attach(const struct link_server *s)
{
    static struct link_answer answer;
    const int fd = link_client_connect(s->name, s->name_len);

    must(link_client_hello(fd, &answer) == 0, "HELLO");
    link_answer_close(&answer);
    return fd;
}

unsigned link_server_open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}
