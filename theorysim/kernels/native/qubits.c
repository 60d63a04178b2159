/* Transforms of vectors over strings of qubits, in place, as custom calls of XLA on CPUs (see qaoa.py for notation and frame):

     layer            e^{-i gamma C}, then e^{-i beta X} on every qubit, on a state in the real frame
     adjoint          the inverse of a layer on its result and on a cotangent, and with it the derivatives in gamma and beta
     walsh_hadamard   the unnormalised Walsh-Hadamard transform of a real vector

   Compiled once for float and once for double (-DDOUBLE).

   A rotation [[cos, -sin], [sin, cos]] is cos [[1, -t], [t, 1]] with t = tan, or sin [[u, -1], [1, u]] with u = cot: one fused
   multiply-add an amplitude and qubit. The form whose t or u is at most one is taken; the factors of all qubits go into the phases.

   The arrays pass through memory as seldom as caches allow. The first pass does the phases and all bits of blocks that fit the
   second-level cache, in parts that fit the first; each further pass takes up to GROUP_BITS bits, a few cache lines of each of
   their values at a time. Threads share blocks and pieces; rounding depends on none of it. */
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR_BYTES 64
#define RADIX_BITS 4 /* bits taken at a time in registers */
#elif defined(__AVX2__) && defined(__FMA__)
#define VECTOR_BYTES 32
#define RADIX_BITS 3
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define RADIX_BITS 4
#else
#error "fused multiply-adds are needed"
#endif

#ifdef DOUBLE
typedef double real;
typedef int64_t word;
#define REAL_BITS 3 /* log2 of the bytes of a number */
#define MAGIC 6755399441055744.0
#define NAME(stem) theorysim_##stem##_f64
#else
typedef float real;
typedef int32_t word;
#define REAL_BITS 2
#define MAGIC 12582912.0f
#define NAME(stem) theorysim_##stem##_f32
#endif

#define LANES (VECTOR_BYTES >> REAL_BITS)
#define INNER_BITS (14 - REAL_BITS) /* 16 KiB of each array, two arrays, in the first-level cache */
#define BLOCK_BITS (INNER_BITS + 4) /* 256 KiB of each array in the second */
#define GROUP_BITS 8
#define COLUMNS (512 >> REAL_BITS)
#define FAR 4096 /* bytes: rows this far apart share cache sets, so that no more than 2^3 are taken at a time */

typedef real vector __attribute__((vector_size(VECTOR_BYTES)));
typedef real unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real))));
typedef word words __attribute__((vector_size(VECTOR_BYTES)));
#define INLINE static inline __attribute__((always_inline))

#if LANES == 16
#define LANE_BITS 4
#define SWAP_0(x) __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#define SWAP_1(x) __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define SWAP_2(x) __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define SWAP_3(x) __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define REVERSE(x) __builtin_shufflevector(x, x, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define PER_LANE(f) {f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)}
#elif LANES == 8
#define LANE_BITS 3
#define SWAP_0(x) __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6)
#define SWAP_1(x) __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5)
#define SWAP_2(x) __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3)
#define REVERSE(x) __builtin_shufflevector(x, x, 7, 6, 5, 4, 3, 2, 1, 0)
#define PER_LANE(f) {f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)}
#elif LANES == 4
#define LANE_BITS 2
#define SWAP_0(x) __builtin_shufflevector(x, x, 1, 0, 3, 2)
#define SWAP_1(x) __builtin_shufflevector(x, x, 2, 3, 0, 1)
#define REVERSE(x) __builtin_shufflevector(x, x, 3, 2, 1, 0)
#define PER_LANE(f) {f(0), f(1), f(2), f(3)}
#else
#define LANE_BITS 1
#define SWAP_0(x) __builtin_shufflevector(x, x, 1, 0)
#define REVERSE(x) SWAP_0(x)
#define PER_LANE(f) {f(0), f(1)}
#endif

INLINE vector load(const real *p) { return *(const unaligned *)p; }
INLINE void store(real *p, vector x) { *(unaligned *)p = x; }
INLINE int least(int a, int b) { return a < b ? a : b; }

/* --- one call on one vector over strings -------------------------------------------------------------------------- */

typedef enum { TANGENT, COTANGENT, HADAMARD } Form;

typedef struct Transform Transform;
struct Transform {
  int bits;                      /* the arrays have 2^bits numbers */
  int arrays;                    /* real and imaginary part, of the state and then of the cotangent; or one */
  real *array[4];
  const real *costs;
  bool half, inverse;            /* inverse: of the adjoint, the bits first and then the phases */
  real gamma, scale, slope;      /* slope: t or u; scale: the factors of all qubits */
  real last_cos, last_sin;       /* rotation of the last qubit of the half space, */
  bool last_turned;              /* whose (-i)^n phi is +-phi or, turned, -+i phi: the sign is in last_sin */
  void (*pointwise)(const Transform *, size_t start, size_t count, double *sums);
  void (*rotate)(real *, int from, int to, real slope);
  void (*columns)(real *, int from, int count, real slope);
  /* Of the adjoint, on an array of the state and that of the cotangent: */
  double (*rotate_pair)(const Transform *, real *, real *, int from, int to);
  double (*columns_pair)(const Transform *, real *, real *, int from, int count);
  double weights[33];            /* weights[k]: what makes up for k qubits' factors that the phases are still to bring, squared */
};

