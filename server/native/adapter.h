// Low-rank adapters on one token: x [inner] through a [inner, width] and b [width, outer].

#ifndef DUTYFREE_ADAPTER_H
#define DUTYFREE_ADAPTER_H

#include <stddef.h>

/** Widest adapters that a row may bring. */
enum { max_width = 64 };

/** The components of one row at one site; width 0: none. */
typedef struct {
  const float *a, *b;
  size_t inner, width, outer;
} Components;

/**
 * activations [width] = x a. Each is summed in one order whatever the width, so that a row does not
 * depend on how wide its neighbours are.
 */
void activate(const Components *of, const float *x, float *activations);

/** Columns [first, last) of base + activations · b, to [last − first]; base begins at `first` too. */
void add_components(const Components *of, const float *activations, const float *base, float *to,
                    size_t first, size_t last);

/** to = gate / (1 + e^−gate) · up, `count` numbers. */
void gate_values(const float *gate, const float *up, float *to, size_t count);

#endif
