/* Attention of one head, from whole queries, keys and values on. */

#pragma once
#include "product.h"

/* 16 keys of a head, each 16 times 4 bytes, to a sixteen of a panel. */
INLINE void pack_keys(const int8_t *from, int64_t stride, int64_t left, int8_t *to) {
  __m512i r[16], t[16];
  for (int i = 0; i < 16; i++) r[i] = i < left ? _mm512_loadu_si512(from + i * stride) : _mm512_setzero_si512();
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int j = 0; j < 4; j++) { /* the quarters of r[4 g + j] are the fours number j, 4 + j, 8 + j, 12 + j of keys 4 g .. 4 g + 3 */
    __m512i a = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88), b = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    __m512i c = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88), d = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
    _mm512_storeu_si512(to + j * 4 * PANEL, _mm512_shuffle_i32x4(a, c, 0x88));
    _mm512_storeu_si512(to + (4 + j) * 4 * PANEL, _mm512_shuffle_i32x4(b, d, 0x88));
    _mm512_storeu_si512(to + (8 + j) * 4 * PANEL, _mm512_shuffle_i32x4(a, c, 0xdd));
    _mm512_storeu_si512(to + (12 + j) * 4 * PANEL, _mm512_shuffle_i32x4(b, d, 0xdd));
  }
}

/* Values of 4 tokens side by side: a row of the panel that the weights are multiplied by. */
INLINE void pack_values(const int8_t *from, int64_t stride, int64_t left, int8_t *to) {
  __m512i r[4];
  for (int i = 0; i < 4; i++) r[i] = i < left ? _mm512_loadu_si512(from + i * stride) : _mm512_setzero_si512();
  __m512i a = _mm512_unpacklo_epi8(r[0], r[1]), b = _mm512_unpackhi_epi8(r[0], r[1]);
  __m512i c = _mm512_unpacklo_epi8(r[2], r[3]), d = _mm512_unpackhi_epi8(r[2], r[3]);
  __m512i e = _mm512_unpacklo_epi16(a, c), f = _mm512_unpackhi_epi16(a, c);
  __m512i g = _mm512_unpacklo_epi16(b, d), h = _mm512_unpackhi_epi16(b, d);
  __m512i ef = _mm512_shuffle_i32x4(e, f, 0x44), gh = _mm512_shuffle_i32x4(g, h, 0x44);
  _mm512_storeu_si512(to, _mm512_shuffle_i32x4(ef, gh, 0x88));
  _mm512_storeu_si512(to + 64, _mm512_shuffle_i32x4(ef, gh, 0xdd));
  ef = _mm512_shuffle_i32x4(e, f, 0xee), gh = _mm512_shuffle_i32x4(g, h, 0xee);
  _mm512_storeu_si512(to + 128, _mm512_shuffle_i32x4(ef, gh, 0x88));
  _mm512_storeu_si512(to + 192, _mm512_shuffle_i32x4(ef, gh, 0xdd));
}

/* Scores of 6 queries and up to 64 keys, into `scores`; the largest of each query goes into `top`. */
INLINE void score(const uint8_t *const rows[ROWS], const float *of_queries, const int8_t *keys, const int16_t *starts,
                  const float *of_keys, int64_t left, int vectors, float *scores, int64_t stride, __m512 top[ROWS]) {
  static const int32_t middles[ROWS] = {MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE};
  __m512i sums[ROWS][VECTORS];
  Ahead ahead = {keys, 0};
  (vectors == 1 ? narrow_tile : tile)(rows, middles, keys, starts, PANEL / 4, &ahead, sums);
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < vectors; j++) {
      __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i][j]), _mm512_set1_ps(of_queries[i]));
      x = _mm512_mul_ps(x, _mm512_loadu_ps(of_keys + j * LANES));
      top[i] = _mm512_mask_max_ps(top[i], lanes(left - j * LANES), top[i], x);
      _mm512_storeu_ps(scores + i * stride + j * LANES, x);
    }
}

