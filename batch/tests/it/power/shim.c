/* Preloaded into a process, writes down everything that it does to files below a directory: what was written, and what was
 * synced. A replayer then knows what a power loss may leave at any moment.
 *
 * POWER_ROOT     the directory
 * POWER_TRACE    the file to write to; records as in `struct record`, each followed by its path and its data
 * POWER_SLOW_US  how long each sync of a file waits first, so that other threads get ahead of it
 * POWER_KILL_AT  the number, from 1, of the change at which the process kills itself; a write is then done half
 *
 * One lock is held over each call and its record, so the records are in the order of the calls. What a caller may do behind
 * the shim's back, such as writing through a shared mapping, is recorded as unsupported, and the replayer refuses the trace. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, UNSUPPORTED };

struct record {
  uint32_t kind;
  uint32_t file;   /* a number that no two opens share */
  uint64_t offset; /* or flags, or length */
  uint32_t path_bytes;
  uint32_t data_bytes;
};

#define FDS 4096
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t files[FDS]; /* what a descriptor stands for; 0 for files elsewhere */
static uint32_t last_file;
static const char *root;
static int trace = -1;
static long slow_us, kill_at, changes;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("POWER_TRACE");
  root = getenv("POWER_ROOT");
  if (getenv("POWER_SLOW_US")) slow_us = atol(getenv("POWER_SLOW_US"));
  if (getenv("POWER_KILL_AT")) kill_at = atol(getenv("POWER_KILL_AT"));
  if (path) trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
}

static int inside(const char *path) { return root && path && !strncmp(path, root, strlen(root)); }

static uint32_t file_of(int fd) { return fd >= 0 && fd < FDS ? files[fd] : 0; }

static void put(const void *data, size_t bytes) {
  const char *at = data;
  while (bytes) {
    long done = syscall(SYS_write, trace, at, bytes);
    if (done <= 0) _exit(99);
    at += done;
    bytes -= (size_t)done;
  }
}

static void note(uint32_t kind, uint32_t file, uint64_t offset, const char *path, const void *data, size_t bytes) {
  struct record record = {kind, file, offset, path ? (uint32_t)strlen(path) : 0, (uint32_t)bytes};
  if (trace < 0) return;
  put(&record, sizeof record);
  put(path, record.path_bytes);
  put(data, bytes);
}

/* Whether the process is to die at this change. */
static int is_last(void) { return kill_at && ++changes == kill_at; }

static void die(void) {
  kill(getpid(), SIGKILL);
  pause();
}

static int opened(int fd, const char *path, int flags) {
  if (fd >= 0 && fd < FDS && inside(path)) {
    files[fd] = ++last_file;
    note(OPEN, last_file, (uint64_t)flags, path, NULL, 0);
  }
  return fd;
}

#define OPENING(name, ...)                                                    \
  mode_t mode = 0;                                                            \
  if (flags & (O_CREAT | __O_TMPFILE)) {                                      \
    va_list more;                                                             \
    va_start(more, flags);                                                    \
    mode = va_arg(more, mode_t);                                              \
    va_end(more);                                                             \
  }                                                                           \
  pthread_mutex_lock(&lock);                                                  \
  if (inside(path) && (flags & (O_CREAT | O_TRUNC)) && is_last()) die();      \
  int fd = opened(REAL(name)(__VA_ARGS__, flags, mode), path, flags);         \
  pthread_mutex_unlock(&lock);                                                \
  return fd

int open(const char *path, int flags, ...) { OPENING(open, path); }
int open64(const char *path, int flags, ...) { OPENING(open64, path); }
int openat(int at, const char *path, int flags, ...) { OPENING(openat, at, path); }
int openat64(int at, const char *path, int flags, ...) { OPENING(openat64, at, path); }

int close(int fd) {
  pthread_mutex_lock(&lock);
  if (fd >= 0 && fd < FDS) files[fd] = 0;
  int result = REAL(close)(fd);
  pthread_mutex_unlock(&lock);
  return result;
}

