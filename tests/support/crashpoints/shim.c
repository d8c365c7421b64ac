/* Preloaded into a process: counts the libc calls that change files under chosen folders, writes them to a log, and
 * kills the process at the k-th, leaves its write torn, or makes it fail.
 *
 * Armed by crashpoints_arm (through ctypes, after a fork) or by the environment (CRASHPOINTS_FOLDERS, separated by ':',
 * and CRASHPOINTS_LOG, _AT, _MODE, _ERROR, _SYNC). Stores to mapped memory (SQLite's -shm) are not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* In the order of `Mode` in runner.py. FAIL_ON: this call and every later one that needs space. */
enum { MODE_COUNT, MODE_BEFORE, MODE_TORN, MODE_FAIL, MODE_FAIL_ON };

#define FOLDERS 8
static char folders[FOLDERS][PATH_MAX];
static int folder_count = 0;
static atomic_long calls = 0;
static long at = 0;
static int mode = MODE_COUNT, failure = ENOSPC, does_sync = 0, log_descriptor = -1;

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void crashpoints_arm(const char *paths, const char *log, long call, int how, int error, int sync_too) {
    folder_count = 0;
    for (const char *start = paths; *start && folder_count < FOLDERS;) {
        size_t length = strcspn(start, ":");
        snprintf(folders[folder_count++], PATH_MAX, "%.*s", (int)length, start);
        start += length + (start[length] == ':');
    }
    atomic_store(&calls, 0);
    at = call; mode = how; failure = error; does_sync = sync_too;
    log_descriptor = *log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
}

long crashpoints_count(void) { return atomic_load(&calls); }

static int number_from(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

__attribute__((constructor)) static void arm_from_environment(void) {
    const char *paths = getenv("CRASHPOINTS_FOLDERS"), *log = getenv("CRASHPOINTS_LOG");
    if (!paths) return;
    crashpoints_arm(paths, log ? log : "", number_from("CRASHPOINTS_AT", 0), number_from("CRASHPOINTS_MODE", MODE_COUNT),
                    number_from("CRASHPOINTS_ERROR", ENOSPC), number_from("CRASHPOINTS_SYNC", 0));
}

static int is_watched(const char *path) {
    for (int i = 0; i < folder_count; i++) {
        size_t length = strlen(folders[i]);
        if (!strncmp(path, folders[i], length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

static int path_of(int descriptor, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, into, PATH_MAX - 1);
    if (length < 0) return 0;
    into[length] = 0;
    return 1;
}

static int absolute(int folder, const char *path, char *into) {
    char base[PATH_MAX];
    if (path[0] == '/') return snprintf(into, PATH_MAX, "%s", path) > 0;
    if (folder == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(folder, base)) return 0;
    return snprintf(into, PATH_MAX, "%s/%s", base, path) > 0;
}

/* What to do about a call: go on, fail, or (writes) store half of the bytes and die. */
enum { GO_ON, FAIL, TEAR };

static int hit(const char *call, const char *path, const char *other, long bytes, int needs_space) {
    if (!folder_count) return GO_ON;
    int keep = errno;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (log_descriptor >= 0) {
        char line[3 * PATH_MAX];
        int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\t%ld\n", number, call, path, other, bytes);
        if (syscall(SYS_write, log_descriptor, line, length) < 0) abort();
    }
    errno = keep;
    if (number == at && mode == MODE_BEFORE) raise(SIGKILL);
    if (number == at && mode == MODE_TORN && bytes > 1) return TEAR;
    if (number == at && mode == MODE_TORN) raise(SIGKILL);
    if ((number == at && mode == MODE_FAIL) || (number >= at && mode == MODE_FAIL_ON && needs_space)) {
        errno = failure;
        return FAIL;
    }
    return GO_ON;
}

static int hit_descriptor(const char *call, int descriptor, long bytes, int needs_space) {
    char path[PATH_MAX];
    if (!folder_count || !path_of(descriptor, path) || !is_watched(path)) return GO_ON;
    return hit(call, path, "", bytes, needs_space);
}

static int hit_path(const char *call, int folder, const char *name, int needs_space) {
    char path[PATH_MAX];
    if (!folder_count || !absolute(folder, name, path) || !is_watched(path)) return GO_ON;
    return hit(call, path, "", 0, needs_space);
}

static int hit_two(const char *call, int from_folder, const char *from, int to_folder, const char *to, int needs_space) {
    char first[PATH_MAX], second[PATH_MAX];
    if (!folder_count || !absolute(from_folder, from, first) || !absolute(to_folder, to, second)) return GO_ON;
    if (!is_watched(first) && !is_watched(second)) return GO_ON;
    return hit(call, first, second, 0, needs_space);
}

/* Opening changes something where it makes a file or empties one. */
static int hit_open(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    struct stat status;
    if (!folder_count || !(flags & (O_CREAT | O_TRUNC)) || !absolute(folder, name, path) || !is_watched(path)) return GO_ON;
    int exists = !stat(path, &status);
    if (exists && !(flags & O_TRUNC)) return GO_ON;
    return hit(exists ? "truncate" : "create", path, "", 0, !exists);
}

#define MODE_ARGUMENT(flags) mode_t bits = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); bits = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags) REAL(open);
    return hit_open(AT_FDCWD, path, flags) == FAIL ? -1 : real(path, flags, bits);
}
int open64(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags) REAL(open64);
    return hit_open(AT_FDCWD, path, flags) == FAIL ? -1 : real(path, flags, bits);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags) REAL(openat);
    return hit_open(folder, path, flags) == FAIL ? -1 : real(folder, path, flags, bits);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags) REAL(openat64);
    return hit_open(folder, path, flags) == FAIL ? -1 : real(folder, path, flags, bits);
}
int creat(const char *path, mode_t bits) {
    REAL(creat);
    return hit_open(AT_FDCWD, path, O_CREAT | O_TRUNC) == FAIL ? -1 : real(path, bits);
}

