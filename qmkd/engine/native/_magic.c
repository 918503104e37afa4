/* Turns about Pauli products and their measurement on state vectors, for magic_vectors.py.

   A product is given by two masks over qubits: x has those with X or Y, z those with Z or Y. With m
   letters Y it takes amplitudes a to

       (P a)[i] = (-i)^m s(i) a[i ^ x],    s(i) = -1 if i and z have an odd number of bits in common.

   Vectors have the layout of amplitudes.h: the lowest three bits of i choose a lane, the others a
   block. Everything is one pass over a vector. */

#include "arguments.h"

#include <math.h>

#include "amplitudes.h"

#define WIDTH_MAX 24
#define LEAF 256 /* blocks whose squares are added up in a row */

/* unit: (-i)^m. */
typedef struct {
    int64_t x, z;
    double unit_re, unit_im;
} product;

static product product_of(int64_t x, int64_t z)
{
    static const double re[4] = {1, 0, -1, 0}, im[4] = {0, -1, 0, 1};
    int letters = __builtin_popcountll((unsigned long long)(x & z)) & 3;
    product p = {x, z, re[letters], im[letters]};
    return p;
}

INLINE double sign_of(int64_t common)
{
    return __builtin_parityll((unsigned long long)common) ? -1 : 1;
}

INLINE lanes signs_of(int64_t z)
{
    lanes v;
    for (int lane = 0; lane < LANES; lane++)
        v[lane] = sign_of(lane & z);
    return v;
}

INLINE lanes permuted(lanes v, int64_t x)
{
    v = x & 1 ? exchanged(v, 0) : v;
    v = x & 2 ? exchanged(v, 1) : v;
    return x & 4 ? exchanged(v, 2) : v;
}

/* By a number and by lane, with lanes permuted before. */
INLINE block moved(block b, int64_t x, lanes by, double re, double im)
{
    block c = {permuted(b.re, x), permuted(b.im, x)};
    c = times(c, re, im);
    c.re *= by;
    c.im *= by;
    return c;
}

INLINE int64_t highest(int64_t mask)
{
    return mask ? INT64_C(1) << (63 - __builtin_clzll((unsigned long long)mask)) : 0;
}

/* The number with a 0 put in as bit p. */
INLINE int64_t with_zero(int64_t i, int p)
{
    int64_t under = (INT64_C(1) << p) - 1;
    return (i & ~under) << 1 | (i & under);
}

INLINE int64_t place_of(int64_t index)
{
    return (index >> LANE_BITS) * BLOCK + (index & (LANES - 1));
}

/* --- turning ------------------------------------------------------------------------------------ */

/* cos - i sin P. */
WIDE static void turn_one(double *v, int width, const product *p, double cos, double sin)
{
    int64_t blocks = doubles_of(width) / BLOCK, far = p->x >> LANE_BITS, top = highest(far);
    double re = sin * p->unit_im, im = -sin * p->unit_re;
    lanes signs = signs_of(p->z);
    for (int64_t at = 0; at < blocks; at++) {
        if (at & top)
            continue;
        double *one = v + at * BLOCK, *two = v + (at ^ far) * BLOCK;
        double sign = sign_of(at & p->z >> LANE_BITS);
        block a = load(one), b = load(two);
        store(one, plus(scaled(a, cos), moved(b, p->x, signs, sign * re, sign * im)));
        if (!far)
            continue;
        sign = sign_of((at ^ far) & p->z >> LANE_BITS);
        store(two, plus(scaled(b, cos), moved(a, p->x, signs, sign * re, sign * im)));
    }
}

