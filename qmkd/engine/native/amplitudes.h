/* Gates on state vectors.

   A vector of w qubits is 2^max(w, 3) amplitudes in blocks of eight: the eight real parts, then the
   eight imaginary ones. Qubit p is bit p of an amplitude's index, so qubits 0 to 2 choose among the
   lanes of a block and the others among blocks. Of fewer than three qubits the rest is 0.

   All sums are made in one fixed order, whatever the width of the machine's own vectors. */

#ifndef QMKD_AMPLITUDES_H
#define QMKD_AMPLITUDES_H

#include <stdint.h>
#include <string.h>

/* Vectors of eight are passed to functions that are always inlined, so no calling convention is
   there to be changed. */
#pragma GCC diagnostic ignored "-Wpsabi"

#define LANES 8
#define LANE_BITS 3
#define BLOCK (2 * LANES) /* doubles */

/* Loads and stores of these may stand anywhere; the arrays of vectors.py are aligned. */
typedef double lanes __attribute__((vector_size(LANES * 8), aligned(8), may_alias));
typedef int64_t lane_indices __attribute__((vector_size(LANES * 8)));

typedef struct {
    lanes re, im;
} block;

#define INLINE static inline __attribute__((always_inline))

static inline int64_t doubles_of(int width)
{
    return (int64_t)2 << (width < LANE_BITS ? LANE_BITS : width);
}

INLINE block load(const double *at)
{
    block b = {*(const lanes *)at, *(const lanes *)(at + LANES)};
    return b;
}

INLINE void store(double *at, block b)
{
    *(lanes *)at = b.re;
    *(lanes *)(at + LANES) = b.im;
}

INLINE block plus(block a, block b)
{
    block c = {a.re + b.re, a.im + b.im};
    return c;
}

INLINE block times(block a, double re, double im)
{
    block c = {a.re * re - a.im * im, a.re * im + a.im * re};
    return c;
}

INLINE block scaled(block a, double by)
{
    block c = {a.re * by, a.im * by};
    return c;
}

INLINE double sum_of(lanes v)
{
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

/* --- lanes --------------------------------------------------------------------------------------

   What a gate does within blocks: out = own * v + other * (v with lanes exchanged over qubit p). */

#ifdef __clang__
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (lane_indices){__VA_ARGS__})
#endif

