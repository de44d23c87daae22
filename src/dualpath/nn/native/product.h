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

INLINE Ahead fetch(const int8_t *from, int64_t bytes, int64_t steps) { return (Ahead){from, (bytes + steps - 1) / steps}; }

/* A tile is ROWS rows by PANEL outputs: its sums fill 24 of the 32 registers. */
#define START(i)                                                                                              \
  const __m512i z##i = _mm512_set1_epi32(zeros[i] | zeros[i] << 23); /* as pairs: once, and 128 times */     \
  __m512i s##i##0 = _mm512_dpwssd_epi32(none, z##i, b0), s##i##1 = _mm512_dpwssd_epi32(none, z##i, b1);       \
  __m512i s##i##2 = _mm512_dpwssd_epi32(none, z##i, b2), s##i##3 = _mm512_dpwssd_epi32(none, z##i, b3);
#define ADD(i)                                                              \
  {                                                                         \
    __m512i a = _mm512_set1_epi32(*(const int32_t *)(rows[i] + 4 * k));     \
    s##i##0 = _mm512_dpbusd_epi32(s##i##0, a, b0);                          \
    if (vectors > 1) s##i##1 = _mm512_dpbusd_epi32(s##i##1, a, b1);         \
    if (vectors > 2) s##i##2 = _mm512_dpbusd_epi32(s##i##2, a, b2);         \
    if (vectors > 3) s##i##3 = _mm512_dpbusd_epi32(s##i##3, a, b3);         \
  }
#define GIVE(i) sums[i][0] = s##i##0, sums[i][1] = s##i##1, sums[i][2] = s##i##2, sums[i][3] = s##i##3;

/* ROWS rows by the first `vectors` sixteens of a panel, over 4 `quads` inputs. The sums have names, as a compiler keeps an
   array of them in memory; and it is a function, neither inlined nor fitted to who calls it, as a compiler then does the same. */
INLINE void tile_of(const uint8_t *const rows[ROWS], const int32_t zeros[ROWS], const int8_t *panel, const int16_t *starts,
                    int64_t quads, int vectors, Ahead *ahead, __m512i sums[ROWS][VECTORS]) {
  const __m512i none = _mm512_setzero_si512();
  const int8_t *far = ahead->at;
  const int64_t pace = ahead->pace;
  __m512i b0 = _mm512_loadu_si512(starts), b1 = _mm512_loadu_si512(starts + 32);
  __m512i b2 = _mm512_loadu_si512(starts + 64), b3 = _mm512_loadu_si512(starts + 96);
  START(0) START(1) START(2) START(3) START(4) START(5)
  for (int64_t k = 0; k < quads; k++, panel += 4 * PANEL, far += pace) {
    _mm_prefetch(far, _MM_HINT_T1);
    b0 = _mm512_loadu_si512(panel);
    if (vectors > 1) b1 = _mm512_loadu_si512(panel + 64);
    if (vectors > 2) b2 = _mm512_loadu_si512(panel + 128);
    if (vectors > 3) b3 = _mm512_loadu_si512(panel + 192);
    ADD(0) ADD(1) ADD(2) ADD(3) ADD(4) ADD(5)
  }
  ahead->at = far;
  GIVE(0) GIVE(1) GIVE(2) GIVE(3) GIVE(4) GIVE(5)
}

#define TILE static __attribute__((noipa)) CHIP void
TILE tile(const uint8_t *const rows[ROWS], const int32_t zeros[ROWS], const int8_t *panel, const int16_t *starts, int64_t quads,
          Ahead *ahead, __m512i sums[ROWS][VECTORS]) {
  tile_of(rows, zeros, panel, starts, quads, VECTORS, ahead, sums);
}
TILE narrow_tile(const uint8_t *const rows[ROWS], const int32_t zeros[ROWS], const int8_t *panel, const int16_t *starts, int64_t quads,
                 Ahead *ahead, __m512i sums[ROWS][VECTORS]) {
  tile_of(rows, zeros, panel, starts, quads, 1, ahead, sums);
}

/* ---- a block of rows through one product */

/* What ROWS whole rows (their stride is that of the inputs filled up) give for a panel of outputs that begins at `first`;
   beyond the last row it stands in for those that are missing. */
