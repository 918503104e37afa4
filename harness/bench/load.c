/* A load generator for newline-delimited request/reply servers on a Unix socket.
 *
 *   load closed SOCKET PAYLOAD CONNECTIONS SECONDS     one request in flight per connection
 *   load open   SOCKET PAYLOAD RATE SECONDS            RATE requests per second on one connection,
 *                                                      sent on schedule whether or not answered
 *
 * PAYLOAD is a file holding one request with its newline. Latency is taken per request; in the open
 * loop from the moment it was due, so that a stalled server cannot hide (coordinated omission).
 * Prints one JSON object: count, seconds, rate, p50_ns, p99_ns, p999_ns, max_ns, reply_bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <poll.h>
#include <unistd.h>

#define SAMPLES_MAX 8000000
#define INFLIGHT_MAX 65536

static uint64_t *samples;
static size_t sampled;
static char *payload;
static size_t payload_bytes;
static char chunk[1 << 18];
static uint64_t reply_bytes;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void take(uint64_t ns) {
    if (sampled < SAMPLES_MAX) samples[sampled++] = ns;
}

static int dial(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) exit(2);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) die("socket");
    for (int tries = 0; connect(fd, (struct sockaddr *)&address, sizeof address) < 0; tries++) {
        if (tries > 200) die("connect");
        usleep(5000);
    }
    return fd;
}

struct conn { int fd; size_t sent; uint64_t began; };

/* Sends what the socket takes; asks to be woken when the rest can go. */
static void push(int poller, struct conn *c) {
    while (c->sent < payload_bytes) {
        ssize_t n = send(c->fd, payload + c->sent, payload_bytes - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
            epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
            return;
        }
        if (n < 0) die("send");
        c->sent += (size_t)n;
    }
}

static void closed_loop(const char *path, int connections, double seconds) {
    int poller = epoll_create1(0);
    struct conn *all = calloc((size_t)connections, sizeof *all);
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < connections; i++) {
        all[i].fd = dial(path);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &e);
        all[i].began = now_ns();
        push(poller, &all[i]);
    }
    struct epoll_event ready[64];
    while (now_ns() < end) {
        int n = epoll_wait(poller, ready, 64, 100);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT) {
                struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
                push(poller, c);
            }
            if (!(ready[i].events & EPOLLIN)) continue;
            ssize_t got = recv(c->fd, chunk, sizeof chunk, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) { fprintf(stderr, "the server hung up\n"); exit(1); }
            reply_bytes += (uint64_t)got;
            if (chunk[got - 1] != '\n') continue;
            uint64_t t = now_ns();
            take(t - c->began);
            c->began = t;
            c->sent = 0;
            push(poller, c);
        }
    }
}

static void open_loop(const char *path, double rate, double seconds) {
    static uint64_t due[INFLIGHT_MAX];
    int fd = dial(path);
    uint64_t start = now_ns(), step = (uint64_t)(1e9 / rate), sent = 0, answered = 0;
    uint64_t total = (uint64_t)(rate * seconds);
    while (answered < total) {
        uint64_t t = now_ns();
        while (sent < total && start + sent * step <= t && sent - answered < INFLIGHT_MAX) {
            due[sent % INFLIGHT_MAX] = start + sent * step;
            for (size_t done = 0; done < payload_bytes;) {
                ssize_t n = send(fd, payload + done, payload_bytes - done, MSG_NOSIGNAL);
                if (n < 0) die("send");
                done += (size_t)n;
            }
            sent++;
        }
        uint64_t next = start + sent * step;
        t = now_ns();
        struct timespec wait = {0, 0};
        if (sent < total && next > t) wait.tv_nsec = (long)(next - t);
        if (sent >= total) wait.tv_sec = 1;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = ppoll(&p, 1, &wait, NULL);
        if (n <= 0) { if (sent >= total && n == 0) break; continue; }
        ssize_t got = recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
        if (got <= 0) { fprintf(stderr, "the server hung up\n"); exit(1); }
        reply_bytes += (uint64_t)got;
        t = now_ns();
        for (ssize_t i = 0; i < got; i++)
            if (chunk[i] == '\n') take(t - due[answered++ % INFLIGHT_MAX]);
    }
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t quantile(double q) {
    return sampled ? samples[(size_t)(q * (double)(sampled - 1))] : 0;
}

int main(int argc, char **argv) {
    if (argc != 6) { fprintf(stderr, "usage: load closed|open SOCKET PAYLOAD N SECONDS\n"); return 2; }
    FILE *file = fopen(argv[3], "rb");
    if (!file) die(argv[3]);
    fseek(file, 0, SEEK_END);
    payload_bytes = (size_t)ftell(file);
    rewind(file);
    payload = malloc(payload_bytes);
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    if (!payload || !samples || fread(payload, 1, payload_bytes, file) != payload_bytes) die("payload");
    double seconds = atof(argv[5]);
    uint64_t began = now_ns();
    if (!strcmp(argv[1], "closed")) closed_loop(argv[2], atoi(argv[4]), seconds);
    else open_loop(argv[2], atof(argv[4]), seconds);
    double took = (double)(now_ns() - began) / 1e9;
    qsort(samples, sampled, sizeof *samples, ascending);
    printf("{\"count\":%zu,\"seconds\":%.3f,\"rate\":%.1f,\"p50_ns\":%lu,\"p99_ns\":%lu,\"p999_ns\":%lu,"
           "\"max_ns\":%lu,\"reply_bytes\":%lu}\n",
           sampled, took, (double)sampled / took, quantile(.5), quantile(.99), quantile(.999),
           quantile(1.0), sampled ? reply_bytes / sampled : 0);
    return sampled ? 0 : 1;
}
