#include "adapter.h"

#include <string.h>

#include "vectors.h"

enum { lanes = 8 };

/** Tokens whose sums are in registers together. */
enum { paired = 2, grouped = 4 };

/** Eight numbers of x as the places of a need them: each `width` times; part p of the 8 · width. */
INLINE __m256 spread(const float *x, size_t width, size_t p) {
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

/** Of each of a token's components, eight sums: lane l has what k ≡ l (mod 8) gives, in the order of k. */
typedef struct {
  float of[lanes * max_width] __attribute__((aligned(32)));
} Sums;

/** The first inner / 8 · 8 places of x, for `tokens` tokens, `inner` numbers apart. */
INLINE void sum_whole(const Components *of, size_t width, const float *x, size_t tokens,
                      Sums *sums) {
  const size_t whole = of->inner / lanes * lanes, parts = width < 4 ? width : 4;
  for (size_t p = 0; p < width; p += parts) {
    __m256 sum[paired][4];
    for (size_t t = 0; t < tokens; t++) {
      for (size_t i = 0; i < parts; i++) sum[t][i] = _mm256_setzero_ps();
    }
    for (size_t k = 0; k < whole; k += lanes) {
      UNROLL for (size_t i = 0; i < parts; i++) {
        const __m256 a = _mm256_loadu_ps(of->a + k * width + lanes * (p + i));
        UNROLL for (size_t t = 0; t < tokens; t++) {
          const __m256 places = spread(x + t * of->inner + k, width, p + i);
          sum[t][i] = _mm256_fmadd_ps(places, a, sum[t][i]);
        }
      }
    }
    for (size_t t = 0; t < tokens; t++) {
      for (size_t i = 0; i < parts; i++) _mm256_store_ps(sums[t].of + lanes * (p + i), sum[t][i]);
    }
  }
}

/** The same of any width; returns how many places were summed. */
INLINE size_t sum_places(const Components *of, const float *x, size_t tokens, Sums *sums) {
  switch (of->width) {
    case 1: sum_whole(of, 1, x, tokens, sums); break;
    case 2: sum_whole(of, 2, x, tokens, sums); break;
    case 4: sum_whole(of, 4, x, tokens, sums); break;
    case 8: sum_whole(of, 8, x, tokens, sums); break;
    case 16: sum_whole(of, 16, x, tokens, sums); break;
    case 32: sum_whole(of, 32, x, tokens, sums); break;
    case 64: sum_whole(of, 64, x, tokens, sums); break;
    default:
      for (size_t t = 0; t < tokens; t++) memset(sums[t].of, 0, sizeof sums[t].of);
      return 0;
  }
  return of->inner / lanes * lanes;
}

static void activate_one(const Components *of, const float *x, size_t k, Sums *sums,
                         float *activations) {
  const size_t width = of->width;
  for (; k < of->inner; k++) {
    for (size_t r = 0; r < width; r++) {
      float *sum = sums->of + k % lanes * width + r;
      *sum = __builtin_fmaf(x[k], of->a[k * width + r], *sum);
    }
  }
  for (size_t r = 0; r < width; r++) {
    const float *s = sums->of + r;
#define LANE(l) s[(l) * width]
    activations[r] = ((LANE(0) + LANE(1)) + (LANE(2) + LANE(3))) +
                     ((LANE(4) + LANE(5)) + (LANE(6) + LANE(7)));
#undef LANE
  }
}

void activate(const Components *of, size_t tokens, const float *x, float *activations) {
  Sums sums[paired];
  for (size_t t = 0; t < tokens;) {
    const float *from = x + t * of->inner;
    const int is_pair = t + paired <= tokens;
    const size_t k = is_pair ? sum_places(of, from, paired, sums) : sum_places(of, from, 1, sums);
    for (size_t i = 0; i < (is_pair ? paired : 1); i++, t++) {
      activate_one(of, x + t * of->inner, k, sums + i, activations + t * of->width);
    }
  }
}

/** Columns of `tokens` tokens: all read a vector of b once. */
INLINE void add_group(const Components *of, size_t tokens, const float *activations, Columns base,
                      Place to, size_t first, size_t last) {
  const float *rows = of->b + first;
  const size_t count = last - first, width = of->width;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    __m256 sum[grouped];
    for (size_t t = 0; t < tokens; t++) sum[t] = _mm256_loadu_ps(base.at + t * base.step + i);
    for (size_t r = 0; r < width; r++) {
      const __m256 b = _mm256_loadu_ps(rows + r * of->outer + i);
      UNROLL for (size_t t = 0; t < tokens; t++) {
        sum[t] = _mm256_fmadd_ps(_mm256_broadcast_ss(activations + t * width + r), b, sum[t]);
      }
    }
    for (size_t t = 0; t < tokens; t++) _mm256_storeu_ps(to.at + t * to.step + i, sum[t]);
  }
  for (; i < count; i++) {
    for (size_t t = 0; t < tokens; t++) {
      float sum = base.at[t * base.step + i];
      for (size_t r = 0; r < width; r++) {
        sum = __builtin_fmaf(activations[t * width + r], rows[r * of->outer + i], sum);
      }
      to.at[t * to.step + i] = sum;
    }
  }
}

void add_components(const Components *of, size_t tokens, const float *activations, Columns base,
                    Place to, size_t first, size_t last) {
  size_t t = 0;
  for (; t + grouped <= tokens; t += grouped) {
    const Columns from = {base.at + t * base.step, base.step};
    const Place into = {to.at + t * to.step, to.step};
    add_group(of, grouped, activations + t * of->width, from, into, first, last);
  }
  for (; t < tokens; t++) {
    const Columns from = {base.at + t * base.step, base.step};
    const Place into = {to.at + t * to.step, to.step};
    add_group(of, 1, activations + t * of->width, from, into, first, last);
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

void gate_values_narrow(const float *gate, const float *up, float *to, size_t count) {
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

void gate_values(const float *gate, const float *up, float *to, size_t count) {
  (can_be_wide() ? gate_values_wide : gate_values_narrow)(gate, up, to, count);
}
