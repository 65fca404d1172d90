// The gate on processors with AVX-512: sixteen numbers at once, each the same as among eight, to the last bit.

#include "adapter.h"
#include "vectors.h"

static __m512 gate_sixteen(__m512 gate, __m512 up) {
  const __m512 one = _mm512_set1_ps(1), sign = _mm512_set1_ps(-0.0f);
  const __m512 e = exp_negative_wide(_mm512_or_ps(gate, sign));
  const __m512 above = _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(gate)), one, e);
  const __m512 share = _mm512_div_ps(above, _mm512_add_ps(one, e));
  return _mm512_mul_ps(_mm512_mul_ps(gate, share), up);
}

void gate_values_wide(const float *gate, const float *up, float *to, size_t count) {
  for (size_t i = 0; i < count; i += 16) {
    const __mmask16 there = count - i < 16 ? (1u << (count - i)) - 1 : 0xffff;
    const __m512 product = gate_sixteen(_mm512_maskz_loadu_ps(there, gate + i),
                                        _mm512_maskz_loadu_ps(there, up + i));
    _mm512_mask_storeu_ps(to + i, there, product);
  }
}
