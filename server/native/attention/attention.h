// Attention of new tokens over a cache of keys and values that several query heads share. The cache
// holds floats of 32 or 16 bits (IEEE 754 "half"); sums are of 32 bits.

#ifndef DUTYFREE_ATTENTION_H
#define DUTYFREE_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

enum {
  /** Query heads that go over the keys together. */
  max_group = 8,
  /** Keys that are weighed before what was found is merged with the earlier ones. */
  chunk_keys = 512,
  /** Turned keys that lie side by side. */
  turned_keys = 32,
};

/** What a group of query heads found among some keys. */
typedef struct {
  float largest[max_group]; // score of each head
  float weight[max_group];  // Σ exp(score − largest)
  float *sums;              // [heads, dim]: Σ exp(score − largest) · value
} Found;

/** One head's pair of halves turned by its position: to [dim] = scale · rotated x [dim]. */
void rotate_head(const float *x, const float *cos, const float *sin, int dim, float scale,
                 float *to);

/** to [count] = x [count], rounded to the nearest; beyond 65,504 infinity. count: a multiple of 8. */
void to_halves(const float *x, int count, uint16_t *to);

/** Some keys and their values, [count, dim] each: float, or uint16_t where they are halves. */
typedef struct {
  const void *keys, *values;
  int are_halves;
  size_t count;
  int has_later; // Whether the second half of the queries sees one key more, the one after `count`.
  const float *turned; // The same keys as turn_keys has them, for attend_chunk_wide; NULL: not.
} Cached;

/**
 * `heads` ≤ max_group queries [heads, dim], scaled and rotated, over at most chunk_keys keys. dim is a
 * multiple of 16. `scores`: room for chunk_keys · max_group floats, aligned to 32.
 */
typedef void AttendChunk(const float *queries, int heads, const Cached *cached, int dim,
                         float *scores, Found *found);
/** By the processor's widest vectors, turned keys or not; what is found is the same to the last bit. */
AttendChunk attend_chunk, attend_chunk_narrow, attend_chunk_wide;

/** Whether this processor gains by turned keys: it has vectors of sixteen. */
int can_turn_keys(void);

/**
 * For many queries over the same keys, where can_turn_keys: `count` ≤ chunk_keys keys to
 * [⌈count / turned_keys⌉, dim, turned_keys], zeros where there are no more, and values to floats [count, dim].
 */
void turn_keys(const Cached *from, size_t count, int dim, float *keys, float *values);

/** Adds what was found among later keys. */
void merge_found(Found *into, const Found *more, int heads, int dim);

/** to [heads, dim] = sums / weight. */
void write_found(const Found *found, int heads, int dim, float *to);

#endif
