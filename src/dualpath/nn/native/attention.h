/* Attention of one head, from whole queries, keys and values on. */

#pragma once
#include "product.h"

/* 16 bytes of each of 4 tokens, zero for those that are not there. */
INLINE void load_four(const int8_t *from, int64_t stride, int64_t left, __m128i r[4]) {
  for (int i = 0; i < 4; i++) r[i] = i < left ? _mm_loadu_si128((const __m128i *)(from + i * stride)) : _mm_setzero_si128();
}

/* 4 keys to where a panel has them: fours of channels, of one key after the other. */
INLINE void pack_keys(const int8_t *from, int64_t stride, int64_t left, int8_t *to) {
  for (int c = 0; c < PANEL; c += 16) {
    __m128i r[4];
    load_four(from + c, stride, left, r);
    __m128i a = _mm_unpacklo_epi32(r[0], r[1]), b = _mm_unpackhi_epi32(r[0], r[1]);
    __m128i d = _mm_unpacklo_epi32(r[2], r[3]), e = _mm_unpackhi_epi32(r[2], r[3]);
    __m128i *four = (__m128i *)(to + c * PANEL);
    const int next = 4 * PANEL / 16;
    _mm_storeu_si128(four, _mm_unpacklo_epi64(a, d));
    _mm_storeu_si128(four + next, _mm_unpackhi_epi64(a, d));
    _mm_storeu_si128(four + 2 * next, _mm_unpacklo_epi64(b, e));
    _mm_storeu_si128(four + 3 * next, _mm_unpackhi_epi64(b, e));
  }
}

/* Values of 4 tokens side by side: a row of the panel that the weights are multiplied by. */
INLINE void pack_values(const int8_t *from, int64_t stride, int64_t left, int8_t *to) {
  for (int c = 0; c < PANEL; c += 16) {
    __m128i r[4];
    load_four(from + c, stride, left, r);
    __m128i a = _mm_unpacklo_epi8(r[0], r[1]), b = _mm_unpackhi_epi8(r[0], r[1]);
    __m128i d = _mm_unpacklo_epi8(r[2], r[3]), e = _mm_unpackhi_epi8(r[2], r[3]);
    __m128i *four = (__m128i *)(to + 4 * c);
    _mm_storeu_si128(four, _mm_unpacklo_epi16(a, d));
    _mm_storeu_si128(four + 1, _mm_unpackhi_epi16(a, d));
    _mm_storeu_si128(four + 2, _mm_unpacklo_epi16(b, e));
    _mm_storeu_si128(four + 3, _mm_unpackhi_epi16(b, e));
  }
}

/* Scores of 6 queries and up to 64 keys, into `scores`; the largest of each query goes into `top`. */
INLINE void score(const uint8_t *const rows[ROWS], const float *of_queries, const int8_t *keys, const int16_t *starts,
                  const float *of_keys, int64_t left, int vectors, float *scores, int64_t stride, Floats top[ROWS]) {
  static const int32_t middles[ROWS] = {MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE};
  Ints sums[ROWS][VECTORS];
  Ahead ahead = {keys, 0};
  if (vectors == VECTORS)
    tile(rows, middles, keys, starts, PANEL / 4, &ahead, sums);
  else
    narrow_tile(rows, middles, keys, starts, PANEL / 4, &ahead, sums);
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < vectors; j++) {
      Floats x = to_floats(sums[i][j]) * all(of_queries[i]) * load(of_keys + j * LANES);
      top[i] = keep(larger_of(top[i], x), left - j * LANES, top[i]);
      store(scores + i * stride + j * LANES, x);
    }
}

/* A row of scores to weights of 8 bits, times the scales of the values; what a sum over whole values is to be taken times. */
INLINE float soften(float *scores, float top, const float *of_values, int64_t tokens, uint8_t *weights) {
  Floats sum = all(0), most = all(0);
  for (int64_t j = 0; j < tokens; j += LANES) {
    Floats e = exponential(load(scores + j) - all(top));
    if (tokens - j < LANES) e = keep(e, tokens - j, all(0));
    sum += e;
    e *= load(of_values + j);
    most = larger_of(most, e);
    store(scores + j, e);
  }
  const float largest = highest(most), per = 255 / largest;
  for (int64_t j = 0; j < tokens; j += LANES) store_bytes(weights + j, to_ints(load(scores + j) * all(per)));
  return largest / 255 / sum_of(sum);
}

