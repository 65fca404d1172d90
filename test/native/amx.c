// Whether AMX's products are AVX2's to the last bit, for all blocks and rows: by its instructions, or by a model
// of what they do. Prints that; by the model also the same without the tiles' shapes, which must not agree.
// Ends with 3 where AMX cannot run.

#include <stdio.h>

#include "../../server/native/product.c"

static int never(void) { return 0; }
const Tiles tiles_vnni = {.name = "none", .can_run = never};

int main(void) {
  if (!tiles_amx.can_run()) return 3;
  Tiles all = tiles_amx;
  all.lone = NULL;
  printf("%d", agree(&tiles_avx2, &all));
#ifdef AMX_MODEL
  all.begin = NULL;
  printf(" %d", agree(&tiles_avx2, &all));
#endif
  printf("\n");
  return 0;
}
