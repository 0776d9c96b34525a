/* A server with a planted leak, for docs/profiling.md: it reads lines from a socket, keeps a table of sessions, and
 * answers each request. One request in eight has a header that nobody frees. Usage: leaky_server SECONDS. It is its own
 * client. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct session {
    char *name;
    char *answer;
    unsigned long requests;
};

static struct session sessions[4096];

static char *copy(const char *text)
{
    char *memory = malloc(strlen(text) + 1);
    return strcpy(memory, text);
}

static char *parse_header(const char *line)
{
    char *header = malloc(200);
    snprintf(header, 200, "%.150s", line);
    return header;
}

static void answer(struct session *session, const char *line)
{
    free(session->answer);
    session->answer = malloc(strlen(line) + 32);
    sprintf(session->answer, "%lu %s", ++session->requests, line);
}

static void handle(const char *line)
{
    struct session *session = &sessions[atoi(line) & 4095];
    if (!session->name)
        session->name = copy(line);
    char *header = parse_header(line);
    answer(session, header);
    if (session->requests % 8) /* the leak */
        free(header);
}

static int ends[2];
static volatile int stopped;

static void *client(void *unused)
{
    char line[64];
    (void)unused;
    for (unsigned number = 1; !stopped; number = number * 1103515245 + 12345) {
        int length = snprintf(line, sizeof line, "%u GET /item/%u", number >> 16 & 4095, number >> 8 & 255);
        if (write(ends[1], line, length + 1) < 0)
            break;
    }
    shutdown(ends[1], SHUT_WR);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    char line[64];
    time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 60);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
        return 1;
    pthread_create(&thread, NULL, client, NULL);
    while (read(ends[0], line, sizeof line) > 0) {
        line[63] = 0;
        handle(line);
        stopped = time(NULL) >= end;
    }
    pthread_join(thread, NULL);
    return 0;
}
