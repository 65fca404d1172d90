// Work for the threads of an ONNX Runtime session. It hands each thread one block of the pieces, and the
// thread that called waits for the others without giving its core up: one that another process holds up
// then costs two cores. Here the threads take piece after piece, and who waits for long sleeps, so that
// the one that was held up can go on in its place.

#include <sched.h>
#include <stdatomic.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "operator.h"

/** How often the caller looks before it sleeps: some tens of microseconds, longer than most pieces. */
enum { looks = 1000 };

typedef struct {
  void (*task)(void *, size_t);
  void *data;
  size_t count;
  uint64_t caller;
  atomic_size_t next, done;
  /** 1: the caller sleeps. */
  atomic_int sleeps;
} Pieces;

/** Tells threads apart. */
static uint64_t this_thread(void) {
  static _Thread_local char mine;
  return (uint64_t)(uintptr_t)&mine;
}

#ifdef __linux__
static void sleep_while_one(atomic_int *word) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
}
static void wake(atomic_int *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }
#else
static void sleep_while_one(atomic_int *word) {
  (void)word;
  sched_yield();
}
static void wake(atomic_int *word) { (void)word; }
#endif

static int is_done(Pieces *pieces) { return atomic_load(&pieces->done) == pieces->count; }

static void wait_for_others(Pieces *pieces) {
  for (int look = 0; look < looks; look++) {
    if (is_done(pieces)) return;
    __builtin_ia32_pause();
  }
  atomic_store(&pieces->sleeps, 1);
  while (!is_done(pieces)) sleep_while_one(&pieces->sleeps);
}

/** Takes pieces while there are any. ONNX Runtime calls it as often as there are pieces. */
static void take_pieces(void *data, size_t unused) {
  (void)unused;
  Pieces *const pieces = data;
  size_t taken = 0;
  for (;;) {
    const size_t piece = atomic_fetch_add_explicit(&pieces->next, 1, memory_order_relaxed);
    if (piece >= pieces->count) break;
    pieces->task(pieces->data, piece);
    taken++;
  }
  atomic_fetch_add(&pieces->done, taken);
  if (this_thread() == pieces->caller) return wait_for_others(pieces);
  if (is_done(pieces) && atomic_exchange(&pieces->sleeps, 0)) wake(&pieces->sleeps);
}

Status *parallel_for(Api api, const Context *context, void (*task)(void *, size_t), size_t count,
                     void *data) {
  if (count == 0) return NULL;
  Pieces pieces = {.task = task, .data = data, .count = count, .caller = this_thread()};
  return share_threads(api, context, take_pieces, count, &pieces);
}