/* One more qubit, behind the others, turned by X or Y out of |0>. */
WIDE static void grow_one(const double *from, double *to, int width, int letter_y, double cos,
                          double sin)
{
    double re = letter_y ? sin : 0, im = letter_y ? 0 : -sin;
    int64_t size = doubles_of(width);
    if (width >= LANE_BITS) {
        for (int64_t at = 0; at < size; at += BLOCK) {
            block b = load(from + at);
            store(to + at, scaled(b, cos));
            store(to + size + at, times(b, re, im));
        }
        return;
    }
    memset(to, 0, BLOCK * sizeof(double));
    for (int64_t i = 0; i < INT64_C(1) << width; i++) {
        double *zero = to + i, *one = zero + (INT64_C(1) << width);
        zero[0] = from[i] * cos;
        zero[LANES] = from[i + LANES] * cos;
        one[0] = from[i] * re - from[i + LANES] * im;
        one[LANES] = from[i] * im + from[i + LANES] * re;
    }
}

/* --- measuring ---------------------------------------------------------------------------------- */

INLINE void add_squares(lanes *sum, block b)
{
    *sum += b.re * b.re + b.im * b.im;
}

/* Weights of the parts with P = 1 and with P = -1. */
WIDE static void weigh_one(const double *v, int width, const product *p, double weight[2])
{
    int64_t blocks = doubles_of(width) / BLOCK, far = p->x >> LANE_BITS, top = highest(far);
    lanes signs = signs_of(p->z), whole[2] = {all_lanes(0), all_lanes(0)};
    for (int64_t leaf = 0; leaf < blocks; leaf += LEAF) {
        lanes sum[2] = {all_lanes(0), all_lanes(0)};
        for (int64_t at = leaf; at < leaf + LEAF && at < blocks; at++) {
            if (at & top)
                continue;
            double sign = sign_of(at & p->z >> LANE_BITS);
            block a = load(v + at * BLOCK);
            block b = moved(load(v + (at ^ far) * BLOCK), p->x, signs, sign * p->unit_re,
                            sign * p->unit_im);
            block c = {a.re - b.re, a.im - b.im};
            add_squares(&sum[0], plus(a, b));
            add_squares(&sum[1], c);
        }
        whole[0] += sum[0];
        whole[1] += sum[1];
    }
    double by = far ? 0.5 : 0.25; /* Each part is half of a sum, and is here once or twice. */
    weight[0] = sum_of(whole[0]) * by;
    weight[1] = sum_of(whole[1]) * by;
}

/* What is measured, and how it becomes the Z of a single qubit. measured: of sign `minus`. pivot: a
   qubit of its; if x has any, one of those. Of the vector with outcome 1 the other qubits then
   undergo `after`, in which they are numbered without the pivot. */
typedef struct {
    product measured, after;
    int minus, pivot, width;
} plan;

typedef struct {
    double re, im;
} number;