/* What is found by the tokens of a picture in one head. q, k and v are `stride` bytes a token; out is (tokens, PANEL) of rows
   `out_stride` long. */
INLINE void head(const int8_t *q, const int8_t *k, const int8_t *v, int64_t stride, const float *of_q, const float *of_k,
                 const float *of_v, int64_t tokens, float scale, float *out, int64_t out_stride) {
  const int64_t filled = whole_panels(tokens);
  char *bytes = room(filled * (2 * PANEL + 3 * 4 + ROWS * 5));
  int8_t *keys = (int8_t *)bytes, *values = keys + filled * PANEL;
  int16_t *starts = (int16_t *)(values + filled * PANEL);
  float *of_keys = (float *)(starts + 2 * filled), *of_values = of_keys + filled, *scores = of_values + filled;
  uint8_t *weights = (uint8_t *)(scores + ROWS * filled);
  const int16_t nothing[2 * PANEL] = {0};

  for (int64_t t = 0; t < filled; t += 4) {
    pack_keys(k + t * stride, stride, tokens - t, keys + t / PANEL * PANEL * PANEL + t % PANEL * 4);
    pack_values(v + t * stride, stride, tokens - t, values + t * PANEL);
  }
  for (int64_t t = 0; t < filled; t += LANES) {
    const int8_t *panel = keys + t / PANEL * PANEL * PANEL + t % PANEL * 4;
    Ints sum = all_ints(0);
    for (int i = 0; i < PANEL / 4; i++) sum = add_fours(sum, all_ints(0x01010101), load_ints(panel + i * 4 * PANEL));
    store_ints(starts + 2 * t, both_bits(subtract_ints(all_ints(0), sum), all_ints(0xffff)));
  }
  for (int64_t t = 0; t < filled; t++) {
    of_keys[t] = t < tokens ? of_k[t] : 0;
    of_values[t] = t < tokens ? of_v[t] : 0;
  }

  for (int64_t r = 0; r < tokens; r += ROWS) {
    uint8_t queries[ROWS][PANEL];
    const uint8_t *at[ROWS];
    float of_queries[ROWS];
    Floats top[ROWS];
    for (int i = 0; i < ROWS; i++) {
      int64_t row = smaller(r + i, tokens - 1);
      for (int c = 0; c < PANEL; c += 4 * LANES) /* from -127 .. 127 to 1 .. 255 */
        store_ints(queries[i] + c, other_bits(load_ints(q + row * stride + c), all_ints((int32_t)0x80808080)));
      at[i] = queries[i];
      of_queries[i] = of_q[row] * scale;
      top[i] = all(-3e38f);
    }
    int64_t t = 0;
    for (; tokens - t > PANEL - 16; t += PANEL)
      score(at, of_queries, keys + t * PANEL, starts + 2 * t, of_keys + t, tokens - t, VECTORS, scores + t, filled, top);
    for (; t < tokens; t += 16) /* what is left over is too little for a panel */
      score(at, of_queries, keys + t / PANEL * PANEL * PANEL + t % PANEL * 4, starts + 2 * t, of_keys + t, tokens - t, SIXTEEN, scores + t, filled, top);
    float factors[ROWS];
    for (int i = 0; i < ROWS; i++) {
      factors[i] = soften(scores + i * filled, highest(top[i]), of_values, tokens, weights + i * filled);
      at[i] = weights + i * filled;
    }
    Ints sums[ROWS][VECTORS];
    Ahead ahead = {values, 0};
    tile(at, (int32_t[ROWS]){0}, values, nothing, (tokens + 3) / 4, &ahead, sums);
    for (int i = 0; i < smaller(ROWS, tokens - r); i++)
      for (int j = 0; j < VECTORS; j++) store(out + (r + i) * out_stride + j * LANES, to_floats(sums[i][j]) * all(factors[i]));
  }
}