/* A row of scores to weights of 8 bits, times the scales of the values; what a sum over whole values is to be taken times. */
INLINE float soften(float *scores, float top, const float *of_values, int64_t tokens, uint8_t *weights) {
  __m512 sum = _mm512_setzero_ps(), most = _mm512_setzero_ps();
  for (int64_t j = 0; j < tokens; j += LANES) {
    __m512 e = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + j), _mm512_set1_ps(top)));
    e = _mm512_maskz_mov_ps(lanes(tokens - j), e);
    sum = _mm512_add_ps(sum, e);
    e = _mm512_mul_ps(e, _mm512_loadu_ps(of_values + j));
    most = _mm512_max_ps(most, e);
    _mm512_storeu_ps(scores + j, e);
  }
  float largest = _mm512_reduce_max_ps(most);
  for (int64_t j = 0; j < tokens; j += LANES) {
    __m512i wide = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(scores + j), _mm512_set1_ps(255.0f / largest)));
    _mm_storeu_si128((__m128i *)(weights + j), _mm512_cvtusepi32_epi8(wide));
  }
  return largest / 255.0f / _mm512_reduce_add_ps(sum);
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
  const __m512i middle = _mm512_set1_epi8((char)MIDDLE), low = _mm512_set1_epi32(0xffff);

  for (int64_t t = 0; t < filled; t += LANES) {
    int8_t *to = keys + t / PANEL * PANEL * PANEL + t % PANEL * 4;
    pack_keys(k + t * stride, stride, tokens - t, to);
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < PANEL / 4; i++) sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_loadu_si512(to + i * 4 * PANEL));
    _mm512_storeu_si512(starts + 2 * t, _mm512_and_si512(_mm512_sub_epi32(_mm512_setzero_si512(), sum), low));
  }
  for (int64_t t = 0; t < filled; t += 4) pack_values(v + t * stride, stride, tokens - t, values + t * PANEL);
  for (int64_t t = 0; t < filled; t++) {
    of_keys[t] = t < tokens ? of_k[t] : 0;
    of_values[t] = t < tokens ? of_v[t] : 0;
  }

  for (int64_t r = 0; r < tokens; r += ROWS) {
    uint8_t queries[ROWS][PANEL];
    const uint8_t *at[ROWS];
    float of_queries[ROWS];
    __m512 top[ROWS];
    for (int i = 0; i < ROWS; i++) {
      int64_t row = smaller(r + i, tokens - 1);
      _mm512_storeu_si512(queries[i], _mm512_xor_si512(_mm512_loadu_si512(q + row * stride), middle));
      at[i] = queries[i];
      of_queries[i] = of_q[row] * scale;
      top[i] = _mm512_set1_ps(-3e38f);
    }
    int64_t t = 0;
    for (; tokens - t > PANEL - LANES; t += PANEL)
      score(at, of_queries, keys + t * PANEL, starts + 2 * t, of_keys + t, tokens - t, VECTORS, scores + t, filled, top);
    for (; t < tokens; t += LANES) /* what is left over is too little for a panel */
      score(at, of_queries, keys + t / PANEL * PANEL * PANEL + t % PANEL * 4, starts + 2 * t, of_keys + t, tokens - t, 1, scores + t, filled, top);
    float factors[ROWS];
    for (int i = 0; i < ROWS; i++) {
      factors[i] = soften(scores + i * filled, _mm512_reduce_max_ps(top[i]), of_values, tokens, weights + i * filled);
      at[i] = weights + i * filled;
    }
    __m512i sums[ROWS][VECTORS];
    Ahead ahead = {values, 0};
    tile(at, (int32_t[ROWS]){0}, values, nothing, (tokens + 3) / 4, &ahead, sums);
    for (int i = 0; i < smaller(ROWS, tokens - r); i++)
      for (int j = 0; j < VECTORS; j++)
        _mm512_storeu_ps(out + (r + i) * out_stride + j * LANES, _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i][j]), _mm512_set1_ps(factors[i])));
  }
}
