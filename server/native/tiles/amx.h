// AMX's instructions that a product needs; with AMX_MODEL what each does, in C, for processors without.
// Tiles have numbers, which must be literal.

#ifndef DUTYFREE_AMX_H
#define DUTYFREE_AMX_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** 16 numbers: a vector of AVX-512, or what a compiler makes of it elsewhere. */
typedef float Floats __attribute__((vector_size(64), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(64), aligned(4)));
typedef uint32_t Words __attribute__((vector_size(64), aligned(4)));
typedef uint8_t Bytes __attribute__((vector_size(64), aligned(4)));

static inline Floats read_floats(const float *from) { return *(const Floats *)from; }
static inline void write_floats(float *to, Floats v) { *(Floats *)to = v; }
static inline Integers read_integers(const int32_t *from) { return *(const Integers *)from; }
static inline Words read_words(const uint32_t *from) { return *(const Words *)from; }
static inline void write_words(uint32_t *to, Words v) { *(Words *)to = v; }
static inline Floats to_floats(Integers v) { return __builtin_convertvector(v, Floats); }
static inline Floats all_of(float v) { return v - (Floats){}; }

/** a · b + c, rounded once. */
static inline Floats fused(Floats a, Floats b, Floats c) {
#ifdef __AVX512F__
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
  for (int i = 0; i < 16; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

/** The shapes of all tiles, as the instruction that sets them reads them. */
typedef struct {
  uint8_t palette, first_row, unused[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} TileShapes;
_Static_assert(sizeof(TileShapes) == 64, "as the instruction reads it");

#ifdef AMX_MODEL

static _Thread_local TileShapes shapes;
static _Thread_local uint8_t tiles[8][16][64];

static inline void tile_shapes(const TileShapes *wanted) { shapes = *wanted; }
static inline void tile_release(void) { memset(&shapes, 0, sizeof shapes); }
static inline void tile_zero(int to) { memset(tiles[to], 0, sizeof tiles[to]); }

static inline void tile_load(int to, const void *from, size_t stride) {
  memset(tiles[to], 0, sizeof tiles[to]);
  for (int row = 0; row < shapes.rows[to]; row++) {
    memcpy(tiles[to][row], (const char *)from + row * stride, shapes.row_bytes[to]);
  }
}

static inline void tile_store(void *to, size_t stride, int from) {
  for (int row = 0; row < shapes.rows[from]; row++) {
    memcpy((char *)to + row * stride, tiles[from][row], shapes.row_bytes[from]);
  }
}

/** sums [M, N] of 32 bits += a [M, 4 K], with signs, times b [K, 4 N], with signs: fours along the inner side. */
static inline void tile_multiply(int sums, int a, int b) {
  for (int m = 0; m < shapes.rows[sums]; m++) {
    for (int k = 0; k < shapes.row_bytes[a] / 4; k++) {
      for (int n = 0; n < shapes.row_bytes[sums] / 4; n++) {
        int32_t sum;
        memcpy(&sum, tiles[sums][m] + 4 * n, sizeof sum);
        for (int i = 0; i < 4; i++) sum += (int8_t)tiles[a][m][4 * k + i] * (int8_t)tiles[b][k][4 * n + i];
        memcpy(tiles[sums][m] + 4 * n, &sum, sizeof sum);
      }
    }
  }
}

static inline int may_use_tiles(void) { return 1; }

#else

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/** Keeps what was written there before: compilers do not know how much these instructions read. */
#define WRITTEN(at) __asm__ volatile("" ::"r"(at) : "memory")
#define tile_shapes(wanted)    \
  do {                         \
    WRITTEN(wanted);           \
    _tile_loadconfig(wanted);  \
  } while (0)
#define tile_release() _tile_release()
#define tile_zero(to) _tile_zero(to)
#define tile_load(to, from, stride) \
  do {                              \
    WRITTEN(from);                  \
    _tile_loadd(to, from, stride);  \
  } while (0)
#define tile_store(to, stride, from) _tile_stored(from, to, stride)
#define tile_multiply(sums, a, b) _tile_dpbssd(sums, a, b)

/** Whether the processor has them and the system lets this process use them, which it then does. */
static inline int may_use_tiles(void) {
  enum { amx_tile = 1 << 24, amx_int8 = 1 << 25, request = 0x1023, tile_data = 18 };
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  if (!(d & amx_tile) || !(d & amx_int8)) return 0;
#if defined(__linux__)
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
  return 0;
#endif
}

#endif
#endif
