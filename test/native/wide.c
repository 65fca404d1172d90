// Whether vectors of sixteen give what vectors of eight do, to the last bit: attention for all numbers of heads
// and some of keys, and the gate. Prints how many comparisons were made, or where one failed.
// Ends with 3 where the processor has no such vectors.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../server/native/adapter.h"
#include "../../server/native/attention/attention.h"
#include "../../server/native/vectors.h"

enum { most_keys = 512, dim = 80 };

static float numbers(size_t i) { return sinf((float)(i * 37 % 1013)) * 3; }

static int attention_differs(int heads, size_t count, int are_halves, int has_later,
                             int are_turned) {
  static float keys[(most_keys + 1) * dim], values[(most_keys + 1) * dim], queries[max_group * dim];
  static uint16_t half_keys[(most_keys + 1) * dim], half_values[(most_keys + 1) * dim];
  static float scores[2][(most_keys + 1) * max_group] __attribute__((aligned(64)));
  static float sums[2][max_group * dim];
  for (size_t i = 0; i < (most_keys + 1) * dim; i++) keys[i] = numbers(i), values[i] = numbers(i + 5);
  for (size_t i = 0; i < max_group * dim; i++) queries[i] = numbers(i + 11) / 4;
  to_halves(keys, (most_keys + 1) * dim, half_keys);
  to_halves(values, (most_keys + 1) * dim, half_values);
  const Cached cached = {
      .keys = are_halves ? (void *)half_keys : keys,
      .values = are_halves ? (void *)half_values : values,
      .are_halves = are_halves, .count = count, .has_later = has_later,
  };
  Found found[2] = {{.sums = sums[0]}, {.sums = sums[1]}};
  attend_chunk_narrow(queries, heads, &cached, dim, scores[0], found);
  Cached turned = cached;
  if (are_turned) {
    static float room[2][most_keys * dim];
    turn_keys(&cached, count + (size_t)has_later, dim, room[0], room[1]);
    turned = (Cached){.turned = room[0], .values = room[1], .count = count, .has_later = has_later};
  }
  attend_chunk_wide(queries, heads, &turned, dim, scores[1], found + 1);
  const size_t bytes = (size_t)heads * sizeof(float);
  return memcmp(found[0].largest, found[1].largest, bytes) != 0 ||
         memcmp(found[0].weight, found[1].weight, bytes) != 0 ||
         memcmp(sums[0], sums[1], bytes * dim) != 0;
}

static int gate_differs(size_t count) {
  float gate[100], up[100], to[2][100];
  for (size_t i = 0; i < count; i++) gate[i] = numbers(i) * 40, up[i] = numbers(i + 3);
  if (count > 2) gate[1] = NAN, gate[2] = -INFINITY;
  gate_values_narrow(gate, up, to[0], count);
  gate_values_wide(gate, up, to[1], count);
  return memcmp(to[0], to[1], count * sizeof(float)) != 0;
}

int main(void) {
  __builtin_cpu_init();
  if (!can_be_wide()) return 3;
  const size_t counts[] = {1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 31, 32, 33, 63, 510, 511};
  int compared = 0;
  for (int heads = 1; heads <= max_group; heads++) {
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
      for (int kind = 0; kind < 8; kind++, compared++) {
        if (!attention_differs(heads, counts[i], kind & 1, kind >> 1 & 1, kind >> 2)) continue;
        printf("attention of %d heads over %zu keys, kind %d\n", heads, counts[i], kind);
        return 1;
      }
    }
  }
  for (size_t count = 0; count <= 100; count++, compared++) {
    if (!gate_differs(count)) continue;
    printf("gate of %zu numbers\n", count);
    return 1;
  }
  printf("%d\n", compared);
  return 0;
}
