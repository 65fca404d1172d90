// Low-rank adapters on tokens: x [inner] of each through a [inner, width] and b [width, outer].

#ifndef DUTYFREE_ADAPTER_H
#define DUTYFREE_ADAPTER_H

#include <stddef.h>

#include "product.h"

/** Widest adapters that a row may bring. */
enum { max_width = 64 };

/** The components of a row, or of all, at one site; width 0: none. */
typedef struct {
  const float *a, *b;
  size_t inner, width, outer;
} Components;

/** A Place that is only read. */
typedef struct {
  const float *at;
  size_t step;
} Columns;

/**
 * activations [tokens, width] = x a of tokens that have the same components. Each is summed in one order
 * whatever width and company, so that a row depends on neither.
 */
void activate(const Components *of, size_t tokens, const float *x, float *activations);

/** Columns [first, last) of base + activations · b; base and what is written begin at `first`. */
void add_components(const Components *of, size_t tokens, const float *activations, Columns base,
                    Place to, size_t first, size_t last);

/** to = gate / (1 + e^−gate) · up, `count` numbers. */
typedef void GateValues(const float *gate, const float *up, float *to, size_t count);
/** By the processor's widest vectors; what comes out is the same to the last bit. */
GateValues gate_values, gate_values_narrow, gate_values_wide;

#endif
