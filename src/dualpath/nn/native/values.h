/* Values, 16 at a time: what is done to them between products, and how they become whole numbers. */

#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>

#define ROWS 6
#define PANEL 64
#define GROUP 768 /* values of a token that share a range */
#define LANES 16
#define VECTORS (PANEL / LANES)
#define CHAINS 4 /* sums of one loop that do not wait for each other */
#define BLOCK 132 /* the most rows that a core takes at a time: what it makes of them fits its cache */
#define MIDDLE 128
#define TINY 1.17549435e-38f
#define CHIP __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) CHIP

enum Activation { NONE, SILU, GELU, GELU_TANH };

INLINE int64_t whole_panels(int64_t n) { return (n + PANEL - 1) / PANEL * PANEL; }
INLINE int64_t groups_of(int64_t n) { return (n + GROUP - 1) / GROUP; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* How many rows a core takes at a time, at most BLOCK, so that all get as many. */
static int64_t share(int64_t rows, int64_t threads) {
  int64_t each = (rows + threads - 1) / threads, turns = (each + BLOCK - 1) / BLOCK;
  return turns ? ((each + turns - 1) / turns + ROWS - 1) / ROWS * ROWS : ROWS;
}

/* The lanes of 16 that hold one of `left` values. */
INLINE __mmask16 lanes(int64_t left) { return left >= LANES ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1); }

/* Room of a thread's own, kept from call to call: the system clears fresh pages, which would take longer than a layer. */
static void *room(size_t bytes) {
  static __thread void *kept;
  static __thread size_t size;
  if (bytes > size) {
    free(kept);
    size = (bytes + 4095) / 4096 * 4096;
    kept = aligned_alloc(64, size);
    if (!kept) abort();
  }
  return kept;
}

/* ---- functions of 16 values at once; what is no number stays none */

/* e^x as a power of two, its fraction by a polynomial, to 1e-7 of it; e^-41 for all that is less, as numbers too small to be
   written in full would cost the chip a hundred times as long. */
INLINE __m512 exponential(__m512 x) {
  x = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  x = _mm512_min_ps(_mm512_set1_ps(127.0f), _mm512_max_ps(_mm512_set1_ps(-60.0f), x));
  __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(1.32779393e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.67575796e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.55070974e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.240221143f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693146944f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.00000012f));
  return _mm512_scalef_ps(p, n);
}

/* 1 / x: a guess of 14 bits and a step of Newton's, a quarter of the time of a division. */
INLINE __m512 inverse(__m512 x) {
  __m512 guess = _mm512_rcp14_ps(x);
  return _mm512_mul_ps(guess, _mm512_fnmadd_ps(x, guess, _mm512_set1_ps(2.0f)));
}

INLINE __m512 silu(__m512 x, __m512 inner) { /* x / (1 + e^-inner) */
  __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), inner));
  return _mm512_mul_ps(x, inverse(_mm512_add_ps(e, _mm512_set1_ps(1.0f))));
}

/* x Phi(x); erf by Abramowitz and Stegun 7.1.26, to 1.5e-7. */
INLINE __m512 gelu(__m512 x) {
  __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.707106781f));
  __m512 t = inverse(_mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), _mm512_set1_ps(1.0f)));
  __m512 p = _mm512_set1_ps(1.061405429f);
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
  __m512 tail = _mm512_mul_ps(_mm512_mul_ps(p, t), exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z))));
  __m512 half = _mm512_mul_ps(_mm512_set1_ps(0.5f), tail); /* Phi(-|x|) */
  __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  return _mm512_mul_ps(x, _mm512_mask_mov_ps(_mm512_sub_ps(_mm512_set1_ps(1.0f), half), below, half));
}

