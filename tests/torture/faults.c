/* Makes one call of the C library fail: the n-th of those that touch some directories.
 *
 * Loaded before the C library (LD_PRELOAD) into every process of a build. The environment says:
 *   FAULT_BELOW    directories, separated by colons
 *   FAULT_COUNTER  a file that the processes share, for struct counter
 *   FAULT_CALLS    "change": calls that change something; "write": writes of data alone;
 *                  "read": reads
 *   FAULT_NAME     if set, only files whose path ends so
 *   FAULT_AT       the number of the call that fails, from 1; 0 only counts
 *   FAULT_HOW      "short": half of the data is written; else the number of the error
 *   FAULT_LASTING  if set, every call from that one on fails
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CHANGE = 1, WRITE = 2, READ = 4 };
enum { GO_ON, FAIL, HALVE };

struct counter {
    unsigned long calls;
    unsigned long faults;
    char first[PATH_MAX + 64];
};

static struct counter *counter;
static const char *below, *name_end;
static unsigned long at;
static int kinds, error, lasting;

__attribute__((constructor)) static void set_up(void) {
    const char *path = getenv("FAULT_COUNTER"), *which = getenv("FAULT_CALLS");
    const char *how = getenv("FAULT_HOW"), *number = getenv("FAULT_AT");
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    below = getenv("FAULT_BELOW");
    if (path == NULL || which == NULL || below == NULL || how == NULL || number == NULL) return;
    name_end = getenv("FAULT_NAME");
    lasting = getenv("FAULT_LASTING") != NULL;
    at = strtoul(number, NULL, 10);
    error = strcmp(how, "short") == 0 ? 0 : atoi(how);
    kinds = strcmp(which, "read") == 0 ? READ : strcmp(which, "write") == 0 ? WRITE : CHANGE | WRITE;
    int descriptor = real_open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (counter == MAP_FAILED) counter = NULL;
    close(descriptor);
}

static int is_below(const char *path) {
    const char *start = below;
    while (*start) {
        size_t length = strcspn(start, ":");
        if (length && strncmp(path, start, length) == 0 && (path[length] == '/' || !path[length]))
            return 1;
        start += length + (start[length] == ':');
    }
    return 0;
}

static int decide(const char *call, const char *path) {
    size_t length = strlen(path), end = name_end ? strlen(name_end) : 0;
    if (length < end || (end && strcmp(path + length - end, name_end) != 0)) return GO_ON;
    if (!is_below(path)) return GO_ON;
    unsigned long number = __atomic_add_fetch(&counter->calls, 1, __ATOMIC_SEQ_CST);
    if (!at || (lasting ? number < at : number != at)) return GO_ON;
    if (__atomic_fetch_add(&counter->faults, 1, __ATOMIC_SEQ_CST) == 0)
        snprintf(counter->first, sizeof counter->first, "%s %s", call, path);
    if (!error) return HALVE;
    errno = error;
    return FAIL;
}

static int of_descriptor(int kind, const char *call, int descriptor) {
    char link[64], path[PATH_MAX];
    if (counter == NULL || !(kinds & kind)) return GO_ON;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0 || path[0] != '/') return GO_ON;
    path[length] = 0;
    return decide(call, path);
}

static int of_path(int kind, const char *call, int directory, const char *path) {
    char link[64], whole[2 * PATH_MAX];
    if (counter == NULL || !(kinds & kind) || path == NULL) return GO_ON;
    if (path[0] == '/') return decide(call, path);
    int saved = errno;
    if (directory == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    errno = saved;
    if (length <= 0) return GO_ON;
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return decide(call, whole);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (real == NULL) real = dlsym(RTLD_NEXT, #name)

#define WRITING(name, data, count) /* halves `count`, unless it is 1 */ \
    switch (of_descriptor(WRITE, #name, data)) { \
    case FAIL: return -1; \
    case HALVE: count = count > 1 ? count / 2 : count; \
    }

ssize_t write(int d, const void *buffer, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    WRITING(write, d, n)
    return real(d, buffer, n);
}

#define PWRITE(name) \
    ssize_t name(int d, const void *buffer, size_t n, off_t offset) { \
        REAL(ssize_t, name, int, const void *, size_t, off_t); \
        WRITING(name, d, n) \
        return real(d, buffer, n, offset); \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t writev(int d, const struct iovec *parts, int n) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    WRITING(writev, d, n)
    return real(d, parts, n);
}

#define PWRITEV(name) \
    ssize_t name(int d, const struct iovec *parts, int n, off_t offset) { \
        REAL(ssize_t, name, int, const struct iovec *, int, off_t); \
        WRITING(name, d, n) \
        return real(d, parts, n, offset); \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

ssize_t copy_file_range(int in, off64_t *from, int d, off64_t *to, size_t n, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    WRITING(copy_file_range, d, n)
    return real(in, from, d, to, n, flags);
}

#define SENDFILE(name) \
    ssize_t name(int d, int in, off_t *offset, size_t n) { \
        REAL(ssize_t, name, int, int, off_t *, size_t); \
        WRITING(name, d, n) \
        return real(d, in, offset, n); \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)

#define CHANGING_DESCRIPTOR(name, parameters, arguments) \
    int name parameters { \
        static int (*real) parameters; \
        if (real == NULL) real = dlsym(RTLD_NEXT, #name); \
        if (of_descriptor(CHANGE, #name, d) == FAIL) return -1; \
        return real arguments; \
    }
CHANGING_DESCRIPTOR(fsync, (int d), (d))
CHANGING_DESCRIPTOR(fdatasync, (int d), (d))
CHANGING_DESCRIPTOR(ftruncate, (int d, off_t n), (d, n))
CHANGING_DESCRIPTOR(ftruncate64, (int d, off64_t n), (d, n))
CHANGING_DESCRIPTOR(fchmod, (int d, mode_t mode), (d, mode))
CHANGING_DESCRIPTOR(fallocate, (int d, int how, off_t from, off_t n), (d, how, from, n))
CHANGING_DESCRIPTOR(fallocate64, (int d, int how, off64_t from, off64_t n), (d, how, from, n))

#define CHANGING_PATH(name, parameters, arguments, directory, path) \
    int name parameters { \
        static int (*real) parameters; \
        if (real == NULL) real = dlsym(RTLD_NEXT, #name); \
        if (of_path(CHANGE, #name, directory, path) == FAIL) return -1; \
        return real arguments; \
    }
CHANGING_PATH(mkdir, (const char *p, mode_t m), (p, m), AT_FDCWD, p)
CHANGING_PATH(mkdirat, (int d, const char *p, mode_t m), (d, p, m), d, p)
CHANGING_PATH(chmod, (const char *p, mode_t m), (p, m), AT_FDCWD, p)
CHANGING_PATH(fchmodat, (int d, const char *p, mode_t m, int f), (d, p, m, f), d, p)
CHANGING_PATH(rename, (const char *p, const char *q), (p, q), AT_FDCWD, q)
CHANGING_PATH(renameat, (int d, const char *p, int e, const char *q), (d, p, e, q), e, q)
CHANGING_PATH(renameat2, (int d, const char *p, int e, const char *q, unsigned f),
              (d, p, e, q, f), e, q)
CHANGING_PATH(symlink, (const char *p, const char *q), (p, q), AT_FDCWD, q)
CHANGING_PATH(symlinkat, (const char *p, int d, const char *q), (p, d, q), d, q)
CHANGING_PATH(link, (const char *p, const char *q), (p, q), AT_FDCWD, q)
CHANGING_PATH(linkat, (int d, const char *p, int e, const char *q, int f), (d, p, e, q, f), e, q)
CHANGING_PATH(creat, (const char *p, mode_t m), (p, m), AT_FDCWD, p)
CHANGING_PATH(creat64, (const char *p, mode_t m), (p, m), AT_FDCWD, p)

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
#define OPEN(name) \
    int name(const char *p, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        MODE(flags) \
        if ((flags & O_CREAT) && of_path(CHANGE, #name, AT_FDCWD, p) == FAIL) return -1; \
        return real(p, flags, mode); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int d, const char *p, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        MODE(flags) \
        if ((flags & O_CREAT) && of_path(CHANGE, #name, d, p) == FAIL) return -1; \
        return real(d, p, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int d, void *buffer, size_t n) {
    REAL(ssize_t, read, int, void *, size_t);
    if (of_descriptor(READ, "read", d) == FAIL) return -1;
    return real(d, buffer, n);
}

#define PREAD(name) \
    ssize_t name(int d, void *buffer, size_t n, off_t offset) { \
        REAL(ssize_t, name, int, void *, size_t, off_t); \
        if (of_descriptor(READ, #name, d) == FAIL) return -1; \
        return real(d, buffer, n, offset); \
    }
PREAD(pread)
PREAD(pread64)