/* --- phases: gamma C = k step + r, sine and cosine of k step from a table, of r from polynomials ------------------ */

#ifdef __AVX512F__
#define ENTRIES 16
#define SINE_TERMS (REAL_BITS == 3 ? 5 : 2)
#define COSINE_TERMS (REAL_BITS == 3 ? 6 : 3)
#else
#define ENTRIES 4
#define SINE_TERMS (REAL_BITS == 3 ? 8 : 4)
#define COSINE_TERMS (REAL_BITS == 3 ? 8 : 4)
#endif
#define STEP (6.283185307179586 / ENTRIES)
#define STEP_HIGH ((real)STEP)
#define STEP_LOW ((real)(STEP - (double)STEP_HIGH + 2.4492935982947064e-16 / ENTRIES)) /* the rest of 2 pi / ENTRIES */

static const real SINE[] = {(real)(-1. / 6),        (real)(1. / 120),        (real)(-1. / 5040),          (real)(1. / 362880),
                            (real)(-1. / 39916800), (real)(1. / 6227020800), (real)(-1. / 1307674368000), (real)(1. / 355687428096000)};
static const real COSINE[] = {(real)(-1. / 2),       (real)(1. / 24),        (real)(-1. / 720),         (real)(1. / 40320),
                              (real)(-1. / 3628800), (real)(1. / 479001600), (real)(-1. / 87178291200), (real)(1. / 20922789888000)};

#ifdef __AVX512F__
#define C1 .9238795325112867
#define C2 .7071067811865476
#define C3 .3826834323650898
static const real TABLE[] = {0, C3, C2, C1, 1, C1, C2, C3, 0, -C3, -C2, -C1, -1, -C1, -C2, -C3, 0, C3, C2, C1}; /* sin(k step) */
INLINE vector entry(words index, real scale, int shift) {
#ifdef DOUBLE
  return (vector)_mm512_permutex2var_pd((__m512d)(scale * load(TABLE + shift)), (__m512i)index,
                                        (__m512d)(scale * load(TABLE + shift + 8)));
#else
  return (vector)_mm512_permutexvar_ps((__m512i)index, (__m512)(scale * load(TABLE + shift)));
#endif
}
#endif

INLINE void scaled_sincos(vector x, real scale, vector *sine, vector *cosine) {
  vector shifted = x * (real)(1 / STEP) + MAGIC; /* 1.5 times the power of two that leaves k in the last bits */
  vector k = shifted - MAGIC;
  vector r = (x - k * STEP_HIGH) - k * STEP_LOW;
  vector square = r * r, s = square * 0 + SINE[SINE_TERMS - 1], c = square * 0 + COSINE[COSINE_TERMS - 1];
#pragma GCC unroll 8
  for (int i = SINE_TERMS - 2; i >= 0; i--) s = s * square + SINE[i];
#pragma GCC unroll 8
  for (int i = COSINE_TERMS - 2; i >= 0; i--) c = c * square + COSINE[i];
  s = r + r * square * s;
  c = 1 + square * c;
#ifdef __AVX512F__
  vector table_sine = entry((words)shifted, scale, 0), table_cosine = entry((words)shifted, scale, ENTRIES / 4);
  *sine = table_sine * c + table_cosine * s;
  *cosine = table_cosine * c - table_sine * s;
#else
  words quarter = (words)shifted, odd = -(quarter & 1);
  words of_sine = ((words)s & ~odd) | ((words)c & odd), of_cosine = ((words)c & ~odd) | ((words)s & odd);
  *sine = scale * (vector)(of_sine ^ ((quarter & 2) << (8 * sizeof(real) - 2)));
  *cosine = scale * (vector)(of_cosine ^ (((quarter + 1) & 2) << (8 * sizeof(real) - 2)));
#endif
}

INLINE void turn(vector sine, vector cosine, vector *re, vector *im) {
  vector turned = *re * cosine + *im * sine;
  *im = *im * cosine - *re * sine;
  *re = turned;
}

INLINE void phase(const Transform *t, size_t s, vector *re, vector *im) {
  vector sine, cosine;
  scaled_sincos(t->gamma * load(t->costs + s), t->scale, &sine, &cosine);
  turn(sine, cosine, re, im);
}

/* --- pairs of amplitudes ------------------------------------------------------------------------------------------- */

INLINE void butterfly(vector *x, vector *y, real slope, Form form) {
  vector p = *x, q = *y;
  *x = form == TANGENT ? p - slope * q : form == COTANGENT ? slope * p - q : p + q;
  *y = form == TANGENT ? q + slope * p : form == COTANGENT ? slope * q + p : p - q;
}

/* The bits within a vector: `other` has the other half of each pair in its place. */
INLINE vector lane(vector x, vector other, vector signs, real slope, Form form) {
  return form == TANGENT ? x + (slope * signs) * other : form == COTANGENT ? slope * x + signs * other : other - signs * x;
}