static number product_of_two(number a, number b)
{
    number c = {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
    return c;
}

/* The vector of the other qubits after an outcome, times a number. Where P has X or Y at the pivot,
   that is the half of a + P a or of a - P a in which the pivot is 0, and i of it for Y and outcome
   1; else it is what of `a` has the pivot such that P is right. */
static number scale_of(const plan *f, int outcome, double by)
{
    int64_t pivot = INT64_C(1) << f->pivot;
    int crossing = (f->measured.x & pivot) != 0;
    number scale = {crossing ? by * sqrt(0.5) : by, 0}, i = {0, 1};
    number after = {f->after.unit_re, f->after.unit_im};
    if (!outcome)
        return scale;
    if (crossing && f->measured.z & pivot)
        scale = product_of_two(scale, i);
    return product_of_two(scale, after);
}

/* One by one. slot: what is added to the indices of the result. */
static void fold_slowly(const plan *f, const double *from, double *to, int outcome, number scale,
                        int64_t slot)
{
    const product *p = &f->measured;
    int64_t pivot = INT64_C(1) << f->pivot;
    int odd = outcome ^ f->minus;
    for (int64_t half = 0; half < INT64_C(1) << (f->width - 1); half++) {
        int64_t i = with_zero(half, f->pivot), target = outcome ? half ^ f->after.x : half;
        number a = {0, 0}, by = scale;
        if (!(p->x & pivot)) {
            i |= (sign_of(i & p->z) < 0) ^ odd ? pivot : 0;
            a.re = from[place_of(i)];
            a.im = from[place_of(i) + LANES];
        } else {
            int64_t j = i ^ p->x;
            double sign = odd ? -sign_of(i & p->z) : sign_of(i & p->z);
            number b = {from[place_of(j)], from[place_of(j) + LANES]};
            number unit = {sign * p->unit_re, sign * p->unit_im};
            b = product_of_two(b, unit);
            a.re = from[place_of(i)] + b.re;
            a.im = from[place_of(i) + LANES] + b.im;
        }
        if (outcome && sign_of(target & f->after.z) < 0)
            by.re = -by.re, by.im = -by.im;
        a = product_of_two(a, by);
        to[place_of(target + slot)] = a.re;
        to[place_of(target + slot) + LANES] = a.im;
    }
}

/* The same by blocks, where the pivot chooses among these. */
WIDE static void fold_blocks(const plan *f, const double *from, double *to, int outcome,
                             number scale)
{
    const product *p = &f->measured;
    int pivot = f->pivot - LANE_BITS, crossing = (p->x >> f->pivot & 1) != 0;
    int64_t halves = doubles_of(f->width) / BLOCK / 2, far = p->x >> LANE_BITS;
    int64_t after = outcome ? f->after.x : 0, after_z = outcome ? f->after.z : 0;
    lanes signs = signs_of(p->z), after_signs = signs_of(after_z);
    double odd = outcome ^ f->minus ? -1 : 1;
    for (int64_t half = 0; half < halves; half++) {
        int64_t at = with_zero(half, pivot), target = half ^ after >> LANE_BITS;
        double sign = odd * sign_of(at & p->z >> LANE_BITS);
        block a = load(from + at * BLOCK);
        if (crossing) {
            block b = load(from + (at ^ far) * BLOCK);
            a = plus(a, moved(b, p->x, signs, sign * p->unit_re, sign * p->unit_im));
        } else {
            lanes zero = (1 + signs * sign) * 0.5, one = 1 - zero;
            block b = load(from + (at | INT64_C(1) << pivot) * BLOCK);
            a.re = a.re * zero + b.re * one;
            a.im = a.im * zero + b.im * one;
        }
        sign = sign_of(target & after_z >> LANE_BITS);
        store(to + target * BLOCK, moved(a, after, after_signs, sign * scale.re, sign * scale.im));
    }
}

static void fold_one(const plan *f, const double *from, double *to, int outcome, double by,
                     int slot)
{
    number scale = scale_of(f, outcome, by);
    if (f->pivot >= LANE_BITS && f->width > LANE_BITS)
        fold_blocks(f, from, to + (slot ? doubles_of(f->width - 1) : 0), outcome, scale);
    else
        fold_slowly(f, from, to, outcome, scale, slot ? INT64_C(1) << (f->width - 1) : 0);
}

/* --- Python ------------------------------------------------------------------------------------- */

static const char *const UNFIT = "the buffers do not fit one another";

/* Numbers in 0..most; 0 with an exception where one is not, or where there are too few arguments. */
static int read_numbers(PyObject *const *args, Py_ssize_t given, Py_ssize_t expected,
                        const int *places, const int64_t *most, int count, int64_t *into)
{
    if (given != expected) {
        PyErr_Format(PyExc_TypeError, "%zd arguments are wanted, not %zd", expected, given);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        into[i] = PyLong_AsLongLong(args[places[i]]);
        if (PyErr_Occurred())
            return 0;
        if (into[i] < 0 || into[i] > most[i]) {
            PyErr_Format(PyExc_ValueError, "a number is not in 0..%lld", (long long)most[i]);
            return 0;
        }
    }
    return 1;
}

#define MASK_MAX ((INT64_C(1) << WIDTH_MAX) - 1)

/* Width, x and z behind the vectors. */
static int read_product(PyObject *const *args, Py_ssize_t given, Py_ssize_t expected, int64_t *into)
{
    static const int places[3] = {1, 2, 3};
    static const int64_t most[3] = {WIDTH_MAX, MASK_MAX, MASK_MAX};
    if (!read_numbers(args, given, expected, places, most, 3, into))
        return 0;
    if ((into[1] | into[2]) >> into[0]) {
        PyErr_SetString(PyExc_ValueError, "a product on qubits that are not there");
        return 0;
    }
    return 1;
}

static int in_range(const int32_t *sources, int64_t count, int64_t branches)
{
    for (int64_t i = 0; i < count; i++)
        if (sources[i] < 0 || sources[i] >= branches)
            return 0;
    return 1;
}

/* turn(psi, width, x, z, angles): angles, of each branch cos and sin; nothing happens where sin
   is 0. */
static PyObject *turn(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[2] = {{0, 8, 1, "psi"}, {4, 8, 0, "angles"}};
    Py_buffer view[2];
    int64_t count[2], number[3];
    if (!read_product(args, given, 5, number) || open_fields(args, fields, 2, view, count))
        return NULL;
    int width = (int)number[0];
    const double *angles = view[1].buf;
    if (count[1] % 2 || count[1] / 2 * doubles_of(width) != count[0])
        return closed(view, 2, UNFIT);
    product p = product_of(number[1], number[2]);
    for (int64_t branch = 0; branch < count[1] / 2; branch++)
        if (angles[2 * branch + 1] != 0)
            turn_one((double *)view[0].buf + branch * doubles_of(width), width, &p,
                     angles[2 * branch], angles[2 * branch + 1]);
    return closed(view, 2, NULL);
}

/* grow(psi, width, y, sources, angles, into): into, for each of `sources` that branch with one more
   qubit, turned out of |0> about X, or Y where y is 1, by the angle of cos and sin. */
static PyObject *grow(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[4] = {
        {0, 8, 0, "psi"}, {3, 4, 0, "sources"}, {4, 8, 0, "angles"}, {5, 8, 1, "into"}};
    static const int places[2] = {1, 2};
    static const int64_t most[2] = {WIDTH_MAX - 1, 1};
    Py_buffer view[4];
    int64_t count[4], number[2];
    if (!read_numbers(args, given, 6, places, most, 2, number) ||
        open_fields(args, fields, 4, view, count))
        return NULL;
    int width = (int)number[0];
    int64_t size = doubles_of(width), size_to = doubles_of(width + 1);
    const int32_t *sources = view[1].buf;
    const double *angles = view[2].buf;
    if (count[0] % size || count[2] != 2 * count[1] || count[3] != count[1] * size_to ||
        !in_range(sources, count[1], count[0] / size))
        return closed(view, 4, UNFIT);
    for (int64_t i = 0; i < count[1]; i++)
        grow_one((const double *)view[0].buf + sources[i] * size,
                 (double *)view[3].buf + i * size_to, width, (int)number[1], angles[2 * i],
                 angles[2 * i + 1]);
    return closed(view, 4, NULL);
}

/* weigh(psi, width, x, z, into): into, of each branch the weights of its parts with P = 1 and -1. */
static PyObject *weigh(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[2] = {{0, 8, 0, "psi"}, {4, 8, 1, "into"}};
    Py_buffer view[2];
    int64_t count[2], number[3];
    if (!read_product(args, given, 5, number) || open_fields(args, fields, 2, view, count))
        return NULL;
    int width = (int)number[0];
    if (count[1] % 2 || count[1] / 2 * doubles_of(width) != count[0])
        return closed(view, 2, UNFIT);
    product p = product_of(number[1], number[2]);
    for (int64_t branch = 0; branch < count[1] / 2; branch++)
        weigh_one((const double *)view[0].buf + branch * doubles_of(width), width, &p,
                  (double *)view[1].buf + 2 * branch);
    return closed(view, 2, NULL);
}

enum { DROP, STAY, CLEAR };
enum { ZERO, ONE, BOTH };

static void fold_all(const plan *f, int mode, const double *from, double *to,
                     const int32_t *sources, const uint8_t *outcomes, const double *factors,
                     int64_t count)
{
    int64_t size = doubles_of(f->width), size_to = doubles_of(f->width - (mode == DROP));
    for (int64_t i = 0; i < count; i++, to += size_to) {
        const double *v = from + sources[i] * size;
        int outcome = outcomes[i];
        if (mode != DROP || f->width <= LANE_BITS)
            memset(to, 0, (size_t)size_to * sizeof(double));
        if (outcome == BOTH) {
            fold_one(f, v, to, 0, 1, 0);
            fold_one(f, v, to, 1, 1, 1);
        } else {
            fold_one(f, v, to, outcome, factors[i], mode == STAY && outcome);
        }
    }
}

/* fold(psi, width, x, z, minus, pivot, mode, after_x, after_z, sources, outcomes, factors, into):
   into, for each of `sources` what is left of that branch after the outcome, times the factor, the
   product being the Z of the pivot now; outcome 2 is for no measurement. mode: 0, the pivot leaves
   the vector; 1, it goes behind the others; 2, it goes there, put to 0. */
static PyObject *fold(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[5] = {{0, 8, 0, "psi"},
                                    {9, 4, 0, "sources"},
                                    {10, 1, 0, "outcomes"},
                                    {11, 8, 0, "factors"},
                                    {12, 8, 1, "into"}};
    static const int places[5] = {4, 5, 6, 7, 8};
    static const int64_t most[5] = {1, WIDTH_MAX - 1, CLEAR, MASK_MAX, MASK_MAX};
    Py_buffer view[5];
    int64_t count[5], number[8];
    if (!read_product(args, given, 13, number) ||
        !read_numbers(args, given, 13, places, most, 5, number + 3) ||
        open_fields(args, fields, 5, view, count))
        return NULL;
    plan f = {product_of(number[1], number[2]), product_of(number[6], number[7]), (int)number[3],
              (int)number[4], (int)number[0]};
    int mode = (int)number[5];
    int64_t pivot = INT64_C(1) << f.pivot, own = f.measured.x ? f.measured.x : f.measured.z;
    if (!(own & pivot) || (number[6] | number[7]) >> (f.width - 1))
        return closed(view, 5, "the pivot is no qubit of the product, or the rest has others");
    const uint8_t *outcomes = view[2].buf;
    int64_t size = doubles_of(f.width), size_to = doubles_of(f.width - (mode == DROP));
    int fits = count[0] % size == 0 && count[1] == count[2] && count[1] == count[3] &&
               count[4] == count[1] * size_to && in_range(view[1].buf, count[1], count[0] / size);
    for (int64_t i = 0; fits && i < count[2]; i++)
        fits = outcomes[i] <= (mode == DROP ? ONE : BOTH);
    if (!fits)
        return closed(view, 5, UNFIT);
    fold_all(&f, mode, view[0].buf, view[4].buf, view[1].buf, outcomes, view[3].buf, count[1]);
    return closed(view, 5, NULL);
}

static PyMethodDef methods[] = {
    {"turn", (PyCFunction)(void (*)(void))turn, METH_FASTCALL, NULL},
    {"grow", (PyCFunction)(void (*)(void))grow, METH_FASTCALL, NULL},
    {"weigh", (PyCFunction)(void (*)(void))weigh, METH_FASTCALL, NULL},
    {"fold", (PyCFunction)(void (*)(void))fold, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_magic", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__magic(void)
{
    return PyModule_Create(&module);
}
