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

static size_t steps_of(const Matrix *w) {
  return (w->blocks * (size_t)w->block + step_values - 1) / step_values;
}
static size_t numbers_bytes(const Matrix *w) {
  return aligned(w->blocks * GROUP_ROWS * sizeof(float));
}
/** Who multiplies a whole pair of groups may read as many rows over the end. */
static size_t values_bytes(const Matrix *w, size_t rows) {
  return (steps_of(w) * rows + 2 * GROUP_ROWS) * step_values;
}

RoundedRows *create_groups(const Matrix *w, size_t rows) {
  const size_t num_groups = count_groups(rows), list = aligned(num_groups * sizeof(RoundedRows));
  const size_t values = values_bytes(w, rows), numbers = numbers_bytes(w);
  char *const memory = aligned_alloc(alignment, list + values + num_groups * 3 * numbers);
  if (!memory) return NULL;
  RoundedRows *const groups = (RoundedRows *)memory;
  const size_t pair_rows = 2 * GROUP_ROWS;
  for (size_t g = 0; g < num_groups; g++) {
    const size_t pair = g / 2 * pair_rows, first = g * GROUP_ROWS;
    char *const own = memory + list + values + g * 3 * numbers;
    const size_t left = rows - first, left_of_pair = rows - pair;
    groups[g] = (RoundedRows){
        .rows = left < GROUP_ROWS ? (int)left : GROUP_ROWS,
        .step = (left_of_pair < pair_rows ? left_of_pair : pair_rows) * step_values,
        .values = (int8_t *)memory + list + (steps_of(w) * pair + first - pair) * step_values,
        .scales = (float *)own,
        .sums = (float *)(own + numbers),
        .starts = (int32_t *)(own + 2 * numbers),
    };
    if (left < GROUP_ROWS) memset(own, 0, 3 * numbers);
  }
  return groups;
}

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

/** Makes a piece blocks [from, to) of the columns from `first` on; the same of those from `then` on come next. */
static void cut_piece(const Matrix *w, size_t first, size_t then, size_t from, size_t to,
                      Piece *piece) {
  const size_t bytes = (size_t)w->block * w->bits / 8; // of a block of a column
  const size_t at = first * w->blocks + from * tile_columns;
  const size_t next = then * w->blocks + from * tile_columns;
  // One by one: a copy of the whole would wait for its parts.
  piece->from = from;
  piece->to = to;
  piece->words = (const void *)(w->data + at * bytes);
  piece->scales = (const void *)(w->scales + at);
  piece->extras = w->mins ? (const void *)(w->mins + at) : NULL;
  piece->centre = centre_of(w);
  piece->next = w->data + next * bytes;
  piece->next_scales = w->scales + next;
}

/** Columns [first, last) of some groups: one tile, or joint ones of several groups. */
static void multiply_tiles(const Tiles *tiles, const Matrix *w, const RoundedRows *groups,
                           size_t num_groups, size_t first, size_t last, Place y) {
  AllSums sums[joint_tiles];
  float extras[joint_tiles][piece_blocks][tile_columns];
  uint32_t centred[joint_tiles][piece_integers / 4][tile_columns] __attribute__((aligned(64)));
  const size_t num_tiles = (last - first + tile_columns - 1) / tile_columns;
  for (size_t t = 0; t < num_tiles; t++) memset(sums[t], 0, num_groups * sizeof *sums[t]);
  // What is gone through once need not stay in the first cache.
  const int in_pieces = num_groups > 1 || w->zeros || tiles->in_pieces;
  const size_t at_once = in_pieces ? piece_integers / w->block : w->blocks;
  const int wide = w->bits == 8, block = block_index(w), has_extras = w->mins || w->zeros;
  for (size_t from = 0; from < w->blocks; from += at_once) {
    const size_t to = from + at_once < w->blocks ? from + at_once : w->blocks;
    Piece pieces[joint_tiles];
    for (size_t t = 0; t < num_tiles; t++) {
      const size_t column = first + t * tile_columns;
      cut_piece(w, column, column + num_tiles * tile_columns, from, to, pieces + t);
      pieces[t].centred = centred[t];
      const int is_whole = column + tile_columns <= last;
      const int is_end = to == w->blocks && is_whole;
      pieces[t].y.at = is_end ? y.at + column - first : sums[t][0][0];
      pieces[t].y.step = is_end ? y.step : tile_columns;
      if (!w->zeros) continue;
      read_zeros(w, column, pieces + t, extras[t]);
      pieces[t].extras = extras[t];
    }
    (*tiles->adds)[wide][block][has_extras](groups, num_groups, pieces, num_tiles, sums);
  }
  const size_t left = last % tile_columns, t = num_tiles - 1;
  if (left == 0) return;
  for (size_t g = 0; g < num_groups; g++) {
    for (int m = 0; m < groups[g].rows; m++) {
      float *const to = y.at + (g * GROUP_ROWS + m) * y.step + (last - left) - first;
      memcpy(to, sums[t][g][m], left * sizeof(float));
    }
  }
}

