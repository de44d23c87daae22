/* Products of whole numbers: one tile, and a block of rows through one layer. */

#pragma once
#include "values.h"

/* W' of (outputs, inputs), both filled up with zeros to multiples of PANEL. */
typedef struct {
  const int8_t *packed;   /* (outputs / PANEL, inputs / 4, PANEL, 4) */
  const float *scales;    /* of each output */
  const float *bias;
  const int16_t *starts;  /* (groups, outputs, 2): minus the sum of a group's whole numbers, as a + 128 b */
  int64_t outputs, inputs;  /* as they are */
} Weight;

/* What is fetched into the cache while something else is computed: `pace` bytes more for each 4 inputs. Weights come from so far
   away that the first tile of a panel would take several times as long as the others. */
typedef struct {
  const int8_t *at;
  int64_t pace;
} Ahead;

/* A span is as many vectors of outputs as the chip's registers have room for the sums of: 24 of 32, or 12 of 16. */
#define SPAN (LANES == 16 ? 4 : 2)
#define SIXTEEN (16 / LANES)

INLINE Ahead fetch(const int8_t *from, int64_t bytes, int64_t steps) {
  steps *= VECTORS / SPAN;
  return (Ahead){from, (bytes + steps - 1) / steps};
}

#define START(i)                                                                                         \
  const Ints z##i = all_ints(zeros[i] | zeros[i] << 23); /* as pairs: once, and 128 times */            \
  Ints s##i##0 = add_pairs(none, z##i, b0), s##i##1 = vectors > 1 ? add_pairs(none, z##i, b1) : none;    \
  Ints s##i##2 = vectors > 2 ? add_pairs(none, z##i, b2) : none, s##i##3 = vectors > 3 ? add_pairs(none, z##i, b3) : none;
#define ADD(i)                                                     \
  {                                                                \
    Ints a = all_ints(*(const int32_t *)(rows[i] + 4 * k));        \
    s##i##0 = add_fours(s##i##0, a, b0);                           \
    if (vectors > 1) s##i##1 = add_fours(s##i##1, a, b1);          \
    if (vectors > 2) s##i##2 = add_fours(s##i##2, a, b2);          \
    if (vectors > 3) s##i##3 = add_fours(s##i##3, a, b3);          \
  }
#define GIVE(i)                                    \
  sums[i][at] = s##i##0;                           \
  if (vectors > 1) sums[i][at + 1] = s##i##1;      \
  if (vectors > 2) sums[i][at + 2] = s##i##2;      \
  if (vectors > 3) sums[i][at + 3] = s##i##3;

/* ROWS rows by some vectors of a panel, number `at` and on, over 4 `quads` inputs. The sums have names, as a compiler keeps an array
   of them in memory; and it is a function, neither inlined nor fitted to who calls it, as a compiler then does the same. */
INLINE void sums_of(const uint8_t *const rows[ROWS], const int32_t zeros[ROWS], const int8_t *panel, const int16_t *starts, int64_t quads,
                    Ahead *ahead, Ints sums[ROWS][VECTORS], int at, int vectors) {
  const Ints none = all_ints(0);
  const int8_t *far = ahead->at;
  const int64_t pace = ahead->pace, wide = 4 * LANES;
  starts += at * 2 * LANES, panel += at * wide;
  Ints b0 = load_ints(starts), b1 = vectors > 1 ? load_ints(starts + 2 * LANES) : none;
  Ints b2 = vectors > 2 ? load_ints(starts + 4 * LANES) : none, b3 = vectors > 3 ? load_ints(starts + 6 * LANES) : none;
  START(0) START(1) START(2) START(3) START(4) START(5)
  for (int64_t k = 0; k < quads; k++, panel += 4 * PANEL, far += pace) {
    _mm_prefetch(far, _MM_HINT_T1);
    b0 = load_ints(panel);
    if (vectors > 1) b1 = load_ints(panel + wide);
    if (vectors > 2) b2 = load_ints(panel + 2 * wide);
    if (vectors > 3) b3 = load_ints(panel + 3 * wide);
    ADD(0) ADD(1) ADD(2) ADD(3) ADD(4) ADD(5)
  }
  ahead->at = far;
  GIVE(0) GIVE(1) GIVE(2) GIVE(3) GIVE(4) GIVE(5)
}

#define APART static __attribute__((noipa)) CHIP void
APART span(const uint8_t *const rows[ROWS], const int32_t zeros[ROWS], const int8_t *panel, const int16_t *starts, int64_t quads,
           Ahead *ahead, Ints sums[ROWS][VECTORS], int at) {
  sums_of(rows, zeros, panel, starts, quads, ahead, sums, at, SPAN);
}

/* The first sixteen outputs alone. */
APART narrow_tile(const uint8_t *const rows[ROWS], const int32_t zeros[ROWS], const int8_t *panel, const int16_t *starts, int64_t quads,
                  Ahead *ahead, Ints sums[ROWS][VECTORS]) {
  sums_of(rows, zeros, panel, starts, quads, ahead, sums, 0, SIXTEEN);
}

