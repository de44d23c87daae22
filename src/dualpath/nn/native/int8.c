/* Layers in int8 as whole passes: what lies between two products never leaves the processor's cache.

     linear      x --whole numbers--> product --scales, bias--> out
     mlp         x --whole numbers--> product --scales, bias, activation--> whole numbers --> product --> out
     attention   x --whole numbers--> product --> q, k, v in whole numbers
                 q k' --scales--> softmax --times the scales of v--> whole numbers --> times v --> out

   Tokens become whole numbers from 0 to 255, of which one stands for zero: the range of each GROUP of a token's values, found
   when it comes, so that a few large channels spoil few others and a range that lies on one side is used as well as any.
   Weights lie ready, from -127 to 127 with a scale for each output. The chip's instruction (VNNI) multiplies four bytes
   without a sign by four with one and sums up in 32 bits; what the zeros add is taken off where a sum starts.
   native/__init__.py calls this; tests/oracles/int8.py says the same number by number.

   values.h, product.h and attention.h have the parts. */

#include "attention.h"

/* linear_16, linear_8 ... */
#define JOIN(name, lanes) name##_##lanes
#define WITH(name, lanes) JOIN(name, lanes)
#define NAME(name) WITH(name, LANES)

/* All take rows of fp32 without gaps and share them among `threads` of torch's own threads. */

/* x (rows, inputs) to out (rows, outputs). */
CHIP void NAME(linear)(const float *x, int64_t rows, const Weight *w, float *out, int64_t threads) {
  const int64_t block = share(rows, threads);
#pragma omp parallel for num_threads((int)threads) schedule(dynamic)
  for (int64_t first = 0; first < rows; first += block) {
    const Wholes wholes = wholes_at(room(wholes_size(w->inputs)), smaller(block, rows - first), w->inputs);
    make_whole(x + first * w->inputs, &wholes);
    product(&wholes, w, 0, w->outputs, w->packed, NONE, out + first * w->outputs, w->outputs);
  }
}

/* x (rows, inputs) through two layers to out (rows, outputs of the second). */
CHIP void NAME(mlp)(const float *x, int64_t rows, const Weight *enter, const Weight *leave, int64_t kind, float *out, int64_t threads) {
  const int64_t block = share(rows, threads), width = enter->outputs;
#pragma omp parallel for num_threads((int)threads) schedule(dynamic)
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t count = smaller(block, rows - first);
    const size_t of_values = BLOCK * GROUP * sizeof(float), of_wholes = wholes_size(enter->inputs);
    char *at = room(of_values + of_wholes + wholes_size(width));
    float *values = (float *)at; /* no more than a group's are ever there */
    const Wholes wholes = wholes_at(at + of_values, count, enter->inputs), inner = wholes_at(at + of_values + of_wholes, count, width);
    make_whole(x + first * enter->inputs, &wholes);
    for (int64_t g = 0; g < groups_of(width); g++) {
      product(&wholes, enter, g * GROUP, smaller((g + 1) * GROUP, width), leave->packed, (enum Activation)kind, values, GROUP);
      make_group(values, GROUP, g, &inner);
    }
    product(&inner, leave, 0, leave->outputs, enter->packed, NONE, out + first * leave->outputs, leave->outputs);
  }
}

/* x (pictures, tokens, inputs) to what its tokens find in each other, `found` (pictures, tokens, heads, PANEL); on the way
   q, k and v (pictures, tokens, 3, heads, PANEL) and their scales (3, heads, pictures, tokens). */
CHIP void NAME(attention)(const float *x, int64_t pictures, int64_t tokens, int64_t heads, float scale, const Weight *qkv, int8_t *wholes,
                    float *scales, float *found, int64_t threads) {
  const int64_t rows = pictures * tokens, width = heads * PANEL, block = share(rows, threads);
#pragma omp parallel for num_threads((int)threads) schedule(dynamic)
  for (int64_t first = 0; first < rows; first += block) {
    const Wholes of_x = wholes_at(room(wholes_size(qkv->inputs)), smaller(block, rows - first), qkv->inputs);
    make_whole(x + first * qkv->inputs, &of_x);
    split(&of_x, qkv, wholes + first * 3 * width, scales + first, rows);
  }
#pragma omp parallel for num_threads((int)threads) schedule(dynamic)
  for (int64_t task = 0; task < pictures * heads; task++) {
    int64_t picture = task / heads, h = task % heads, first = picture * tokens;
    const int8_t *q = wholes + first * 3 * width + h * PANEL;
    const float *of_q = scales + h * rows + first;
    head(q, q + width, q + 2 * width, 3 * width, of_q, of_q + heads * rows, of_q + 2 * heads * rows, tokens, scale,
         found + first * width + h * PANEL, width);
  }
}

/* `times` products of whole numbers (rows, inputs) by packed ones, sums alone: what the chip can do. All is filled up. */
CHIP void NAME(products)(const uint8_t *x, int64_t rows, const int8_t *packed, int64_t inputs, int64_t outputs, int64_t times, int32_t *out,
                   int64_t threads) {
  const int64_t block = share(rows, 1), blocks = (rows + block - 1) / block;
  const int16_t nothing[2 * PANEL] = {0};
#pragma omp parallel for num_threads((int)threads) schedule(dynamic)
  for (int64_t task = 0; task < times * blocks; task++) {
    const int64_t t = task / blocks, first = task % blocks * block, last = smaller(first + block, rows);
    for (int64_t p = 0; p < outputs; p += PANEL) {
      const int8_t *panel = packed + (t * outputs + p) * inputs;
      Ahead ahead = fetch(panel + PANEL * inputs, PANEL * inputs, (last - first + ROWS - 1) / ROWS * inputs / 4);
      for (int64_t r = first; r < last; r += ROWS) {
        const uint8_t *at[ROWS];
        Ints sums[ROWS][VECTORS];
        for (int i = 0; i < ROWS; i++) at[i] = x + (t * rows + smaller(r + i, rows - 1)) * inputs;
        tile(at, (int32_t[ROWS]){0}, panel, nothing, inputs / 4, &ahead, sums);
        for (int i = 0; i < smaller(ROWS, last - r); i++)
          for (int j = 0; j < VECTORS; j++) store_ints(out + (t * rows + r + i) * outputs + p + j * LANES, sums[i][j]);
      }
    }
  }
}

#ifndef SOURCE
#define SOURCE ""
#endif
/* sha256 of the files that this was made from. */
const char *NAME(source)(void) { return SOURCE; }