INLINE __m512 activate(__m512 x, enum Activation kind) {
  if (kind == SILU) return silu(x, x);
  if (kind == GELU) return gelu(x);
  if (kind == GELU_TANH) { /* x (1 + tanh z) / 2 is x / (1 + e^-2z) */
    __m512 cube = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), _mm512_set1_ps(1.0f));
    return silu(x, _mm512_mul_ps(_mm512_mul_ps(x, cube), _mm512_set1_ps(1.59576912f)));
  }
  return x;
}

/* ---- whole numbers */

/* What n values of x are as whole numbers: x is (whole - zero) times the scale. */
typedef struct {
  float scale;
  int32_t zero;
} Range;

/* The smallest of one sixteen, below zero taken as positive, and the largest of another: both in one go. */
INLINE void ends(__m512 least, __m512 most, float *below, float *above) {
  const __m512 turned = _mm512_sub_ps(_mm512_setzero_ps(), least);
  __m512 x = _mm512_max_ps(_mm512_shuffle_f32x4(turned, most, 0x44), _mm512_shuffle_f32x4(turned, most, 0xee));
  x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0xb1));
  x = _mm512_max_ps(x, _mm512_permute_ps(x, 0x4e));
  x = _mm512_max_ps(x, _mm512_permute_ps(x, 0xb1));
  *below = _mm512_cvtss_f32(x);
  *above = _mm_cvtss_f32(_mm512_extractf32x4_ps(x, 2));
}

/* n values, at most GROUP, to whole numbers; what is beyond n in `out` meets weights of zero. */
INLINE Range whole_group(const float *x, int64_t n, uint8_t *out) {
  __m512 least[CHAINS], most[CHAINS], odd[CHAINS];
  for (int c = 0; c < CHAINS; c++) least[c] = most[c] = odd[c] = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += CHAINS * LANES)
    for (int c = 0; c < CHAINS; c++) {
      const int64_t left = n - i - c * LANES;
      __m512 v = left >= LANES ? _mm512_loadu_ps(x + i + c * LANES) : _mm512_maskz_loadu_ps(lanes(left), x + i + c * LANES);
      least[c] = _mm512_min_ps(least[c], v);
      most[c] = _mm512_max_ps(most[c], v);
      odd[c] = _mm512_fmadd_ps(v, _mm512_setzero_ps(), odd[c]); /* no number as soon as one is none; then the scale is none */
    }
  for (int c = 1; c < CHAINS; c++) {
    least[0] = _mm512_min_ps(least[0], least[c]);
    most[0] = _mm512_max_ps(most[0], most[c]);
    odd[0] = _mm512_add_ps(odd[0], odd[c]);
  }
  float below, above;
  ends(least[0], most[0], &below, &above);
  float scale = (below + above) / 255.0f;
  scale = _mm512_cmp_ps_mask(odd[0], odd[0], _CMP_UNORD_Q) ? __builtin_nanf("") : scale < TINY ? TINY : scale;
  const __m512 per = _mm512_set1_ps(1.0f / scale);
  const __m512i zero = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_set1_ps(below), per));
  for (int64_t i = 0; i < n; i += LANES) {
    __m512 v = n - i >= LANES ? _mm512_loadu_ps(x + i) : _mm512_maskz_loadu_ps(lanes(n - i), x + i);
    __m512i wide = _mm512_cvtps_epi32(_mm512_mul_ps(v, per));
    _mm_storeu_si128((__m128i *)(out + i), _mm512_cvtusepi32_epi8(_mm512_add_epi32(wide, zero)));
  }
  return (Range){scale, _mm_cvtsi128_si32(_mm512_castsi512_si128(zero))};
}

/* A block of rows to whole ones, their stride filled up, with a range for each group. */
INLINE void whole_rows(const float *x, int64_t rows, int64_t n, int64_t stride, uint8_t *out, Range *ranges) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t g = 0; g < groups_of(n); g++)
      ranges[r * groups_of(n) + g] = whole_group(x + r * stride + g * GROUP, smaller(GROUP, n - g * GROUP), out + r * whole_panels(n) + g * GROUP);
}