/* ROWS rows by a whole panel. */
INLINE void tile(const uint8_t *const rows[ROWS], const int32_t zeros[ROWS], const int8_t *panel, const int16_t *starts, int64_t quads,
                 Ahead *ahead, Ints sums[ROWS][VECTORS]) {
  for (int at = 0; at < VECTORS; at += SPAN) span(rows, zeros, panel, starts, quads, ahead, sums, at);
}

/* ---- a block of rows through one product */

/* What ROWS rows from `first_row` on give for the panel of outputs that begins at `first`; beyond the last row it stands in for
   those that are missing. */
INLINE void panel_of(const Wholes *x, int64_t first_row, const Weight *w, int64_t first, int has_bias, Ahead *ahead,
                     Floats out[ROWS][VECTORS]) {
  const int64_t inputs = whole_panels(w->inputs), groups = groups_of(w->inputs), outputs = whole_panels(w->outputs);
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < VECTORS; j++) out[i][j] = all(0);
  for (int64_t g = 0; g < groups; g++) {
    const uint8_t *at[ROWS];
    int32_t zeros[ROWS];
    float scales[ROWS];
    Ints sums[ROWS][VECTORS];
    for (int i = 0; i < ROWS; i++) {
      const int64_t row = smaller(first_row + i, x->rows - 1);
      const Range range = x->ranges[row * groups + g];
      at[i] = x->values + row * inputs + g * GROUP;
      zeros[i] = range.zero;
      scales[i] = range.scale;
    }
    const int8_t *panel = w->packed + first * inputs + g * GROUP * PANEL;
    tile(at, zeros, panel, w->starts + 2 * (g * outputs + first), (smaller(GROUP, w->inputs - g * GROUP) + 3) / 4, ahead, sums);
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < VECTORS; j++) out[i][j] = to_floats(sums[i][j]) * all(scales[i]) + out[i][j];
  }
  for (int j = 0; j < VECTORS; j++) {
    Floats scale = load(w->scales + first + j * LANES), bias = has_bias ? load(w->bias + first + j * LANES) : all(0);
    for (int i = 0; i < ROWS; i++) out[i][j] = out[i][j] * scale + bias;
  }
}

/* What is fetched while all rows meet the panel that begins at `first`: the next one, or what comes `then`. */
INLINE Ahead beyond(const Wholes *x, const Weight *w, int64_t first, const int8_t *then) {
  const int64_t bytes = PANEL * whole_panels(w->inputs), next = first / PANEL + 1, tiles = (x->rows + ROWS - 1) / ROWS;
  return fetch(next * PANEL < w->outputs ? w->packed + next * bytes : then, bytes, tiles * ((w->inputs + 3) / 4));
}

/* Rows to activated values of the outputs between `from` and `to`, a row of `out` being `stride` values. `then` are the weights
   that come next. */
INLINE void product(const Wholes *x, const Weight *w, int64_t from, int64_t to, const int8_t *then, enum Activation kind, float *out,
                    int64_t stride) {
  for (int64_t first = from; first < to; first += PANEL) {
    Ahead ahead = beyond(x, w, first, then);
    for (int64_t r = 0; r < x->rows; r += ROWS) {
      Floats values[ROWS][VECTORS];
      panel_of(x, r, w, first, 1, &ahead, values);
      for (int i = 0; i < smaller(ROWS, x->rows - r); i++)
        for (int j = 0; j < VECTORS; j++) {
          const int64_t output = first + j * LANES, left = to - output;
          float *at = out + (r + i) * stride + output - from;
          if (left >= LANES)
            store(at, activate(values[i][j], kind));
          else if (left > 0)
            store_part(at, activate(values[i][j], kind), left);
        }
    }
  }
}

/* Rows to q, k and v of each head, whole numbers from -127 to 127 with a scale each; a head is a panel wide. The bias of keys
   is left out: it adds the same to all scores of a query, which softmax does not see, and takes room of the range. */
INLINE void split(const Wholes *x, const Weight *w, int8_t *out, float *out_scales, int64_t scales_stride) {
  const int64_t panels = w->outputs / PANEL;
  for (int64_t p = 0; p < panels; p++) {
    Ahead ahead = beyond(x, w, p * PANEL, w->packed);
    for (int64_t r = 0; r < x->rows; r += ROWS) {
      Floats values[ROWS][VECTORS];
      panel_of(x, r, w, p * PANEL, p * 3 / panels != 1, &ahead, values);
      for (int i = 0; i < smaller(ROWS, x->rows - r); i++) {
        Ints most = all_ints(0); /* bits of the largest without its sign; of what is no number, if there is such */
        for (int j = 0; j < VECTORS; j++) most = larger_ints(most, bits(absolute(values[i][j])));
        union { int32_t bits; float value; } largest = {highest_int(most)};
        const float scale = largest.value / 127 < TINY ? TINY : largest.value / 127, per = 1 / scale;
        int8_t *to = out + (r + i) * w->outputs + p * PANEL;
        for (int j = 0; j < VECTORS; j++) store_signed_bytes(to + j * LANES, to_ints(values[i][j] * all(per)));
        out_scales[p * scales_stride + r + i] = scale;
      }
    }
  }
}
