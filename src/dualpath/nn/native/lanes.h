/* LANES numbers at once: 16 with AVX512, 8 with AVX2. All that the two kinds of chips do differently stands here, so that
   everything else is written once. What is no number stays none. */

#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>

#if LANES == 16

#define CHIP __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) CHIP
typedef __m512 Floats;
typedef __m512i Ints;

INLINE __mmask16 first_lanes(int64_t n) { return n >= LANES ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }

INLINE Floats all(float x) { return _mm512_set1_ps(x); }
INLINE Floats load(const float *x) { return _mm512_loadu_ps(x); }
INLINE Floats load_part(const float *x, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), x); } /* zero beyond n */
INLINE void store(float *to, Floats x) { _mm512_storeu_ps(to, x); }
INLINE void store_part(float *to, Floats x, int64_t n) { _mm512_mask_storeu_ps(to, first_lanes(n), x); }
INLINE Floats keep(Floats x, int64_t n, Floats others) { return _mm512_mask_mov_ps(others, first_lanes(n), x); } /* the first n */
INLINE Floats larger_of(Floats x, Floats y) { return _mm512_max_ps(x, y); } /* y where one is no number */
INLINE Floats smaller_of(Floats x, Floats y) { return _mm512_min_ps(x, y); }
INLINE Floats absolute(Floats x) { return _mm512_abs_ps(x); }
INLINE Floats rounded(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Floats times_power(Floats x, Floats n) { return _mm512_scalef_ps(x, n); } /* x 2^n, n whole and from -126 to 127 */
INLINE Floats guess_inverse(Floats x) { return _mm512_rcp14_ps(x); }
INLINE Floats where_negative(Floats x, Floats then, Floats otherwise) {
  return _mm512_mask_mov_ps(otherwise, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), then);
}
INLINE float highest(Floats x) { return _mm512_reduce_max_ps(x); }
INLINE float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
INLINE int any_odd(Floats x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0; } /* any that is no number */

INLINE Ints all_ints(int32_t x) { return _mm512_set1_epi32(x); }
INLINE Ints load_ints(const void *x) { return _mm512_loadu_si512(x); }
INLINE void store_ints(void *to, Ints x) { _mm512_storeu_si512(to, x); }
INLINE Ints add_ints(Ints x, Ints y) { return _mm512_add_epi32(x, y); }
INLINE Ints subtract_ints(Ints x, Ints y) { return _mm512_sub_epi32(x, y); }
INLINE Ints larger_ints(Ints x, Ints y) { return _mm512_max_epi32(x, y); }
INLINE Ints both_bits(Ints x, Ints y) { return _mm512_and_si512(x, y); }
INLINE Ints other_bits(Ints x, Ints y) { return _mm512_xor_si512(x, y); }
INLINE int32_t highest_int(Ints x) { return _mm512_reduce_max_epi32(x); }
INLINE Ints to_ints(Floats x) { return _mm512_cvtps_epi32(x); }
INLINE Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
INLINE Ints bits(Floats x) { return _mm512_castps_si512(x); }
INLINE void store_bytes(uint8_t *to, Ints x) { _mm_storeu_si128((__m128i *)to, _mm512_cvtusepi32_epi8(x)); } /* 255 for more */
INLINE void store_signed_bytes(int8_t *to, Ints x) { _mm_storeu_si128((__m128i *)to, _mm512_cvtsepi32_epi8(x)); }
/* To each sum the products of four bytes without a sign by four with one; of two pairs of 16 bits. */
INLINE Ints add_fours(Ints sum, Ints x, Ints y) { return _mm512_dpbusd_epi32(sum, x, y); }
INLINE Ints add_pairs(Ints sum, Ints x, Ints y) { return _mm512_dpwssd_epi32(sum, x, y); }

#elif LANES == 8

#define CHIP __attribute__((target("avx2,fma,avxvnni")))
#define INLINE static inline __attribute__((always_inline)) CHIP
typedef __m256 Floats;
typedef __m256i Ints;

INLINE Ints first_lanes(int64_t n) {
  static const int32_t masks[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256((const __m256i *)(masks + (n >= LANES ? 0 : n <= 0 ? LANES : LANES - n)));
}

INLINE Floats all(float x) { return _mm256_set1_ps(x); }
INLINE Floats load(const float *x) { return _mm256_loadu_ps(x); }
INLINE Floats load_part(const float *x, int64_t n) { return _mm256_maskload_ps(x, first_lanes(n)); }
INLINE void store(float *to, Floats x) { _mm256_storeu_ps(to, x); }
INLINE void store_part(float *to, Floats x, int64_t n) { _mm256_maskstore_ps(to, first_lanes(n), x); }
INLINE Floats keep(Floats x, int64_t n, Floats others) { return _mm256_blendv_ps(others, x, _mm256_castsi256_ps(first_lanes(n))); }
INLINE Floats larger_of(Floats x, Floats y) { return _mm256_max_ps(x, y); }
INLINE Floats smaller_of(Floats x, Floats y) { return _mm256_min_ps(x, y); }
INLINE Floats absolute(Floats x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
INLINE Floats rounded(Floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Floats times_power(Floats x, Floats n) {
  return x * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
INLINE Floats guess_inverse(Floats x) { return _mm256_rcp_ps(x); }
INLINE Floats where_negative(Floats x, Floats then, Floats otherwise) {
  return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}
INLINE float highest(Floats x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}
INLINE float sum_of(Floats x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
INLINE int any_odd(Floats x) { return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0; }

INLINE Ints all_ints(int32_t x) { return _mm256_set1_epi32(x); }
INLINE Ints load_ints(const void *x) { return _mm256_loadu_si256((const __m256i *)x); }
INLINE void store_ints(void *to, Ints x) { _mm256_storeu_si256((__m256i *)to, x); }
INLINE Ints add_ints(Ints x, Ints y) { return _mm256_add_epi32(x, y); }
INLINE Ints subtract_ints(Ints x, Ints y) { return _mm256_sub_epi32(x, y); }
INLINE Ints larger_ints(Ints x, Ints y) { return _mm256_max_epi32(x, y); }
INLINE Ints both_bits(Ints x, Ints y) { return _mm256_and_si256(x, y); }
INLINE Ints other_bits(Ints x, Ints y) { return _mm256_xor_si256(x, y); }
INLINE int32_t highest_int(Ints x) {
  __m128i y = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
}
INLINE Ints to_ints(Floats x) { return _mm256_cvtps_epi32(x); }
INLINE Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
INLINE Ints bits(Floats x) { return _mm256_castps_si256(x); }
INLINE void store_bytes(uint8_t *to, Ints x) {
  __m128i pairs = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(pairs, pairs));
}
INLINE void store_signed_bytes(int8_t *to, Ints x) {
  __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storel_epi64((__m128i *)to, _mm_packs_epi16(pairs, pairs));
}
INLINE Ints add_fours(Ints sum, Ints x, Ints y) { return _mm256_dpbusd_avx_epi32(sum, x, y); }
INLINE Ints add_pairs(Ints sum, Ints x, Ints y) { return _mm256_dpwssd_avx_epi32(sum, x, y); }

#endif