#define SIGN_0(i) ((i) & 1 ? 1 : -1)
#define SIGN_1(i) ((i) & 2 ? 1 : -1)
#define SIGN_2(i) ((i) & 4 ? 1 : -1)
#define SIGN_3(i) ((i) & 8 ? 1 : -1)
/* DO(j) for every bit j of the lanes */
#if LANE_BITS == 4
#define EVERY_LANE_BIT(DO) DO(0) DO(1) DO(2) DO(3)
#elif LANE_BITS == 3
#define EVERY_LANE_BIT(DO) DO(0) DO(1) DO(2)
#elif LANE_BITS == 2
#define EVERY_LANE_BIT(DO) DO(0) DO(1)
#else
#define EVERY_LANE_BIT(DO) DO(0)
#endif

INLINE vector lanes(vector x, real slope, Form form) {
#define ROTATE(j) x = lane(x, SWAP_##j(x), (vector)PER_LANE(SIGN_##j), slope, form);
  EVERY_LANE_BIT(ROTATE)
  return x;
}

/* The bits that tell 2^radix rows apart, of `columns` numbers each; `to` may be `from`. */
INLINE void rows_of(int radix, const real *from, size_t from_row, real *to, size_t to_row, size_t columns, real slope, Form form) {
  for (size_t c = 0; c < columns; c += LANES) {
    vector x[1 << RADIX_BITS];
#pragma GCC unroll 16
    for (int i = 0; i < 1 << radix; i++) x[i] = load(from + i * from_row + c);
#pragma GCC unroll 4
    for (int j = 0; j < radix; j++)
#pragma GCC unroll 16
      for (int i = 0; i < 1 << radix; i++)
        if (!(i >> j & 1)) butterfly(&x[i], &x[i | 1 << j], slope, form);
#pragma GCC unroll 16
    for (int i = 0; i < 1 << radix; i++) store(to + i * to_row + c, x[i]);
  }
}

INLINE void rows(int radix, const real *from, size_t from_row, real *to, size_t to_row, size_t columns, real slope, Form form) {
  switch (radix) {
    case 1: rows_of(1, from, from_row, to, to_row, columns, slope, form); break;
    case 2: rows_of(2, from, from_row, to, to_row, columns, slope, form); break;
    case 3: rows_of(3, from, from_row, to, to_row, columns, slope, form); break;
#if RADIX_BITS > 3
    case 4: rows_of(4, from, from_row, to, to_row, columns, slope, form); break;
#endif
  }
}

/* Of `left` bits, as many as come next if all parts are to be as equal as `most` allows. */
static int share(int left, int most) {
  int parts = (left + most - 1) / most;
  return (left + parts - 1) / parts;
}

/* Bits from ... to - 1 of 2^to numbers. */
INLINE void rotate_as(real *x, int from, int to, real slope, Form form) {
  while (from < to) {
    size_t row = (size_t)1 << from;
    int radix = share(to - from, row << REAL_BITS >= FAR ? 3 : RADIX_BITS);
    for (size_t outer = 0; outer < (size_t)1 << to; outer += row << radix) rows(radix, x + outer, row, x + outer, row, row, slope, form);
    from += radix;
  }
}

/* Bits from ... from + count - 1, at COLUMNS neighbouring places. */
INLINE void columns_as(real *x, int from, int count, real slope, Form form) {
  real scratch[COLUMNS << GROUP_BITS] __attribute__((aligned(VECTOR_BYTES)));
  for (int done = 0; done < count;) {
    int radix = share(count - done, RADIX_BITS);
    bool first = done == 0, final = done + radix == count;
    const real *in = first ? x : scratch;
    real *out = final ? x : scratch;
    size_t in_row = first ? (size_t)1 << from : COLUMNS, out_row = final ? (size_t)1 << from : COLUMNS;
    for (size_t outer = 0; outer < (size_t)1 << count; outer += (size_t)1 << (done + radix))
      for (size_t i = outer; i < outer + ((size_t)1 << done); i++)
        rows(radix, in + i * in_row, in_row << done, out + i * out_row, out_row << done, COLUMNS, slope, form);
    done += radix;
  }
}

/* --- what is done vector by vector: phases, the last qubit of the half space, bits within a vector ------------------ */

/* The amplitudes of strings s ... s + LANES - 1 and of their complements, these in descending order. */
INLINE void last(const Transform *t, size_t s, vector *re, vector *im, vector *other_re, vector *other_im) {
#define PARITY(i) (((i) ^ (i) >> 1 ^ (i) >> 2 ^ (i) >> 3) & 1 ? -1 : 1)
  vector sine = (vector)PER_LANE(PARITY) * (t->last_sin * (real)(1 - 2 * __builtin_parityll(s)));
  vector back = t->bits & 1 ? -sine : sine; /* the complement's parity */
  vector x = *re, y = *im, u = *other_re, v = *other_im;
  *re = t->last_cos * x + sine * (t->last_turned ? v : u);
  *im = t->last_cos * y + sine * (t->last_turned ? -u : v);
  *other_re = t->last_cos * u + back * (t->last_turned ? y : x);
  *other_im = t->last_cos * v + back * (t->last_turned ? -x : y);
}

