/* The limit column: an epoll echo server on a Unix socket. It sends back every byte it is sent.
 *
 *   echo SOCKET
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char chunk[1 << 18];

static void die(const char *what) {
    perror(what);
    exit(1);
}

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
    strcpy(address.sun_path, argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), poller = epoll_create1(0);
    unlink(argv[1]);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(listener, 1024) < 0) die("listen");
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    struct epoll_event ready[64];
    for (;;) {
        int n = epoll_wait(poller, ready, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                int fresh = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fresh < 0) continue;
                e = (struct epoll_event){.events = EPOLLIN, .data.fd = fresh};
                epoll_ctl(poller, EPOLL_CTL_ADD, fresh, &e);
                continue;
            }
            ssize_t got = recv(fd, chunk, sizeof chunk, 0);
            if (got <= 0) { close(fd); continue; }
            for (ssize_t done = 0; done < got;) {
                ssize_t sent = send(fd, chunk + done, (size_t)(got - done), MSG_NOSIGNAL);
                if (sent < 0) { close(fd); break; }
                done += sent;
            }
        }
    }
}
