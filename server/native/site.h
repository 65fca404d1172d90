// Where adapters meet a linear module: what the rows of a step bring.

#ifndef DUTYFREE_SITE_H
#define DUTYFREE_SITE_H

#include "adapter.h"
#include "operator.h"

/** Components of all rows; width 0 where the inputs are left out. */
typedef struct {
  const float *a, *b;
  size_t inner, width, outer;
  size_t rows;        // 1: those of every row
  float *activations; // [tokens of all rows, width]; NULL: each task computes its own
} Site;

/** Reads a and b of `rows` from inputs `first` and `first + 1`; the site's inner and outer are known. */
Status *read_site(Api api, const Context *context, size_t first, size_t rows, Site *site);

/**
 * Activations of all tokens, once, to memory [tokens of all rows, widths of both]; by several threads where
 * that pays. Tokens that have the same components may be one row.
 */
Status *activate_sites(Api api, const Context *context, Site *up, Site *gate, const float *x,
                       size_t rows, size_t tokens, float *memory);

static inline Components components_of(const Site *site, size_t row) {
  const size_t own = site->rows == 1 ? 0 : row;
  return (Components){
      .a = site->a + own * site->inner * site->width,
      .b = site->b + own * site->width * site->outer,
      .inner = site->inner,
      .width = site->width,
      .outer = site->outer,
  };
}

static inline int is_common(const Site *site) { return site->width == 0 || site->rows == 1; }

#endif
