#include "product.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tiles/tiles.h"

enum { alignment = 64 };

int can_multiply(void) { return tiles_avx2.can_run(); }

int can_multiply_blocks(int bits, int block) {
  return (bits == 4 || bits == 8) && (block == 32 || block == 64 || block == 128);
}

static size_t aligned(size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

/**
 * Bytes from one row to the next. A line more than the values keeps rows off each other's places in the
 * caches; tiles may read up to a vector of 128 values over the end.
 */
static size_t row_bytes(const Matrix *w) {
  return aligned(w->blocks * (size_t)w->block + 128) + alignment;
}
static size_t numbers_bytes(const Matrix *w) {
  return aligned(w->blocks * GROUP_ROWS * sizeof(float));
}

size_t rounded_bytes(const Matrix *w) { return GROUP_ROWS * row_bytes(w) + 3 * numbers_bytes(w); }

RoundedRows rounded_at(const Matrix *w, int rows, void *memory) {
  char *const numbers = (char *)memory + GROUP_ROWS * row_bytes(w);
  return (RoundedRows){
      .rows = rows,
      .stride = row_bytes(w),
      .values = memory,
      .scales = (float *)numbers,
      .sums = (float *)(numbers + numbers_bytes(w)),
      .starts = (int32_t *)(numbers + 2 * numbers_bytes(w)),
  };
}

enum {
  /** Bytes of activations that some columns go through before the next columns do. */
  portion_bytes = 192 << 10,
  /** Groups that columns go through at once, at most. */
  portion_groups = 64,
};

/** What is to be added where zeros are not the centre. */
static void read_zeros(const Matrix *w, size_t first, const Piece *piece,
                       float (*extras)[tile_columns]) {
  const size_t bits = (size_t)w->bits, a_word = 32 / bits, most = (1u << bits) - 1;
  const uint32_t(*words)[tile_columns] = (const void *)(w->zeros + first * zero_bytes(w));
  for (size_t b = piece->from; b < piece->to; b++) {
    const size_t slot = b - piece->from, shift = b % a_word * bits;
    for (size_t c = 0; c < tile_columns; c++) {
      const int zero = (int)(words[b / a_word][c] >> shift & most);
      extras[slot][c] = piece->scales[slot][c] * (float)(centre_of(w) - zero);
    }
  }
}

/** Columns [first, last), at most tile_columns, of some groups. */
static void multiply_tile(const Tiles *tiles, const Matrix *w, const RoundedRows *groups,
                          size_t num_groups, size_t first, size_t last, float *y) {
  Sums sums[portion_groups];
  float extras[piece_blocks][tile_columns];
  uint32_t spread[2 * piece_words][tile_columns] __attribute__((aligned(64)));
  memset(sums, 0, num_groups * sizeof *sums);
  const size_t bytes = (size_t)w->block * w->bits / 8; // of a block of a column
  // What is gone through once need not stay in the first cache.
  const size_t at_once = num_groups > 1 || w->zeros ? piece_words * 4 / bytes : w->blocks;
  const int wide = w->bits == 8, block = block_index(w), has_extras = w->mins || w->zeros;
  for (size_t from = 0; from < w->blocks; from += at_once) {
    const size_t to = from + at_once < w->blocks ? from + at_once : w->blocks;
    const size_t at = first * w->blocks + from * tile_columns; // block
    const size_t next = last * w->blocks + from * tile_columns;
    Piece piece = {
        .from = from,
        .to = to,
        .words = (const void *)(w->data + at * bytes),
        .scales = (const void *)(w->scales + at),
        .extras = w->mins ? (const void *)(w->mins + at) : extras,
        .next = w->data + next * bytes,
        .next_scales = w->scales + next,
        .spread = spread,
    };
    if (w->zeros) read_zeros(w, first, &piece, extras);
    for (size_t g = 0; g < num_groups; g++) {
      if (g > 0) piece.next = NULL;
      piece.is_spread = g > 0;
      const int rows = groups[g].rows;
      const Tiles *by = rows < tiles->least_rows ? tiles->few : tiles;
      (*by->adds)[wide][block][has_extras][rows - 1](groups + g, &piece, sums[g]);
    }
  }
  for (size_t g = 0; g < num_groups; g++) {
    for (int m = 0; m < groups[g].rows; m++) {
      float *const to = y + (g * GROUP_ROWS + m) * w->outer + first;
      if (last - first == tile_columns) memcpy(to, sums[g][m], sizeof sums[g][m]);
      else memcpy(to, sums[g][m], (last - first) * sizeof(float));
    }
  }
}

static void multiply_by(const Tiles *tiles, const Matrix *w, const RoundedRows *groups,
                        size_t num_groups, size_t first, size_t last, float *y) {
  const size_t fitting = portion_bytes / (GROUP_ROWS * row_bytes(w)) + 1;
  const size_t portion = fitting < portion_groups ? fitting : portion_groups;
  // Only the last group may have few rows.
  const int begins = tiles->begin && num_groups > 0 && groups->rows >= tiles->least_rows;
  if (begins) tiles->begin(w->block);
  for (size_t g = 0; g < num_groups; g += portion) {
    const size_t count = num_groups - g < portion ? num_groups - g : portion;
    float *const to = y + g * GROUP_ROWS * w->outer;
    for (size_t n = first; n < last; n += tile_columns) {
      const size_t end = n + tile_columns < last ? n + tile_columns : last;
      multiply_tile(tiles, w, groups + g, count, n, end, to);
    }
  }
  if (begins) tiles->end();
}

/** Rows of made-up numbers on which two kinds of tiles must agree: a full group and most of another. */
enum { compared_rows = 2 * GROUP_ROWS - 1 };

/** Whether two kinds of tiles agree to the last bit on the first 1, 2, … compared_rows rows of x. */
static int agree_on(const Tiles *one, const Tiles *other, const Matrix *w, const float *x,
                    float *y[2]) {
  const size_t bytes = rounded_bytes(w);
  char *memory = aligned_alloc(alignment, 2 * bytes);
  int same = memory != NULL;
  for (int rows = 1; same && rows <= compared_rows; rows++) {
    const size_t num_groups = (rows + GROUP_ROWS - 1) / GROUP_ROWS;
    RoundedRows groups[2];
    for (int m = 0; m < rows; m++) {
      const int g = m / GROUP_ROWS, r = m % GROUP_ROWS, left = rows - m;
      if (r == 0) groups[g] = rounded_at(w, left < GROUP_ROWS ? left : GROUP_ROWS, memory + g * bytes);
      round_row(w, x + m * w->inner, r, groups + g);
    }
    multiply_by(one, w, groups, num_groups, 0, w->outer, y[0]);
    multiply_by(other, w, groups, num_groups, 0, w->outer, y[1]);
    same = memcmp(y[0], y[1], rows * w->outer * sizeof(float)) == 0;
  }
  free(memory);
  return same;
}

/** Whether two kinds of tiles agree to the last bit on made-up numbers, for all blocks and rows. */
static int agree(const Tiles *one, const Tiles *other) {
  // More than one piece, a last block that is not whole, a last tile that is neither.
  enum { inner = 1100, outer = tile_columns + 3, padded = 2 * tile_columns, max_blocks = 35 };
  static uint8_t data[padded * max_blocks * 128], zeros[padded * (max_blocks + 3)];
  static float scales[padded * max_blocks], mins[padded * max_blocks], x[compared_rows * inner];
  static float y[2][compared_rows * outer];
  uint32_t seed = 1;
  for (size_t i = 0; i < sizeof data; i++) data[i] = (seed = seed * 1664525 + 1013904223) >> 24;
  for (size_t i = 0; i < sizeof zeros; i++) zeros[i] = (seed = seed * 1664525 + 1013904223) >> 24;
  for (size_t i = 0; i < padded * max_blocks; i++) {
    scales[i] = 0.01f + (float)(i % 7) / 100;
    mins[i] = (float)(i % 11) / 10 - 0.7f;
  }
  for (size_t i = 0; i < compared_rows * inner; i++) x[i] = (float)(i * 37 % 101) - 50;
  int same = 1;
  for (int kind = 0; kind < 2 * 3 * 3; kind++) {
    const int bits = kind % 2 ? 8 : 4, block = 32 << kind / 2 % 3, extras = kind / 6;
    if (extras == 2 && block != 32) continue; // Mins come with blocks of 32 alone.
    const Matrix w = {
        .bits = bits, .block = block, .inner = inner, .outer = outer,
        .blocks = (inner + block - 1) / block, .data = data, .scales = scales,
        .zeros = extras == 1 ? zeros : NULL, .mins = extras == 2 ? mins : NULL,
    };
    same = same && agree_on(one, other, &w, x, (float *[]){y[0], y[1]});
  }
  return same;
}

/** Seconds that this thread has computed. */
static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

/** Seconds of some products of two full groups, the least of a few tries: blocks of 128, both widths. */
static double cost_of(const Tiles *tiles) {
  enum { inner = 1024, outer = 256, blocks = inner / 128, rows = 2 * GROUP_ROWS, tries = 8 };
  static uint8_t data[outer * inner];
  static float scales[outer * blocks], x[inner], y[rows * outer];
  double sum = 0;
  for (int bits = 4; bits <= 8; bits += 4) {
    const Matrix w = {.bits = bits, .block = 128, .inner = inner, .outer = outer, .blocks = blocks,
                      .data = data, .scales = scales};
    const size_t bytes = rounded_bytes(&w);
    char *memory = aligned_alloc(alignment, 2 * bytes);
    if (!memory) return 0;
    RoundedRows groups[2];
    for (int g = 0; g < 2; g++) groups[g] = rounded_at(&w, GROUP_ROWS, memory + g * bytes);
    for (int m = 0; m < rows; m++) round_row(&w, x, m % GROUP_ROWS, groups + m / GROUP_ROWS);
    double least = 1;
    for (int i = 0; i < tries; i++) {
      const double start = seconds();
      multiply_by(tiles, &w, groups, 2, 0, outer, y);
      const double took = seconds() - start;
      if (took < least) least = took;
    }
    sum += least;
    free(memory);
  }
  return sum;
}

/** The fastest tiles that this processor can run and that are right on it. */
static const Tiles *chosen = &tiles_avx2;

__attribute__((constructor)) static void choose(void) {
  __builtin_cpu_init();
  if (!can_multiply() || !tiles_vnni.can_run() || !agree(&tiles_avx2, &tiles_vnni)) return;
  chosen = &tiles_vnni;
  if (!tiles_amx.can_run() || !agree(&tiles_avx2, &tiles_amx)) return;
  // No processor with AMX was at hand when this was written: it has to prove itself.
  if (cost_of(&tiles_amx) < cost_of(chosen)) chosen = &tiles_amx;
}

const char *products_name(void) { return chosen->name; }

void multiply(const Matrix *w, const RoundedRows *groups, size_t num_groups, size_t first,
              size_t last, float *y) {
  multiply_by(chosen, w, groups, num_groups, first, last, y);
}
