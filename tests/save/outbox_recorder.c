/* What a process asks of the file system below one folder, in order, for replay with a power cut at any point.
 *
 * LD_PRELOADed. RECORD_UNDER names the folder, RECORD_TO the log. A record is a header and then `size` bytes: data of a
 * write, or a path. Calls are recorded under one lock, after they succeeded. Memory maps are not seen: SQLite maps only
 * its -shm file, which it makes anew after a crash.
 *
 *   O open (fd, path; offset 1 if it made the file)   W write (fd, offset, data)   T truncate (fd, offset)
 *   S fsync or fdatasync (fd)   U unlink (path)   M mkdir (path)   C close (fd)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

struct header { char what; char pad[3]; int32_t fd; int64_t offset; int64_t size; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *under;
static char watched[65536];

static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_open = dlsym(RTLD_NEXT, "open64");
    under = getenv("RECORD_UNDER");
    if (getenv("RECORD_TO")) log_fd = real_open(getenv("RECORD_TO"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void all(const char *data, size_t size) {
    while (size) {
        ssize_t done = real_write(log_fd, data, size);
        if (done <= 0) abort();
        data += done;
        size -= done;
    }
}

static void record(char what, int fd, int64_t offset, const void *data, size_t size) {
    struct header header = {what, {0}, fd, offset, size};
    all((const char *)&header, sizeof header);
    all(data, size);
}

static int ours(const char *path) { return log_fd >= 0 && under && !strncmp(path, under, strlen(under)); }
static int seen(int fd) { return log_fd >= 0 && fd >= 0 && fd < (int)sizeof watched && watched[fd]; }

static int opened(const char *path, int flags, mode_t mode) {
    if (!ours(path)) return real_open(path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before;
    int made = stat(path, &before) != 0;
    int fd = real_open(path, flags, mode);
    if (fd >= 0) {
        if (fd >= (int)sizeof watched || (flags & O_TRUNC)) abort();
        watched[fd] = 1;
        record('O', fd, made, path, strlen(path));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & O_CREAT ? va_arg(more, int) : 0;                                                         \
        va_end(more);                                                                                                  \
        return opened(path, flags, mode);                                                                              \
    }
OPEN(open)
OPEN(open64)
int __open_2(const char *path, int flags) { return opened(path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(path, flags, 0); }

#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real) real = dlsym(RTLD_NEXT, name)

#define IF_SEEN(fd, call, what, offset, data, size)                                                                    \
    if (!seen(fd)) return call;                                                                                        \
    pthread_mutex_lock(&lock);                                                                                         \
    ssize_t result = call;                                                                                             \
    if (result >= 0) record(what, fd, offset, data, size);                                                             \
    pthread_mutex_unlock(&lock);                                                                                       \
    return result

ssize_t write(int fd, const void *data, size_t size) {
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    off_t at = seen(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    IF_SEEN(fd, real_write(fd, data, size), 'W', at, data, result);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    IF_SEEN(fd, real(fd, data, size, at), 'W', at, data, result);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    IF_SEEN(fd, real(fd, data, size, at), 'W', at, data, result);
}
int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    IF_SEEN(fd, real(fd, size), 'T', size, "", 0);
}
int ftruncate64(int fd, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    IF_SEEN(fd, real(fd, size), 'T', size, "", 0);
}
int fsync(int fd) {
    REAL(int, "fsync", int);
    IF_SEEN(fd, real(fd), 'S', 0, "", 0);
}
int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    IF_SEEN(fd, real(fd), 'S', 0, "", 0);
}
int close(int fd) {
    REAL(int, "close", int);
    if (!seen(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    watched[fd] = 0;
    record('C', fd, 0, "", 0);
    int result = real(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

#define ON_PATH(name, what, parameters, ...)                                                                           \
    int name parameters {                                                                                              \
        static int (*real) parameters;                                                                                 \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                                                     \
        if (!ours(path)) return real(__VA_ARGS__);                                                                     \
        pthread_mutex_lock(&lock);                                                                                     \
        int result = real(__VA_ARGS__);                                                                                \
        if (!result) record(what, -1, 0, path, strlen(path));                                                          \
        pthread_mutex_unlock(&lock);                                                                                   \
        return result;                                                                                                 \
    }
ON_PATH(unlink, 'U', (const char *path), path)
ON_PATH(mkdir, 'M', (const char *path, mode_t mode), path, mode)
