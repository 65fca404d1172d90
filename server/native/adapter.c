#include "adapter.h"

#include <string.h>

#include "vectors.h"

enum { lanes = 8 };

/** Eight numbers of x as the places of a need them: each `width` times; part p of the 8 · width. */
static inline __m256 spread(const float *x, size_t width, size_t p) {
  switch (width) {
    case 1: return _mm256_loadu_ps(x);
    case 2: {
      const __m256 four = _mm256_broadcast_ps((const __m128 *)(x + 4 * p));
      return _mm256_permutevar_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
    }
    case 4: {
      const __m256 first = _mm256_broadcast_ss(x + 2 * p);
      return _mm256_blend_ps(first, _mm256_broadcast_ss(x + 2 * p + 1), 0xf0);
    }
    default: return _mm256_broadcast_ss(x + 8 * p / width);
  }
}

/** Widths for which `spread` is right. */
static int is_spreadable(size_t width) {
  return width == 1 || width == 2 || width == 4 || width % lanes == 0;
}

void activate(const Components *of, const float *x, float *activations) {
  const size_t width = of->width, whole = of->inner / lanes * lanes;
  // Lane l of a component sums what k ≡ l (mod 8) gives, in the order of k.
  float sums[lanes * max_width] __attribute__((aligned(32)));
  memset(sums, 0, lanes * width * sizeof(float));
  size_t k = 0;
  if (width == 1) {
    __m256 sum = _mm256_setzero_ps();
    for (; k < whole; k += lanes) {
      sum = _mm256_fmadd_ps(_mm256_loadu_ps(x + k), _mm256_loadu_ps(of->a + k), sum);
    }
    _mm256_store_ps(sums, sum);
  } else if (is_spreadable(width)) {
    for (; k < whole; k += lanes) {
      for (size_t p = 0; p < width; p++) {
        const __m256 a = _mm256_loadu_ps(of->a + k * width + lanes * p);
        const __m256 sum = _mm256_load_ps(sums + lanes * p);
        _mm256_store_ps(sums + lanes * p, _mm256_fmadd_ps(spread(x + k, width, p), a, sum));
      }
    }
  }
  for (; k < of->inner; k++) {
    for (size_t r = 0; r < width; r++) {
      float *sum = sums + k % lanes * width + r;
      *sum = __builtin_fmaf(x[k], of->a[k * width + r], *sum);
    }
  }
  for (size_t r = 0; r < width; r++) {
    const float *s = sums + r;
#define LANE(l) s[(l) * width]
    activations[r] = ((LANE(0) + LANE(1)) + (LANE(2) + LANE(3))) +
                     ((LANE(4) + LANE(5)) + (LANE(6) + LANE(7)));
#undef LANE
  }
}

void add_components(const Components *of, const float *activations, const float *base, float *to,
                    size_t first, size_t last) {
  const float *rows = of->b + first;
  const size_t count = last - first;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    __m256 sum = _mm256_loadu_ps(base + i);
    for (size_t r = 0; r < of->width; r++) {
      const __m256 b = _mm256_loadu_ps(rows + r * of->outer + i);
      sum = _mm256_fmadd_ps(_mm256_broadcast_ss(activations + r), b, sum);
    }
    _mm256_storeu_ps(to + i, sum);
  }
  for (; i < count; i++) {
    float sum = base[i];
    for (size_t r = 0; r < of->width; r++) {
      sum = __builtin_fmaf(activations[r], rows[r * of->outer + i], sum);
    }
    to[i] = sum;
  }
}

static inline __m256 gate_eight(__m256 gate, __m256 up) {
  const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
  // Of −|gate|, which never overflows; the logistic function of a negative gate is e / (1 + e).
  const __m256 e = exp_negative(_mm256_or_ps(gate, sign));
  const __m256 above = _mm256_blendv_ps(one, e, gate);
  const __m256 share = _mm256_div_ps(above, _mm256_add_ps(one, e));
  return _mm256_mul_ps(_mm256_mul_ps(gate, share), up);
}

void gate_values(const float *gate, const float *up, float *to, size_t count) {
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const __m256 product = gate_eight(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i));
    _mm256_storeu_ps(to + i, product);
  }
  float rest[3][lanes] = {{0}};
  if (i == count) return;
  memcpy(rest[0], gate + i, (count - i) * sizeof(float));
  memcpy(rest[1], up + i, (count - i) * sizeof(float));
  _mm256_storeu_ps(rest[2], gate_eight(_mm256_loadu_ps(rest[0]), _mm256_loadu_ps(rest[1])));
  memcpy(to + i, rest[2], (count - i) * sizeof(float));
}
