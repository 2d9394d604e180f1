/* A directory as many clients see it of a server that is slow: a read-only pass-through of FUSE.

Usage: slow_server SOURCE LATENCY PARALLEL RATE MOUNT_POINT...

Each mount point is a client with caches of its own. Each question about names and attributes takes
LATENCY microseconds, PARALLEL of them at a time; all clients together read RATE bytes a second. It
prints a line when all are mounted, and ends with its input. */

#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What clients keep of names and attributes, in seconds: as where a server tells them of changes. */
#define KEPT 60.0

static struct shared {
    sem_t turns;
    atomic_llong free_at, questions, bytes;
} *shared;
static const char *source;
static long latency, rate;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void rest(long long nanoseconds)
{
    struct timespec time = {nanoseconds / 1000000000LL, nanoseconds % 1000000000LL};
    while (nanoseconds > 0 && nanosleep(&time, &time) && errno == EINTR)
        ;
}

static void ask(void)
{
    while (sem_wait(&shared->turns) && errno == EINTR)
        ;
    rest(latency * 1000LL);
    sem_post(&shared->turns);
    atomic_fetch_add(&shared->questions, 1);
}

static void transfer(long long bytes)
{
    long long cost = bytes * 1000000000LL / rate, begin, start = atomic_load(&shared->free_at);
    do {
        begin = start > now() ? start : now();
    } while (!atomic_compare_exchange_weak(&shared->free_at, &start, begin + cost));
    rest(begin + cost - now());
    atomic_fetch_add(&shared->bytes, bytes);
}

static const char *at(const char *path, char *buffer)
{
    snprintf(buffer, 4096, "%s%s", source, path);
    return buffer;
}

#define CHECKED(call) ((call) < 0 ? -errno : 0)

static int get_attributes(const char *path, struct stat *state, struct fuse_file_info *info)
{
    char buffer[4096];
    (void)info;
    ask();
    return CHECKED(lstat(at(path, buffer), state));
}

static int read_link(const char *path, char *target, size_t size)
{
    char buffer[4096];
    ask();
    ssize_t length = readlink(at(path, buffer), target, size - 1);
    if (length < 0)
        return -errno;
    target[length] = 0;
    return 0;
}

static int open_file(const char *path, struct fuse_file_info *info)
{
    char buffer[4096];
    ask();
    int file = open(at(path, buffer), info->flags);
    if (file < 0)
        return -errno;
    info->fh = file;
    info->keep_cache = 1;
    return 0;
}

static int read_file(const char *path, char *data, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)path;
    ssize_t length = pread(info->fh, data, size, offset);
    if (length < 0)
        return -errno;
    transfer(length);
    return length;
}

static int release_file(const char *path, struct fuse_file_info *info)
{
    (void)path;
    close(info->fh);
    return 0;
}

static int read_directory(const char *path, void *data, fuse_fill_dir_t fill, off_t offset,
                          struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    char buffer[4096];
    (void)offset, (void)info, (void)flags;
    ask();
    DIR *directory = opendir(at(path, buffer));
    if (!directory)
        return -errno;
    for (struct dirent *entry; (entry = readdir(directory));)
        fill(data, entry->d_name, NULL, 0, 0);
    closedir(directory);
    return 0;
}

static int file_system(const char *path, struct statvfs *state)
{
    char buffer[4096];
    return CHECKED(statvfs(at(path, buffer), state));
}

static void *begin(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)connection;
    config->kernel_cache = 1;
    config->entry_timeout = config->attr_timeout = config->negative_timeout = KEPT;
    return NULL;
}

static const struct fuse_operations operations = {
    .getattr = get_attributes,
    .readlink = read_link,
    .open = open_file,
    .read = read_file,
    .release = release_file,
    .readdir = read_directory,
    .statfs = file_system,
    .init = begin,
};

int main(int count, char **words)
{
    if (count < 6) {
        fprintf(stderr, "usage: slow_server SOURCE LATENCY PARALLEL RATE MOUNT_POINT...\n");
        return 2;
    }
    source = words[1];
    latency = atol(words[2]);
    rate = atol(words[4]);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || rate <= 0 || sem_init(&shared->turns, 1, atoi(words[3]))) {
        fprintf(stderr, "slow_server: wrong arguments\n");
        return 1;
    }
    int clients = count - 5;
    pid_t *daemons = calloc(clients, sizeof *daemons);
    struct fuse **handles = calloc(clients, sizeof *handles);
    for (int client = 0; client < clients; client++) {
        char *arguments[] = {"slow_server", "-o", "ro,fsname=slow,subtype=slow", NULL};
        struct fuse_args given = FUSE_ARGS_INIT(3, arguments);
        struct fuse *fuse = fuse_new(&given, &operations, sizeof operations, NULL);
        if (!fuse || fuse_mount(fuse, words[5 + client])) {
            fprintf(stderr, "slow_server: %s cannot be mounted\n", words[5 + client]);
            return 1;
        }
        if (!(daemons[client] = fork())) {
            signal(SIGINT, SIG_IGN);
            _exit(fuse_loop_mt(fuse, 0) != 0);
        }
        handles[client] = fuse;
    }
    puts("mounted");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    printf("%lld %lld\n", (long long)shared->questions, (long long)shared->bytes);
    fflush(stdout);
    for (int client = 0; client < clients; client++) {
        fuse_unmount(handles[client]);
        kill(daemons[client], SIGKILL);
    }
    while (wait(NULL) > 0)
        ;
    return 0;
}