INLINE lanes exchanged(lanes v, int p)
{
    return p == 0   ? SHUFFLED(v, v, 1, 0, 3, 2, 5, 4, 7, 6)
           : p == 1 ? SHUFFLED(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
                    : SHUFFLED(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
}

/* Lanes where qubit p is 1 from `one`, the others from `zero`. */
INLINE lanes chosen(lanes zero, lanes one, int p)
{
    return p == 0   ? SHUFFLED(zero, one, 0, 9, 2, 11, 4, 13, 6, 15)
           : p == 1 ? SHUFFLED(zero, one, 0, 1, 10, 11, 4, 5, 14, 15)
                    : SHUFFLED(zero, one, 0, 1, 2, 3, 12, 13, 14, 15);
}

INLINE block exchanged_block(block b, int p)
{
    block c = {exchanged(b.re, p), exchanged(b.im, p)};
    return c;
}

INLINE block chosen_block(block zero, block one, int p)
{
    block c = {chosen(zero.re, one.re, p), chosen(zero.im, one.im, p)};
    return c;
}

INLINE lanes all_lanes(double value)
{
    lanes v = {value, value, value, value, value, value, value, value};
    return v;
}

/* By lane the value for its qubit p. */
INLINE lanes lanes_by(double zero, double one, int p)
{
    return chosen(all_lanes(zero), all_lanes(one), p);
}

/* `call` with P a constant, so that shuffles are single instructions. */
#define BY_LANE(p, call)                                                                           \
    switch (p) {                                                                                   \
    case 0: {                                                                                      \
        enum { P = 0 };                                                                            \
        call;                                                                                      \
        break;                                                                                     \
    }                                                                                              \
    case 1: {                                                                                      \
        enum { P = 1 };                                                                            \
        call;                                                                                      \
        break;                                                                                     \
    }                                                                                              \
    default: {                                                                                     \
        enum { P = 2 };                                                                            \
        call;                                                                                      \
    }                                                                                              \
    }

/* --- gates on one qubit -------------------------------------------------------------------------

   m: the matrix, m[0..1] the upper left entry, then row by row, real and imaginary parts. */

INLINE void turn_lanes(double *v, int64_t size, int p, const double *m)
{
    lanes own_re = lanes_by(m[0], m[6], p), own_im = lanes_by(m[1], m[7], p);
    lanes other_re = lanes_by(m[2], m[4], p), other_im = lanes_by(m[3], m[5], p);
    for (int64_t at = 0; at < size; at += BLOCK) {
        block b = load(v + at), x = exchanged_block(b, p), out;
        out.re = (b.re * own_re - b.im * own_im) + (x.re * other_re - x.im * other_im);
        out.im = (b.re * own_im + b.im * own_re) + (x.re * other_im + x.im * other_re);
        store(v + at, out);
    }
}

INLINE void turn_general(double *zero, double *one, const double *m)
{
    block a = load(zero), b = load(one);
    store(zero, plus(times(a, m[0], m[1]), times(b, m[2], m[3])));
    store(one, plus(times(a, m[4], m[5]), times(b, m[6], m[7])));
}

INLINE void turn_real(double *zero, double *one, const double *m)
{
    block a = load(zero), b = load(one);
    store(zero, plus(scaled(a, m[0]), scaled(b, m[2])));
    store(one, plus(scaled(a, m[4]), scaled(b, m[6])));
}

/* The matrix is diag(1, m[6] + i m[7]). */
INLINE void turn_phase(double *zero, double *one, const double *m)
{
    (void)zero;
    store(one, times(load(one), m[6], m[7]));
}

/* The matrix is ((0, 1), (m[4] + i m[5], 0)). */
INLINE void turn_flip(double *zero, double *one, const double *m)
{
    block a = load(zero), b = load(one);
    store(zero, b);
    store(one, times(a, m[4], m[5]));
}

#define OVER_PAIRS(v, size, p, body)                                                               \
    do {                                                                                           \
        int64_t half = (int64_t)2 << (p);                                                          \
        for (int64_t base = 0; base < (size); base += 2 * half)                                    \
            for (int64_t at = base; at < base + half; at += BLOCK) {                               \
                double *zero = (v) + at, *one = zero + half;                                       \
                body;                                                                              \
            }                                                                                      \
    } while (0)

/* --- CX and CZ ---------------------------------------------------------------------------------- */

INLINE void swap_blocks(double *one, double *two)
{
    block a = load(one), b = load(two);
    store(one, b);
    store(two, a);
}

/* The same where the lanes' qubit p is 1. */
INLINE void swap_chosen(double *one, double *two, int p)
{
    block a = load(one), b = load(two);
    store(one, chosen_block(a, b, p));
    store(two, chosen_block(b, a, p));
}

INLINE void cx_lanes(double *v, int64_t size, int control, int target)
{
    for (int64_t at = 0; at < size; at += BLOCK) {
        block b = load(v + at);
        store(v + at, chosen_block(b, exchanged_block(b, target), control));
    }
}

INLINE void cx_from_lane(double *v, int64_t size, int control, int target)
{
    BY_LANE(target, cx_lanes(v, size, control, P));
}

/* Blocks in which the qubits p < q, both beyond the lanes, are 0; `body` has them at `v + at`. */
#define OVER_QUADS(size, p, q, body)                                                               \
    do {                                                                                           \
        int64_t low = (int64_t)2 << (p), high = (int64_t)2 << (q);                                 \
        for (int64_t outer = 0; outer < (size); outer += 2 * high)                                 \
            for (int64_t middle = outer; middle < outer + high; middle += 2 * low)                 \
                for (int64_t at = middle; at < middle + low; at += BLOCK) {                        \
                    body;                                                                          \
                }                                                                                  \
    } while (0)

INLINE void cx(double *v, int64_t size, int control, int target)
{
    int64_t c = (int64_t)2 << control, t = (int64_t)2 << target;
    if (control >= LANE_BITS && target >= LANE_BITS) {
        int p = control < target ? control : target, q = control < target ? target : control;
        OVER_QUADS(size, p, q, swap_blocks(v + at + c, v + at + c + t));
    } else if (control >= LANE_BITS) {
        for (int64_t base = c; base < size; base += 2 * c)
            for (int64_t at = base; at < base + c; at += BLOCK)
                BY_LANE(target, store(v + at, exchanged_block(load(v + at), P)));
    } else if (target >= LANE_BITS) {
        BY_LANE(control, OVER_PAIRS(v, size, target, swap_chosen(zero, one, P)));
    } else {
        BY_LANE(control, cx_from_lane(v, size, P, target));
    }
}

INLINE void cz(double *v, int64_t size, int one, int two)
{
    int p = one < two ? one : two, q = one < two ? two : one;
    if (p >= LANE_BITS) {
        int64_t both = ((int64_t)2 << p) + ((int64_t)2 << q);
        OVER_QUADS(size, p, q, store(v + at + both, scaled(load(v + at + both), -1)));
        return;
    }
    lanes sign = lanes_by(1, -1, p);
    if (q >= LANE_BITS) {
        int64_t h = (int64_t)2 << q;
        for (int64_t base = h; base < size; base += 2 * h)
            for (int64_t at = base; at < base + h; at += BLOCK) {
                block b = load(v + at);
                b.re *= sign;
                b.im *= sign;
                store(v + at, b);
            }
        return;
    }
    sign = chosen(all_lanes(1), sign, q);
    for (int64_t at = 0; at < size; at += BLOCK) {
        block b = load(v + at);
        b.re *= sign;
        b.im *= sign;
        store(v + at, b);
    }
}

#endif