INLINE void layer_at(const Transform *t, size_t s, bool half, Form form) {
  real *real_part = t->array[0], *imag_part = t->array[1];
  vector re = load(real_part + s), im = load(imag_part + s);
  phase(t, s, &re, &im);
  if (half) {
    size_t complement = ((size_t)1 << t->bits) - LANES - s;
    vector other_re = load(real_part + complement), other_im = load(imag_part + complement);
    phase(t, complement, &other_re, &other_im);
    other_re = REVERSE(other_re), other_im = REVERSE(other_im);
    last(t, s, &re, &im, &other_re, &other_im);
    store(real_part + complement, lanes(REVERSE(other_re), t->slope, form));
    store(imag_part + complement, lanes(REVERSE(other_im), t->slope, form));
  }
  store(real_part + s, lanes(re, t->slope, form));
  store(imag_part + s, lanes(im, t->slope, form));
}

#define LAYER(name, half, form)                                                                                           \
  static void name(const Transform *shared, size_t start, size_t count, double *sums) {                                   \
    const Transform own = *shared; /* so that stores cannot change it */                                                  \
    for (size_t s = start; s < start + count; s += LANES) layer_at(&own, s, half, form);                                  \
    (void)sums;                                                                                                           \
  }
LAYER(full_tangent, false, TANGENT)
LAYER(full_cotangent, false, COTANGENT)
LAYER(half_tangent, true, TANGENT)
LAYER(half_cotangent, true, COTANGENT)

static void hadamard(const Transform *t, size_t start, size_t count, double *sums) {
  (void)sums;
  real *x = t->array[0];
  for (size_t s = start; s < start + count; s += LANES) store(x + s, lanes(load(x + s), 0, HADAMARD));
}

#define FORM(name, form)                                                                                                  \
  static void rotate_##name(real *x, int from, int to, real slope) { rotate_as(x, from, to, slope, form); }               \
  static void columns_##name(real *x, int from, int count, real slope) { columns_as(x, from, count, slope, form); }
FORM(tangent, TANGENT)
FORM(cotangent, COTANGENT)
FORM(hadamard, HADAMARD)

/* --- the adjoint: the inverse of a layer, phases last, on state phi and cotangent g ---------------------------------

   The derivative in beta is the sum over qubits j of <g, A_j phi>, where A = [[0, -1], [1, 0]] generates the rotation; that in gamma
   is sum C (g_re phi_im - g_im phi_re). Rotations of both vectors change neither: each is taken where its qubit is at hand. */

INLINE double total(vector x) {
  double sum = 0;
  for (int i = 0; i < LANES; i++) sum += (double)x[i];
  return sum;
}

/* As rows_of, for two arrays; sums[j] += <y, A_j x> before bit j is turned. */
INLINE void pair_rows_of(int radix, const real *x, const real *y, size_t from_row, real *to_x, real *to_y, size_t to_row,
                         size_t columns, real slope, Form form, vector *sums) {
  for (size_t c = 0; c < columns; c += LANES) {
    vector p[1 << (RADIX_BITS - 1)], q[1 << (RADIX_BITS - 1)];
#pragma GCC unroll 8
    for (int i = 0; i < 1 << radix; i++) p[i] = load(x + i * from_row + c), q[i] = load(y + i * from_row + c);
#pragma GCC unroll 3
    for (int j = 0; j < radix; j++)
#pragma GCC unroll 8
      for (int i = 0; i < 1 << radix; i++)
        if (!(i >> j & 1)) {
          int k = i | 1 << j;
          sums[j] += q[k] * p[i] - q[i] * p[k];
          butterfly(&p[i], &p[k], slope, form);
          butterfly(&q[i], &q[k], slope, form);
        }
#pragma GCC unroll 8
    for (int i = 0; i < 1 << radix; i++) store(to_x + i * to_row + c, p[i]), store(to_y + i * to_row + c, q[i]);
  }
}

INLINE void pair_rows(int radix, const real *x, const real *y, size_t from_row, real *to_x, real *to_y, size_t to_row,
                      size_t columns, real slope, Form form, vector *sums) {
  switch (radix) {
    case 1: pair_rows_of(1, x, y, from_row, to_x, to_y, to_row, columns, slope, form, sums); break;
    case 2: pair_rows_of(2, x, y, from_row, to_x, to_y, to_row, columns, slope, form, sums); break;
#if RADIX_BITS > 3
    case 3: pair_rows_of(3, x, y, from_row, to_x, to_y, to_row, columns, slope, form, sums); break;
#endif
  }
}

INLINE double weighted(const double *weights, const vector *sums, int radix) {
  double sum = 0;
  for (int j = 0; j < radix; j++) sum += weights[j] * total(sums[j]);
  return sum;
}

INLINE double rotate_pair_as(const Transform *t, real *x, real *y, int from, int to, Form form) {
  double sum = 0;
  for (int turned = t->bits - to; from < to;) { /* the bits above come first */
    size_t row = (size_t)1 << from;
    int radix = share(to - from, RADIX_BITS - 1);
    vector sums[RADIX_BITS - 1] = {{0}};
    for (size_t outer = 0; outer < (size_t)1 << to; outer += row << radix)
      pair_rows(radix, x + outer, y + outer, row, x + outer, y + outer, row, row, t->slope, form, sums);
    sum += weighted(t->weights + turned, sums, radix);
    from += radix, turned += radix;
  }
  return sum;
}