static void multiply_by(const Tiles *tiles, const Matrix *w, const RoundedRows *groups,
                        size_t num_groups, size_t first, size_t last, Place y) {
  if (num_groups == 1 && tiles->lone) tiles = tiles->lone;
  const size_t fitting = tiles->portion_bytes / (2 * GROUP_ROWS * steps_of(w) * step_values) * 2 + 2;
  const size_t portion = fitting < portion_groups ? fitting : portion_groups;
  const size_t columns = num_groups > 1 ? joint_tiles * tile_columns : tile_columns;
  if (tiles->begin) tiles->begin(w->block);
  for (size_t g = 0; g < num_groups; g += portion) {
    const size_t count = num_groups - g < portion ? num_groups - g : portion;
    float *const to = y.at + g * GROUP_ROWS * y.step;
    for (size_t n = first; n < last; n += columns) {
      const size_t end = n + columns < last ? n + columns : last;
      multiply_tiles(tiles, w, groups + g, count, n, end, (Place){to + n - first, y.step});
    }
  }
  if (tiles->end) tiles->end();
}

/** Rows of made-up numbers on which two kinds of tiles must agree: a pair of groups and most of another. */
enum { compared_rows = 3 * GROUP_ROWS - 1 };

/** Rounds some rows x [rows, inner]; NULL: out of memory. */
static RoundedRows *round_some(const Matrix *w, const float *x, size_t rows) {
  RoundedRows *const groups = create_groups(w, rows);
  for (size_t m = 0; groups && m < rows; m++) {
    round_row(w, x + m * w->inner, (int)(m % GROUP_ROWS), groups + m / GROUP_ROWS);
  }
  return groups;
}

/** Whether two kinds of tiles agree to the last bit on the first 1, 2, … compared_rows rows of x. */
static int agree_on(const Tiles *one, const Tiles *other, const Matrix *w, const float *x,
                    float *y[2]) {
  int same = 1;
  for (size_t rows = 1; same && rows <= compared_rows; rows++) {
    RoundedRows *const groups = round_some(w, x, rows);
    if (!groups) return 0;
    multiply_by(one, w, groups, count_groups(rows), 0, w->outer, (Place){y[0], w->outer});
    multiply_by(other, w, groups, count_groups(rows), 0, w->outer, (Place){y[1], w->outer});
    same = memcmp(y[0], y[1], rows * w->outer * sizeof(float)) == 0;
    free(groups);
  }
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

/** Seconds of a product of two full groups, the least of a few tries. */
static double cost_of(const Tiles *tiles, int bits, int block) {
  enum { inner = 1024, outer = 256, rows = 2 * GROUP_ROWS, tries = 8 };
  static uint8_t data[outer * inner];
  static float scales[outer * inner / 32], x[rows * inner], y[rows * outer];
  const Matrix w = {.bits = bits, .block = block, .inner = inner, .outer = outer,
                    .blocks = inner / block, .data = data, .scales = scales};
  RoundedRows *const groups = round_some(&w, x, rows);
  if (!groups) return 0;
  double least = 1;
  for (int i = 0; i < tries; i++) {
    const double start = seconds();
    multiply_by(tiles, &w, groups, 2, 0, outer, (Place){y, outer});
    const double took = seconds() - start;
    if (took < least) least = took;
  }
  free(groups);
  return least;
}

/** The fastest tiles that this processor can run and that are right on it: by 8 bits or not, and blocks. */
static const Tiles *chosen[2][3];
static const char *name = "none";

__attribute__((constructor)) static void choose(void) {
  __builtin_cpu_init();
  if (!can_multiply()) return;
  const int has_vnni = tiles_vnni.can_run() && agree(&tiles_avx2, &tiles_vnni);
  const int has_amx = has_vnni && tiles_amx.can_run() && agree(&tiles_avx2, &tiles_amx);
  const Tiles *const usual = has_vnni ? &tiles_vnni : &tiles_avx2;
  name = usual->name;
  for (int wide = 0; wide < 2; wide++) {
    for (int i = 0; i < 3; i++) {
      const int bits = wide ? 8 : 4, block = 32 << i;
      chosen[wide][i] = usual;
      if (!has_amx || cost_of(usual, bits, block) <= cost_of(&tiles_amx, bits, block)) continue;
      chosen[wide][i] = &tiles_amx;
      name = tiles_amx.name;
    }
  }
}

const char *products_name(void) { return name; }

void multiply(const Matrix *w, const RoundedRows *groups, size_t num_groups, size_t first,
              size_t last, Place y) {
  multiply_by(chosen[w->bits == 8][block_index(w)], w, groups, num_groups, first, last, y);
}
