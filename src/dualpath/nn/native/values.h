/* What is done to values between products, and how they become whole numbers. */

#pragma once
#include "lanes.h"

#define ROWS 6
#define PANEL 64
#define GROUP 768 /* values of a token that share a range */
#define VECTORS (PANEL / LANES)
#define CHAINS 4 /* results of one loop that do not wait for each other */
#define BLOCK 132 /* the most rows that a core takes at a time: what it makes of them fits its cache */
#define MIDDLE 128
#define TINY 1.17549435e-38f

enum Activation { NONE, SILU, GELU, GELU_TANH };

INLINE int64_t whole_panels(int64_t n) { return (n + PANEL - 1) / PANEL * PANEL; }
INLINE int64_t groups_of(int64_t n) { return (n + GROUP - 1) / GROUP; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* How many rows a core takes at a time, at most BLOCK, so that all get as many. */
static int64_t share(int64_t rows, int64_t threads) {
  int64_t each = (rows + threads - 1) / threads, turns = (each + BLOCK - 1) / BLOCK;
  return turns ? ((each + turns - 1) / turns + ROWS - 1) / ROWS * ROWS : ROWS;
}

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

/* ---- functions */

/* e^x as a power of two, its fraction by a polynomial, to 2e-7 of it; e^-41 for all that is less and e^41 for all that is more, as
   numbers too small to be written in full, here or in 1 / e^x, would cost the chip a hundred times as long. */
INLINE Floats exponential(Floats x) {
  x = smaller_of(all(60), larger_of(all(-60), x * all(1.44269504f)));
  Floats n = rounded(x), f = x - n, p = all(1.32779393e-3f);
  p = p * f + all(9.67575796e-3f);
  p = p * f + all(5.55070974e-2f);
  p = p * f + all(0.240221143f);
  p = p * f + all(0.693146944f);
  p = p * f + all(1.00000012f);
  return times_power(p, n);
}

/* 1 / x: a guess and a step of Newton's, a quarter of the time of a division. */
INLINE Floats inverse(Floats x) {
  Floats guess = guess_inverse(x);
  return guess * (all(2) - x * guess);
}

INLINE Floats silu(Floats x, Floats inner) { return x * inverse(all(1) + exponential(-inner)); } /* x / (1 + e^-inner) */

/* x Phi(x); erf by Abramowitz and Stegun 7.1.26, to 1.5e-7. */
INLINE Floats gelu(Floats x) {
  Floats z = absolute(x) * all(0.707106781f), t = inverse(all(1) + z * all(0.3275911f)), p = all(1.061405429f);
  p = p * t + all(-1.453152027f);
  p = p * t + all(1.421413741f);
  p = p * t + all(-0.284496736f);
  p = p * t + all(0.254829592f);
  Floats below = all(0.5f) * p * t * exponential(-z * z); /* Phi(-|x|) */
  return x * where_negative(x, below, all(1) - below);
}

INLINE Floats activate(Floats x, enum Activation kind) {
  if (kind == SILU) return silu(x, x);
  if (kind == GELU) return gelu(x);
  if (kind == GELU_TANH) return silu(x, x * (all(1) + x * x * all(0.044715f)) * all(1.59576912f)); /* (1 + tanh z) / 2 is 1 / (1 + e^-2z) */
  return x;
}

/* ---- whole numbers */

/* What n values of x are as whole numbers: x is (whole - zero) times the scale. */
typedef struct {
  float scale;
  int32_t zero;
} Range;

INLINE Floats load_some(const float *x, int64_t n) { return n >= LANES ? load(x) : load_part(x, n); }

/* n values, at most GROUP, to whole numbers; what is beyond n in `out` meets weights of zero. */
INLINE Range whole_group(const float *x, int64_t n, uint8_t *out) {
  Floats least[CHAINS], most[CHAINS], odd[CHAINS];
  for (int c = 0; c < CHAINS; c++) least[c] = most[c] = odd[c] = all(0);
  for (int64_t i = 0; i < n; i += CHAINS * LANES)
    for (int c = 0; c < CHAINS; c++) {
      Floats v = load_some(x + i + c * LANES, n - i - c * LANES);
      least[c] = smaller_of(least[c], v);
      most[c] = larger_of(most[c], v);
      odd[c] = v * all(0) + odd[c]; /* no number as soon as one is none; then the scale is none */
    }
  for (int c = 1; c < CHAINS; c++) least[0] = smaller_of(least[0], least[c]), most[0] = larger_of(most[0], most[c]), odd[0] += odd[c];
  const float below = highest(-least[0]), above = highest(most[0]);
  float scale = (below + above) / 255;
  scale = any_odd(odd[0]) ? __builtin_nanf("") : scale < TINY ? TINY : scale;
  const float per = 1 / scale;
  const int32_t zero = (int32_t)__builtin_rintf(below * per);
  for (int64_t i = 0; i < n; i += LANES) store_bytes(out + i, add_ints(to_ints(load_some(x + i, n - i) * all(per)), all_ints(zero)));
  return (Range){scale, zero};
}

/* At most BLOCK rows of whole numbers, each as long as whole panels, with a range for each of its groups. */
typedef struct {
  uint8_t *values;
  Range *ranges;
  int64_t rows, inputs; /* as they are */
} Wholes;

INLINE size_t wholes_size(int64_t inputs) { return BLOCK * (whole_panels(inputs) + groups_of(inputs) * sizeof(Range)); }

INLINE Wholes wholes_at(void *at, int64_t rows, int64_t inputs) {
  return (Wholes){at, (Range *)((uint8_t *)at + BLOCK * whole_panels(inputs)), rows, inputs};
}

/* One group of all rows, of which x has `stride` values each. */
INLINE void make_group(const float *x, int64_t stride, int64_t g, const Wholes *to) {
  const int64_t n = smaller(GROUP, to->inputs - g * GROUP), groups = groups_of(to->inputs), wide = whole_panels(to->inputs);
  for (int64_t r = 0; r < to->rows; r++) to->ranges[r * groups + g] = whole_group(x + r * stride, n, to->values + r * wide + g * GROUP);
}

INLINE void make_whole(const float *x, const Wholes *to) {
  for (int64_t g = 0; g < groups_of(to->inputs); g++) make_group(x + g * GROUP, to->inputs, g, to);
}