INLINE double columns_pair_as(const Transform *t, real *x, real *y, int from, int count, Form form) {
  real scratch[2][COLUMNS << GROUP_BITS] __attribute__((aligned(VECTOR_BYTES)));
  double sum = 0;
  for (int done = 0; done < count;) {
    int radix = share(count - done, RADIX_BITS - 1);
    bool first = done == 0, final = done + radix == count;
    const real *in_x = first ? x : scratch[0], *in_y = first ? y : scratch[1];
    real *out_x = final ? x : scratch[0], *out_y = final ? y : scratch[1];
    size_t in_row = first ? (size_t)1 << from : COLUMNS, out_row = final ? (size_t)1 << from : COLUMNS;
    vector sums[RADIX_BITS - 1] = {{0}};
    for (size_t outer = 0; outer < (size_t)1 << count; outer += (size_t)1 << (done + radix))
      for (size_t i = outer; i < outer + ((size_t)1 << done); i++)
        pair_rows(radix, in_x + i * in_row, in_y + i * in_row, in_row << done, out_x + i * out_row, out_y + i * out_row,
                  out_row << done, COLUMNS, t->slope, form, sums);
    sum += weighted(t->weights + t->bits - from - count + done, sums, radix);
    done += radix;
  }
  return sum;
}

typedef struct {
  vector re, im;
} Amplitudes;

INLINE Amplitudes amplitudes(const Transform *t, int part, size_t s) {
  return (Amplitudes){load(t->array[2 * part] + s), load(t->array[2 * part + 1] + s)};
}

INLINE Amplitudes reversed(Amplitudes x) { return (Amplitudes){REVERSE(x.re), REVERSE(x.im)}; }