#define WRITE(name, signature, half, whole, size) \
    ssize_t name signature { \
        REAL(name); \
        switch (hit_descriptor(#name, descriptor, (long)(size), 1)) { \
            case FAIL: return -1; \
            case TEAR: (void)!half; raise(SIGKILL); /* fall through */ \
            default: return whole; \
        } \
    }
WRITE(write, (int descriptor, const void *data, size_t bytes), real(descriptor, data, bytes / 2),
      real(descriptor, data, bytes), bytes)
WRITE(pwrite, (int descriptor, const void *data, size_t bytes, off_t where), real(descriptor, data, bytes / 2, where),
      real(descriptor, data, bytes, where), bytes)
WRITE(pwrite64, (int descriptor, const void *data, size_t bytes, off64_t where),
      real(descriptor, data, bytes / 2, where), real(descriptor, data, bytes, where), bytes)
WRITE(writev, (int descriptor, const struct iovec *parts, int count), real(descriptor, parts, count / 2),
      real(descriptor, parts, count), count)
WRITE(pwritev, (int descriptor, const struct iovec *parts, int count, off_t where),
      real(descriptor, parts, count / 2, where), real(descriptor, parts, count, where), count)
WRITE(pwritev2, (int descriptor, const struct iovec *parts, int count, off_t where, int flags),
      real(descriptor, parts, count / 2, where, flags), real(descriptor, parts, count, where, flags), count)
WRITE(sendfile, (int descriptor, int from, off_t *where, size_t bytes), real(descriptor, from, where, bytes / 2),
      real(descriptor, from, where, bytes), bytes)
WRITE(sendfile64, (int descriptor, int from, off64_t *where, size_t bytes), real(descriptor, from, where, bytes / 2),
      real(descriptor, from, where, bytes), bytes)
WRITE(copy_file_range,
      (int from, off64_t *from_where, int descriptor, off64_t *where, size_t bytes, unsigned flags),
      real(from, from_where, descriptor, where, bytes / 2, flags),
      real(from, from_where, descriptor, where, bytes, flags), bytes)

#define SIMPLE(name, signature, found, arguments) \
    int name signature { REAL(name); return (found) == FAIL ? -1 : real arguments; }
SIMPLE(rename, (const char *from, const char *to), hit_two("rename", AT_FDCWD, from, AT_FDCWD, to, 1), (from, to))
SIMPLE(renameat, (int a, const char *from, int b, const char *to), hit_two("rename", a, from, b, to, 1), (a, from, b, to))
SIMPLE(renameat2, (int a, const char *from, int b, const char *to, unsigned flags), hit_two("rename", a, from, b, to, 1),
       (a, from, b, to, flags))
SIMPLE(link, (const char *from, const char *to), hit_two("link", AT_FDCWD, from, AT_FDCWD, to, 1), (from, to))
SIMPLE(linkat, (int a, const char *from, int b, const char *to, int flags), hit_two("link", a, from, b, to, 1),
       (a, from, b, to, flags))
SIMPLE(symlink, (const char *target, const char *path), hit_path("symlink", AT_FDCWD, path, 1), (target, path))
SIMPLE(unlink, (const char *path), hit_path("unlink", AT_FDCWD, path, 0), (path))
SIMPLE(unlinkat, (int folder, const char *path, int flags), hit_path("unlink", folder, path, 0), (folder, path, flags))
SIMPLE(rmdir, (const char *path), hit_path("rmdir", AT_FDCWD, path, 0), (path))
SIMPLE(mkdir, (const char *path, mode_t bits), hit_path("mkdir", AT_FDCWD, path, 1), (path, bits))
SIMPLE(mkdirat, (int folder, const char *path, mode_t bits), hit_path("mkdir", folder, path, 1), (folder, path, bits))
SIMPLE(chmod, (const char *path, mode_t bits), hit_path("chmod", AT_FDCWD, path, 0), (path, bits))
SIMPLE(fchmod, (int descriptor, mode_t bits), hit_descriptor("chmod", descriptor, 0, 0), (descriptor, bits))
SIMPLE(truncate, (const char *path, off_t size), hit_path("truncate", AT_FDCWD, path, 0), (path, size))
SIMPLE(ftruncate, (int descriptor, off_t size), hit_descriptor("ftruncate", descriptor, 0, 0), (descriptor, size))
SIMPLE(ftruncate64, (int descriptor, off64_t size), hit_descriptor("ftruncate", descriptor, 0, 0), (descriptor, size))
SIMPLE(fallocate, (int descriptor, int how, off_t from, off_t size), hit_descriptor("fallocate", descriptor, 0, 1),
       (descriptor, how, from, size))
SIMPLE(fallocate64, (int descriptor, int how, off64_t from, off64_t size),
       hit_descriptor("fallocate", descriptor, 0, 1), (descriptor, how, from, size))

/* Returns the error itself, not -1. */
int posix_fallocate(int descriptor, off_t from, off_t size) {
    REAL(posix_fallocate);
    return hit_descriptor("fallocate", descriptor, 0, 1) == FAIL ? failure : real(descriptor, from, size);
}
int posix_fallocate64(int descriptor, off64_t from, off64_t size) {
    REAL(posix_fallocate64);
    return hit_descriptor("fallocate", descriptor, 0, 1) == FAIL ? failure : real(descriptor, from, size);
}

/* A kill keeps the page cache, so a sync changes nothing that a kill could show: it is counted, and skipped for speed. */
int fsync(int descriptor) {
    REAL(fsync);
    if (hit_descriptor("fsync", descriptor, 0, 1) == FAIL) return -1;
    return folder_count && !does_sync ? 0 : real(descriptor);
}
int fdatasync(int descriptor) {
    REAL(fdatasync);
    if (hit_descriptor("fsync", descriptor, 0, 1) == FAIL) return -1;
    return folder_count && !does_sync ? 0 : real(descriptor);
}

/* Of the whole machine: it would wait for everybody else's writes. */
void sync(void) {
    REAL(sync);
    if (!folder_count || does_sync) real();
}
