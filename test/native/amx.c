// Whether AMX's products are AVX2's to the last bit, for all blocks and rows: by its instructions, or by a model
// of what they do. Prints that; by the model also the same without the tiles' shapes, which must not agree.
// Ends with 3 where AMX cannot run.

#include <stdio.h>

#include "../../server/native/product.c"

static int never(void) { return 0; }
const Tiles tiles_vnni = {.name = "none", .can_run = never};

/** The same of so many rows that the last group goes through the columns alone. */
static int agree_on_many(const Tiles *one, const Tiles *other) {
  enum { inner = 4864, outer = 48, most = 240, block = 128, blocks = inner / block };
  static uint8_t data[outer * inner + 4096];
  static float scales[outer * blocks + 1024], x[most * inner], y[2][most * outer];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 2654435761u >> 13);
  for (size_t i = 0; i < outer * blocks; i++) scales[i] = 0.01f + (float)(i % 7) / 100;
  for (size_t i = 0; i < most * inner; i++) x[i] = (float)(i * 37 % 101) - 50;
  int same = 1;
  for (int bits = 4; bits <= 8; bits += 4) {
    const Matrix w = {.bits = bits, .block = block, .inner = inner, .outer = outer,
                      .blocks = blocks, .data = data, .scales = scales};
    const size_t portion = one->portion_bytes / (2 * GROUP_ROWS * inner) * 2 + 2;
    const size_t rows = portion * GROUP_ROWS + 3;
    if (rows > most) return 0;
    RoundedRows *const groups = round_some(&w, x, rows);
    multiply_by(one, &w, groups, count_groups(rows), 0, outer, (Place){y[0], outer});
    multiply_by(other, &w, groups, count_groups(rows), 0, outer, (Place){y[1], outer});
    same = same && memcmp(y[0], y[1], rows * outer * sizeof(float)) == 0;
    free(groups);
  }
  return same;
}

int main(void) {
  if (!tiles_amx.can_run()) return 3;
  Tiles all = tiles_amx;
  all.lone = NULL;
  printf("%d", agree(&tiles_avx2, &all) && agree_on_many(&tiles_amx, &tiles_avx2));
#ifdef AMX_MODEL
  all.begin = NULL;
  printf(" %d", agree(&tiles_avx2, &all));
#endif
  printf("\n");
  return 0;
}