/* Bits within vectors of state and cotangent, then their phases; sums of beta (to be weighted for the bits above) and of gamma. */
INLINE void finish(const Transform *t, size_t s, Amplitudes x, Amplitudes y, Form form, vector *sums) {
#define WITH_DERIVATIVE(j)                                                                                                \
  {                                                                                                                       \
    vector signs = (vector)PER_LANE(SIGN_##j) * (real)(t->weights[j]);                                                    \
    vector re = SWAP_##j(x.re), im = SWAP_##j(x.im);                                                                      \
    sums[0] += signs * (y.re * re + y.im * im);                                                                           \
    x.re = lane(x.re, re, (vector)PER_LANE(SIGN_##j), t->slope, form);                                                    \
    x.im = lane(x.im, im, (vector)PER_LANE(SIGN_##j), t->slope, form);                                                    \
    y.re = lane(y.re, SWAP_##j(y.re), (vector)PER_LANE(SIGN_##j), t->slope, form);                                        \
    y.im = lane(y.im, SWAP_##j(y.im), (vector)PER_LANE(SIGN_##j), t->slope, form);                                        \
  }
  EVERY_LANE_BIT(WITH_DERIVATIVE)
  vector sine, cosine, costs = load(t->costs + s);
  scaled_sincos(t->gamma * costs, t->scale, &sine, &cosine);
  turn(sine, cosine, &x.re, &x.im);
  turn(sine, cosine, &y.re, &y.im);
  sums[1] += costs * (y.re * x.im - y.im * x.re);
  store(t->array[0] + s, x.re), store(t->array[1] + s, x.im);
  store(t->array[2] + s, y.re), store(t->array[3] + s, y.im);
}

/* <y, K x>, K the generator of the last qubit's rotation: its part from strings s ... s + LANES - 1 and their complements. */
INLINE vector last_derivative(const Transform *t, size_t s, Amplitudes x, Amplitudes other_x, Amplitudes y, Amplitudes other_y) {
  vector sign = (vector)PER_LANE(PARITY) * (real)((1 - 2 * __builtin_parityll(s)) * ((t->bits + 1) % 4 < 2 ? 1 : -1));
  vector here = t->last_turned ? y.re * other_x.im - y.im * other_x.re : y.re * other_x.re + y.im * other_x.im;
  vector there = t->last_turned ? other_y.re * x.im - other_y.im * x.re : other_y.re * x.re + other_y.im * x.im;
  return sign * (t->bits & 1 ? here - there : here + there);
}

INLINE void adjoint_as(const Transform *shared, size_t start, size_t count, double *sums, bool half, Form form) {
  const Transform own = *shared, *t = &own;
  double weight = t->weights[t->bits - LANE_BITS];
  vector within[2] = {{0}}, of_last = {0};
  for (size_t s = start; s < start + count; s += LANES) {
    Amplitudes x = amplitudes(t, 0, s), y = amplitudes(t, 1, s);
    if (half) {
      size_t complement = ((size_t)1 << t->bits) - LANES - s;
      Amplitudes other_x = reversed(amplitudes(t, 0, complement)), other_y = reversed(amplitudes(t, 1, complement));
      of_last += last_derivative(t, s, x, other_x, y, other_y);
      last(t, s, &x.re, &x.im, &other_x.re, &other_x.im);
      last(t, s, &y.re, &y.im, &other_y.re, &other_y.im);
      finish(t, complement, reversed(other_x), reversed(other_y), form, within);
    }
    finish(t, s, x, y, form, within);
  }
  sums[0] += weight * (total(within[0]) + total(of_last));
  sums[1] += total(within[1]);
}

#define ADJOINT(name, form)                                                                                               \
  static double rotate_pair_##name(const Transform *t, real *x, real *y, int from, int to) {                              \
    return rotate_pair_as(t, x, y, from, to, form);                                                                       \
  }                                                                                                                       \
  static double columns_pair_##name(const Transform *t, real *x, real *y, int from, int count) {                          \
    return columns_pair_as(t, x, y, from, count, form);                                                                   \
  }                                                                                                                       \
  static void adjoint_full_##name(const Transform *t, size_t start, size_t count, double *sums) {                         \
    adjoint_as(t, start, count, sums, false, form);                                                                       \
  }                                                                                                                       \
  static void adjoint_half_##name(const Transform *t, size_t start, size_t count, double *sums) {                         \
    adjoint_as(t, start, count, sums, true, form);                                                                        \
  }
ADJOINT(tangent, TANGENT)
ADJOINT(cotangent, COTANGENT)

/* --- passes: the blocks, then the groups of bits above; the other way round if the phases come last ------------------ */

static int inner_bits(const Transform *t) { return least(t->bits, INNER_BITS - t->half); }
static int block_bits(const Transform *t) { return least(t->bits, BLOCK_BITS - t->half); }

static void rotate(const Transform *t, size_t start, int from, int to, double *sums) {
  if (t->arrays == 4)
    for (int i = 0; i < 2; i++) sums[0] += t->rotate_pair(t, t->array[i] + start, t->array[i + 2] + start, from, to);
  else
    for (int i = 0; i < t->arrays; i++) t->rotate(t->array[i] + start, from, to, t->slope);
}

/* 2^bits strings from start on; in the half space, with their complements, which may be the same strings. */
static void part(const Transform *t, size_t start, int bits, double *sums) {
  size_t size = (size_t)1 << bits, complement = ((size_t)1 << t->bits) - size - start;
  bool pair = t->half && complement != start;
  bool inner = bits == inner_bits(t);
  size_t count = t->half && !pair ? size / 2 : size;
  int from = inner ? LANE_BITS : inner_bits(t);
  for (int turn = 0; turn < 2; turn++)
    if (turn == t->inverse) {
      if (inner)
        t->pointwise(t, start, count, sums);
      else
        for (size_t s = start; s < start + count; s += (size_t)1 << from) part(t, s, from, sums);
    } else {
      rotate(t, start, from, bits, sums);
      if (pair) rotate(t, complement, from, bits, sums);
    }
}

static size_t blocks(const Transform *t) {
  size_t count = (size_t)1 << (t->bits - block_bits(t));
  return t->half && count > 1 ? count / 2 : count;
}

static void block(const Transform *t, size_t i, double *sums) { part(t, i << block_bits(t), block_bits(t), sums); }

typedef struct {
  int from, count;
} Group;

static int groups(const Transform *t) { return (t->bits - block_bits(t) + GROUP_BITS - 1) / GROUP_BITS; }

static Group group(const Transform *t, int i) {
  int left = t->bits - block_bits(t), number = groups(t);
  return (Group){block_bits(t) + left / number * i + least(i, left % number), left / number + (i < left % number)};
}

static size_t pieces(const Transform *t, Group g) { return ((size_t)1 << (t->bits - g.count)) / COLUMNS; }

static void piece(const Transform *t, Group g, size_t i, double *sums) {
  size_t inner = ((size_t)1 << g.from) / COLUMNS;
  size_t place = (i / inner << (g.from + g.count)) + i % inner * COLUMNS;
  if (t->arrays == 4)
    for (int a = 0; a < 2; a++) sums[0] += t->columns_pair(t, t->array[a] + place, t->array[a + 2] + place, g.from, g.count);
  else
    for (int a = 0; a < t->arrays; a++) t->columns(t->array[a] + place, g.from, g.count, t->slope);
}

/* --- threads: those of XLA's pool ------------------------------------------------------------------------------------ */

typedef struct {
  void (*run)(const void *context, size_t task);
  const void *context;
  size_t tasks, grain;
  atomic_size_t next, done;
  atomic_int holders;
} Job;

static void release(Job *job) {
  if (atomic_fetch_sub(&job->holders, 1) == 1) free(job);
}

static void work(Job *job) {
  for (size_t start; (start = atomic_fetch_add(&job->next, job->grain)) < job->tasks;) {
    size_t end = start + job->grain < job->tasks ? start + job->grain : job->tasks;
    for (size_t task = start; task < end; task++) job->run(job->context, task);
    atomic_fetch_add(&job->done, end - start);
  }
}

static void help(void *job) {
  work(job);
  release(job);
}

static bool failed(const XLA_FFI_CallFrame *frame, XLA_FFI_Error *error) {
  XLA_FFI_Error_Destroy_Args args = {.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, .error = error};
  if (error) frame->api->XLA_FFI_Error_Destroy(&args);
  return error != NULL;
}

static size_t pool_size(const XLA_FFI_CallFrame *frame) {
  int64_t threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args = {
      .struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, .ctx = frame->ctx, .num_threads = &threads};
  return failed(frame, frame->api->XLA_FFI_ThreadPool_NumThreads(&args)) || threads < 1 ? 1 : (size_t)threads;
}

/* run(context, i) for all i < tasks, neighbours by the same thread: processors fetch ahead, into what another would be at. This
   thread works too and waits only for tasks that others have begun, so that a busy pool delays it but cannot block it. */
static void parallel(const XLA_FFI_CallFrame *frame, void (*run)(const void *, size_t), const void *context, size_t tasks,
                     size_t least_grain) {
  size_t threads = pool_size(frame), grain = tasks / (8 * threads);
  if (grain < least_grain) grain = least_grain;
  size_t wanted = (tasks + grain - 1) / grain;
  Job *job = wanted > 1 && threads > 1 ? malloc(sizeof(Job)) : NULL;
  if (!job) {
    for (size_t task = 0; task < tasks; task++) run(context, task);
    return;
  }
  *job = (Job){.run = run, .context = context, .tasks = tasks, .grain = grain};
  atomic_init(&job->next, 0);
  atomic_init(&job->done, 0);
  atomic_init(&job->holders, 1);
  for (size_t i = 1; i < threads && i < wanted; i++) {
    XLA_FFI_ThreadPool_Schedule_Args args = {
        .struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, .ctx = frame->ctx, .task = help, .data = job};
    atomic_fetch_add(&job->holders, 1);
    if (failed(frame, frame->api->XLA_FFI_ThreadPool_Schedule(&args))) {
      atomic_fetch_sub(&job->holders, 1);
      break;
    }
  }
  work(job);
  for (int turn = 0; atomic_load(&job->done) < tasks; turn++)
    if (turn > 1000) sched_yield(); /* there may be fewer processors than threads */
  release(job);
}

/* --- calls: arguments may have leading dimensions, those of all but the arrays transformed may be one ---------------- */

typedef struct {
  const XLA_FFI_CallFrame *frame;
  Transform common;
  int64_t rank; /* leading dimensions */
  const int64_t *dims;
  atomic_bool out_of_memory;
} Call;

static const XLA_FFI_Buffer *argument(const Call *call, int i) { return call->frame->args.args[i]; }

/* Place of sample i in an argument with the call's leading dimensions. */
static size_t place(const Call *call, const XLA_FFI_Buffer *argument, size_t i) {
  size_t at = 0, step = 1;
  for (int64_t d = call->rank - 1; d >= 0; d--) {
    if (argument->dims[d] > 1) at += i % (size_t)call->dims[d] * step;
    i /= (size_t)call->dims[d];
    step *= (size_t)argument->dims[d];
  }
  return at;
}

static Transform transform(const Call *call, size_t i) {
  Transform t = call->common;
  for (int a = 0; a < t.arrays; a++) t.array[a] = (real *)argument(call, a)->data + (i << t.bits);
  if (t.arrays == 1) return t;
  const XLA_FFI_Buffer *costs = argument(call, t.arrays), *gamma = argument(call, t.arrays + 1), *beta = argument(call, t.arrays + 2);
  t.costs = (const real *)costs->data + (place(call, costs, i) << t.bits);
  t.gamma = ((const real *)gamma->data)[place(call, gamma, i)];
  double angle = ((const real *)beta->data)[place(call, beta, i)], cosine = cos(angle), sine = sin(angle);
  bool steep = fabs(sine) > fabs(cosine);
  t.slope = (real)(steep ? cosine / sine : sine / cosine);
  /* from the slope as rounded: the norm is kept */
  t.scale = (real)(pow(1 + (double)t.slope * t.slope, -.5 * t.bits) * ((steep ? sine : cosine) < 0 && t.bits % 2 ? -1 : 1));
  int n = t.bits + 1;
  t.last_cos = (real)cosine;
  t.last_sin = (real)(n % 4 < 2 ? sine : -sine);
  t.last_turned = n % 2;
  static void (*const pointwise[2][2])(const Transform *, size_t, size_t, double *) = {
      {full_tangent, full_cotangent}, {half_tangent, half_cotangent}};
  t.pointwise = pointwise[t.half][steep];
  t.rotate = steep ? rotate_cotangent : rotate_tangent;
  t.columns = steep ? columns_cotangent : columns_tangent;
  if (t.arrays == 4) {
    static void (*const adjoint[2][2])(const Transform *, size_t, size_t, double *) = {
        {adjoint_full_tangent, adjoint_full_cotangent}, {adjoint_half_tangent, adjoint_half_cotangent}};
    t.pointwise = adjoint[t.half][steep];
    t.rotate_pair = steep ? rotate_pair_cotangent : rotate_pair_tangent;
    t.columns_pair = steep ? columns_pair_cotangent : columns_pair_tangent;
    t.weights[0] = 1;
    for (int k = 0; k < t.bits; k++) t.weights[k + 1] = t.weights[k] / (1 + (double)t.slope * t.slope);
  }
  return t;
}

typedef struct {
  const Transform *transform;
  int pass; /* 0: the blocks, then the groups */
  double (*sums)[2];
} Pass;

static void one_task(const void *context, size_t i) {
  const Pass *p = context;
  double *sums = p->sums ? p->sums[i] : NULL;
  if (p->pass)
    piece(p->transform, group(p->transform, p->pass - 1), i, sums);
  else
    block(p->transform, i, sums);
}

/* All passes of sample i, each shared among the threads of `frame` if there is one. The sums of an adjoint are those of its tasks,
   in their order. */
static void sample(Call *call, const XLA_FFI_CallFrame *frame, size_t i) {
  const Transform t = transform(call, i);
  double sums[2] = {0};
  for (int number = groups(&t), turn = 0; turn <= number; turn++) {
    Pass p = {.transform = &t, .pass = t.inverse ? number - turn : turn};
    size_t tasks = p.pass ? pieces(&t, group(&t, p.pass - 1)) : blocks(&t);
    if (t.arrays == 4 && !(p.sums = calloc(tasks, sizeof *p.sums))) {
      atomic_store(&call->out_of_memory, true);
      return;
    }
    if (frame)
      parallel(frame, one_task, &p, tasks, 1);
    else
      for (size_t task = 0; task < tasks; task++) one_task(&p, task);
    for (size_t task = 0; p.sums && task < tasks; task++) sums[0] += p.sums[task][0], sums[1] += p.sums[task][1];
    free(p.sums);
  }
  if (t.arrays == 4)
    for (int k = 0; k < 2; k++) ((real *)((XLA_FFI_Buffer *)call->frame->rets.rets[4 + k])->data)[i] = (real)sums[1 - k];
}

static void one_sample(const void *call, size_t i) { sample(*(Call *const *)call, NULL, i); }

static XLA_FFI_Error *run(const XLA_FFI_CallFrame *frame, Transform common) {
  const XLA_FFI_Buffer *first = frame->args.args[0];
  Call call = {.frame = frame, .common = common, .rank = first->rank - 1, .dims = first->dims}, *shared = &call;
  size_t samples = 1;
  for (int64_t d = 0; d < call.rank; d++) samples *= (size_t)call.dims[d];
  call.common.bits = __builtin_ctzll((unsigned long long)first->dims[call.rank]);
  int bits = call.common.bits;
  if (bits <= INNER_BITS || (samples >= 2 * pool_size(frame) && bits <= BLOCK_BITS + 1))
    parallel(frame, one_sample, &shared, samples, bits < INNER_BITS ? (size_t)1 << (INNER_BITS - bits) : 1);
  else
    for (size_t i = 0; i < samples; i++) sample(&call, frame, i);
  XLA_FFI_Error_Create_Args error = {
      .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE, .message = "out of memory", .errc = XLA_FFI_Error_Code_RESOURCE_EXHAUSTED};
  return atomic_load(&call.out_of_memory) ? frame->api->XLA_FFI_Error_Create(&error) : NULL;
}

/* Whether XLA only asks what this is. */
static bool asked(const XLA_FFI_CallFrame *frame) {
  if (!frame->extension_start || frame->extension_start->type != XLA_FFI_Extension_Metadata) return false;
  XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  metadata->traits = 0;
  return true;
}

static bool flag(const XLA_FFI_CallFrame *frame, const char *name) {
  for (int64_t i = 0; i < frame->attrs.size; i++) {
    const XLA_FFI_ByteSpan *span = frame->attrs.names[i];
    if (span->len == strlen(name) && !memcmp(span->ptr, name, span->len))
      return *(const int64_t *)((const XLA_FFI_Scalar *)frame->attrs.attrs[i])->value != 0;
  }
  return false;
}

/* real, imag (both overwritten), costs, gamma, beta; attribute half. */
XLA_FFI_Error *NAME(layer)(XLA_FFI_CallFrame *frame) {
  if (asked(frame)) return NULL;
  return run(frame, (Transform){.arrays = 2, .half = flag(frame, "half")});
}

/* real, imag, cotangents of both (all overwritten), costs, gamma, beta of the inverse; attribute half. Further results: derivatives of
   the layer in gamma and beta. */
XLA_FFI_Error *NAME(adjoint)(XLA_FFI_CallFrame *frame) {
  if (asked(frame)) return NULL;
  return run(frame, (Transform){.arrays = 4, .half = flag(frame, "half"), .inverse = true});
}

/* values (overwritten). */
XLA_FFI_Error *NAME(walsh_hadamard)(XLA_FFI_CallFrame *frame) {
  if (asked(frame)) return NULL;
  return run(frame, (Transform){.arrays = 1, .pointwise = hadamard, .rotate = rotate_hadamard, .columns = columns_hadamard});
}

/* The arrays must have 2^least or more numbers. */
int NAME(least_bits)(void) { return LANE_BITS + 1; }

/* Passes of a call over arrays of 2^bits numbers. */
int NAME(passes)(int bits, int half) { return 1 + groups(&(Transform){.bits = bits, .half = half}); }