INLINE void panel_of(const uint8_t *x, const Range *ranges, int64_t left, const Weight *w, int64_t first, int has_bias,
                     Ahead *ahead, __m512 out[ROWS][VECTORS]) {
  const int64_t inputs = whole_panels(w->inputs), groups = groups_of(w->inputs), outputs = whole_panels(w->outputs);
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < VECTORS; j++) out[i][j] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; g++) {
    const uint8_t *at[ROWS];
    int32_t zeros[ROWS];
    float scales[ROWS];
    __m512i sums[ROWS][VECTORS];
    for (int i = 0; i < ROWS; i++) {
      int64_t row = smaller(i, left - 1);
      at[i] = x + row * inputs + g * GROUP;
      zeros[i] = ranges[row * groups + g].zero;
      scales[i] = ranges[row * groups + g].scale;
    }
    const int8_t *panel = w->packed + first * inputs + g * GROUP * PANEL;
    tile(at, zeros, panel, w->starts + 2 * (g * outputs + first), (smaller(GROUP, w->inputs - g * GROUP) + 3) / 4, ahead, sums);
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < VECTORS; j++)
        out[i][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i][j]), _mm512_set1_ps(scales[i]), out[i][j]);
  }
  for (int j = 0; j < VECTORS; j++) {
    __m512 scale = _mm512_loadu_ps(w->scales + first + j * LANES);
    __m512 bias = has_bias ? _mm512_loadu_ps(w->bias + first + j * LANES) : _mm512_setzero_ps();
    for (int i = 0; i < ROWS; i++) out[i][j] = _mm512_fmadd_ps(out[i][j], scale, bias);
  }
}

/* What is fetched while `rows` rows meet the panel that begins at `first`: the next one, or what comes `then`. */
INLINE Ahead beyond(const Weight *w, int64_t first, int64_t rows, const int8_t *then) {
  const int64_t inputs = whole_panels(w->inputs), next = first + PANEL;
  return fetch(next < w->outputs ? w->packed + next * inputs : then, PANEL * inputs, (rows + ROWS - 1) / ROWS * ((w->inputs + 3) / 4));
}

/* Whole rows to activated values of the outputs between `from` and `to`, a row of `out` being `stride` values; with `filled` all of
   each panel is written. `then` are the weights that come next. */
INLINE void product(const uint8_t *x, const Range *ranges, int64_t rows, const Weight *w, int64_t from, int64_t to, const int8_t *then,
                    enum Activation kind, float *out, int64_t stride, int filled) {
  const int64_t inputs = whole_panels(w->inputs), groups = groups_of(w->inputs);
  for (int64_t first = from; first < to; first += PANEL) {
    Ahead ahead = beyond(w, first, rows, then);
    for (int64_t r = 0; r < rows; r += ROWS) {
      __m512 values[ROWS][VECTORS];
      panel_of(x + r * inputs, ranges + r * groups, rows - r, w, first, 1, &ahead, values);
      for (int i = 0; i < smaller(ROWS, rows - r); i++)
        for (int j = 0; j < VECTORS; j++) {
          int64_t output = first + j * LANES;
          __mmask16 there = filled ? 0xffff : lanes(to - output);
          if (there) _mm512_mask_storeu_ps(out + (r + i) * stride + output - from, there, activate(values[i][j], kind));
        }
    }
  }
}

/* Rows to q, k and v of each head, whole numbers from -127 to 127 with a scale each; a head is a panel wide. The bias of keys
   is left out: it adds the same to all scores of a query, which softmax does not see, and takes room of the range. */
INLINE void split(const uint8_t *x, const Range *ranges, int64_t rows, const Weight *w, int8_t *out, float *out_scales,
                  int64_t scales_stride) {
  const int64_t inputs = whole_panels(w->inputs), groups = groups_of(w->inputs), panels = w->outputs / PANEL;
  for (int64_t p = 0; p < panels; p++) {
    Ahead ahead = beyond(w, p * PANEL, rows, w->packed);
    for (int64_t r = 0; r < rows; r += ROWS) {
      __m512 values[ROWS][VECTORS];
      panel_of(x + r * inputs, ranges + r * groups, rows - r, w, p * PANEL, p * 3 / panels != 1, &ahead, values);
      for (int i = 0; i < smaller(ROWS, rows - r); i++) {
        __m512i most = _mm512_setzero_si512(); /* bits of the largest without its sign; of what is no number, if there is such */
        for (int j = 0; j < VECTORS; j++) most = _mm512_max_epi32(most, _mm512_castps_si512(_mm512_abs_ps(values[i][j])));
        float scale = _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32(_mm512_reduce_max_epi32(most)))) / 127.0f;
        scale = scale < TINY ? TINY : scale;
        int8_t *to = out + (r + i) * w->outputs + p * PANEL;
        for (int j = 0; j < VECTORS; j++) {
          __m512i wide = _mm512_cvtps_epi32(_mm512_mul_ps(values[i][j], _mm512_set1_ps(1.0f / scale)));
          _mm_storeu_si128((__m128i *)(to + j * LANES), _mm512_cvtepi32_epi8(wide));
        }
        out_scales[p * scales_stride + r + i] = scale;
      }
    }
  }
}