static ssize_t written(int fd, const void *data, size_t bytes, off_t offset) {
  pthread_mutex_lock(&lock);
  uint32_t file = file_of(fd);
  int last = file && is_last();
  if (last) bytes /= 2;
  ssize_t done = offset < 0 ? REAL(write)(fd, data, bytes) : REAL(pwrite)(fd, data, bytes, offset);
  if (last) die();
  if (file && done > 0) {
    off_t from = offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset;
    note(WRITE, file, (uint64_t)from, NULL, data, (size_t)done);
  }
  pthread_mutex_unlock(&lock);
  return done;
}

ssize_t write(int fd, const void *data, size_t bytes) { return written(fd, data, bytes, -1); }
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) { return written(fd, data, bytes, offset); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset) { return written(fd, data, bytes, offset); }

#define SYNCING(name)                                        \
  if (slow_us && file_of(fd)) usleep((useconds_t)slow_us);   \
  pthread_mutex_lock(&lock);                                 \
  if (file_of(fd) && is_last()) die();                       \
  int result = REAL(name)(fd);                               \
  if (file_of(fd) && result == 0) note(SYNC, file_of(fd), 0, NULL, NULL, 0); \
  pthread_mutex_unlock(&lock);                               \
  return result

int fsync(int fd) { SYNCING(fsync); }
int fdatasync(int fd) { SYNCING(fdatasync); }

#define CHANGING(is_inside, call, kind, file, offset, path, data, bytes) \
  pthread_mutex_lock(&lock);                                             \
  if ((is_inside) && is_last()) die();                                   \
  int result = call;                                                     \
  if ((is_inside) && result == 0) note(kind, file, offset, path, data, bytes); \
  pthread_mutex_unlock(&lock);                                           \
  return result

int ftruncate(int fd, off_t length) {
  CHANGING(file_of(fd), REAL(ftruncate)(fd, length), TRUNCATE, file_of(fd), (uint64_t)length, NULL, NULL, 0);
}
int ftruncate64(int fd, off64_t length) {
  CHANGING(file_of(fd), REAL(ftruncate64)(fd, length), TRUNCATE, file_of(fd), (uint64_t)length, NULL, NULL, 0);
}
int rename(const char *from, const char *to) {
  CHANGING(inside(from), REAL(rename)(from, to), RENAME, 0, 0, from, to, strlen(to));
}
int unlink(const char *path) { CHANGING(inside(path), REAL(unlink)(path), UNLINK, 0, 0, path, NULL, 0); }
int mkdir(const char *path, mode_t mode) {
  CHANGING(inside(path), REAL(mkdir)(path, mode), MKDIR, 0, 0, path, NULL, 0);
}

/* --- what the replayer does not know how to lose ------------------------------------------------------------------------ */

static void unsupported(int is_inside, const char *what) {
  pthread_mutex_lock(&lock);
  if (is_inside) note(UNSUPPORTED, 0, 0, what, NULL, 0);
  pthread_mutex_unlock(&lock);
}

int link(const char *from, const char *to) {
  unsupported(inside(to), "link");
  return REAL(link)(from, to);
}
int truncate(const char *path, off_t length) {
  unsupported(inside(path), "truncate");
  return REAL(truncate)(path, length);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  unsupported(file_of(fd) != 0, "writev");
  return REAL(writev)(fd, parts, count);
}
/* RocksDB reserves space behind the end of a file, which changes nothing that can be read. */
int fallocate(int fd, int mode, off_t offset, off_t length) {
  if (!(mode & FALLOC_FL_KEEP_SIZE)) unsupported(file_of(fd) != 0, "fallocate");
  return REAL(fallocate)(fd, mode, offset, length);
}
int posix_fallocate(int fd, off_t offset, off_t length) {
  unsupported(file_of(fd) != 0, "posix_fallocate");
  return REAL(posix_fallocate)(fd, offset, length);
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
  if ((protection & PROT_WRITE) && (flags & MAP_SHARED)) unsupported(file_of(fd) != 0, "mmap");
  return (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}
