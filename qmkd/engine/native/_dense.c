/* State vectors of many branches, for vectors.py: gates, weights, projections, comparison.

   `psi` is one vector after the other, each as amplitudes.h lays it out. */

#include "arguments.h"

#include <math.h>
#include <stdlib.h>

#include "amplitudes.h"

#define WIDTH_MAX 24
#define TILE_BITS_MAX 16
#define TILE_BYTES ((size_t)16 << TILE_BITS_MAX)

/* --- circuits -----------------------------------------------------------------------------------

   A circuit is passes, each of gates on few qubits: the pass takes the amplitudes of these qubits
   tile by tile into a buffer that fits the near caches, applies all its gates, and puts them back.
   Gates name qubits by their place in the tile. */

enum { GENERAL, REAL, PHASE, FLIP, CX, CZ, KINDS };

/* Where bit `control` of a branch's pattern is `value`, or everywhere if control is -1. */
typedef struct {
    int32_t kind, one, two, control, value;
} gate;

typedef struct {
    const gate *gates;
    const double *matrices; /* eight numbers a gate */
    int64_t gate_count;
    const int32_t *tile; /* qubits, ascending */
    int bits, width;
} pass;

static const char *fault(const pass *p)
{
    int least = p->width < LANE_BITS ? LANE_BITS : p->width;
    if (p->bits < LANE_BITS || p->bits > least || p->bits > TILE_BITS_MAX)
        return "a tile out of range";
    for (int i = 0; i < p->bits; i++)
        if (p->tile[i] < i || (i < LANE_BITS && p->tile[i] != i) ||
            (i && p->tile[i] <= p->tile[i - 1]) || p->tile[i] >= least)
            return "a tile out of order";
    for (const gate *g = p->gates; g < p->gates + p->gate_count; g++) {
        int pair = g->kind == CX || g->kind == CZ;
        if (g->kind < 0 || g->kind >= KINDS || g->one < 0 || g->one >= p->bits || g->two < 0 ||
            g->two >= p->bits || (pair && g->one == g->two) || g->control < -1 || g->control > 63)
            return "a gate out of range";
    }
    return NULL;
}

INLINE void apply(double *v, int64_t size, const gate *g, const double *m)
{
    if (g->kind == CX) {
        cx(v, size, g->one, g->two);
    } else if (g->kind == CZ) {
        cz(v, size, g->one, g->two);
    } else if (g->one < LANE_BITS) {
        BY_LANE(g->one, turn_lanes(v, size, P, m));
    } else if (g->kind == PHASE) {
        OVER_PAIRS(v, size, g->one, turn_phase(zero, one, m));
    } else if (g->kind == REAL) {
        OVER_PAIRS(v, size, g->one, turn_real(zero, one, m));
    } else if (g->kind == FLIP) {
        OVER_PAIRS(v, size, g->one, turn_flip(zero, one, m));
    } else {
        OVER_PAIRS(v, size, g->one, turn_general(zero, one, m));
    }
}

WIDE static void apply_all(const pass *p, double *v, uint64_t pattern)
{
    const double *m = p->matrices;
    for (const gate *g = p->gates; g < p->gates + p->gate_count; g++, m += 8)
        if (g->control < 0 || (int32_t)(pattern >> g->control & 1) == g->value)
            apply(v, (int64_t)2 << p->bits, g, m);
}

/* Where the qubits `tile`, ascending, are the bits of `index`. */
static inline int64_t spread(int64_t index, const int32_t *tile, int bits)
{
    int64_t found = 0;
    for (int i = 0; i < bits; i++)
        found |= (index >> i & 1) << tile[i];
    return found;
}

/* The least index with bits of `tile` 0 that is above `index`, or 0 where there is none: a counter
   that skips the tile's qubits. */
static inline int64_t next_outside(int64_t index, int64_t inside, int width)
{
    return (((index | inside) + 1) & ~inside) & (((int64_t)1 << width) - 1);
}

/* Copy a tile's runs of contiguous amplitudes to the buffer, or back. */
static void move_tile(double *v, double *buffer, const int64_t *runs, int64_t run_count,
                      int64_t run, int back)
{
    for (int64_t i = 0; i < run_count; i++, buffer += run) {
        if (back)
            memcpy(v + runs[i], buffer, (size_t)run * sizeof(double));
        else
            memcpy(buffer, v + runs[i], (size_t)run * sizeof(double));
    }
}

static void run_pass(const pass *p, double *v, uint64_t pattern, double *buffer)
{
    int low = 0;
    while (low < p->bits && p->tile[low] == low)
        low++;
    if (low == p->bits) {
        for (int64_t at = 0; at < doubles_of(p->width); at += (int64_t)2 << low)
            apply_all(p, v + at, pattern);
        return;
    }
    int64_t runs[1 << (TILE_BITS_MAX - LANE_BITS)], count = (int64_t)1 << (p->bits - low);
    int64_t inside = 0, at = 0;
    for (int64_t i = 0; i < count; i++)
        runs[i] = 2 * spread(i, p->tile + low, p->bits - low);
    for (int i = 0; i < p->bits; i++)
        inside |= (int64_t)1 << p->tile[i];
    do {
        move_tile(v + 2 * at, buffer, runs, count, (int64_t)2 << low, 0);
        apply_all(p, buffer, pattern);
        move_tile(v + 2 * at, buffer, runs, count, (int64_t)2 << low, 1);
        at = next_outside(at, inside, p->width);
    } while (at);
}

/* --- weights ------------------------------------------------------------------------------------ */

#define LEAF 1024 /* doubles that are summed in a row; longer sums are made of two halves */

/* Add up squares of the amplitudes whose qubit p >= LANE_BITS is 0 into sum[0], else into sum[1];
   where half >= size, all belong together, in sum[0]. */
WIDE static void add_squares(const double *v, int64_t size, int64_t half, lanes sum[2])
{
    if (size > LEAF) {
        lanes left[2], right[2];
        add_squares(v, size / 2, half, left);
        add_squares(v + size / 2, size / 2, half, right);
        if (size == 2 * half) {
            sum[0] = left[0];
            sum[1] = right[0];
        } else {
            sum[0] = left[0] + right[0];
            sum[1] = left[1] + right[1];
        }
        return;
    }
    lanes sums[2] = {all_lanes(0), all_lanes(0)};
    for (int64_t base = 0, one = 0; base < size; base += half, one ^= 1) {
        lanes re = all_lanes(0), im = all_lanes(0);
        for (int64_t at = base; at < base + half && at < size; at += BLOCK) {
            block b = load(v + at);
            re += b.re * b.re;
            im += b.im * b.im;
        }
        sums[one] += re + im;
    }
    sum[0] = sums[0];
    sum[1] = sums[1];
}

/* Weights of the amplitudes whose qubit p is 0 and 1. */
static void weigh(const double *v, int width, int p, double weight[2])
{
    lanes sum[2];
    if (p >= LANE_BITS) {
        add_squares(v, doubles_of(width), (int64_t)2 << p, sum);
        weight[0] = sum_of(sum[0]);
        weight[1] = sum_of(sum[1]);
        return;
    }
    add_squares(v, doubles_of(width), doubles_of(width), sum);
    weight[0] = sum_of(sum[0] * lanes_by(1, 0, p));
    weight[1] = sum_of(sum[0] * lanes_by(0, 1, p));
}

/* --- projections -------------------------------------------------------------------------------- */

enum { DROP, STAY, CLEAR, MODES };
enum { ZERO, ONE, BOTH };

static inline int64_t place_of(int64_t index)
{
    return (index >> LANE_BITS) * BLOCK + (index & (LANES - 1));
}

/* Without its qubit p, which is `outcome`. */
static void drop(const double *from, double *to, int width, int p, int outcome, double by)
{
    int64_t half = (int64_t)2 << p, size = doubles_of(width);
    if (p >= LANE_BITS) {
        for (int64_t base = outcome * half; base < size; base += 2 * half)
            for (int64_t at = base; at < base + half; at += BLOCK, to += BLOCK)
                store(to, scaled(load(from + at), by));
        return;
    }
    memset(to, 0, (size_t)doubles_of(width - 1) * sizeof(double));
    int64_t under = ((int64_t)1 << p) - 1;
    for (int64_t i = 0; i < (int64_t)1 << (width - 1); i++) {
        int64_t j = (i & ~under) << 1 | (int64_t)outcome << p | (i & under);
        to[place_of(i)] = from[place_of(j)] * by;
        to[place_of(i) + LANES] = from[place_of(j) + LANES] * by;
    }
}

/* Only what has `outcome` in its qubit p; afterwards that is 0 if `clear`. */
static void keep(const double *from, double *to, int width, int p, int outcome, double by, int clear)
{
    int64_t half = (int64_t)2 << p, size = doubles_of(width);
    if (p < LANE_BITS) {
        lanes kept = lanes_by(outcome ? 0 : by, outcome ? by : 0, p);
        for (int64_t at = 0; at < size; at += BLOCK) {
            block b = load(from + at);
            b.re *= kept;
            b.im *= kept;
            if (clear && outcome)
                BY_LANE(p, b = exchanged_block(b, P));
            store(to + at, b);
        }
        return;
    }
    int64_t here = outcome && !clear ? half : 0, source = outcome ? half : 0;
    for (int64_t base = 0; base < size; base += 2 * half) {
        for (int64_t at = base; at < base + half; at += BLOCK)
            store(to + at + here, scaled(load(from + at + source), by));
        memset(to + base + (half - here), 0, (size_t)half * sizeof(double));
    }
}

/* --- comparison --------------------------------------------------------------------------------- */

#define PRINT_BLOCKS 64
#define NEAR 1e-9     /* prints of one state differ by less */
#define SAME 1e-24    /* squared distance, the best phase taken, below which states are one */
#define LOOK_BACK 8   /* states with near prints that one is compared with, at most */

static uint64_t scrambled(uint64_t x)
{
    /* SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA'14). */
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

/* In [-1, 1), the same for the same x. */
static double scattered(uint64_t x)
{
    return (double)(int64_t)(scrambled(x) >> 11) * 0x1p-52 - 1;
}

static double weights_of_print[PRINT_BLOCKS * BLOCK];

static void fill_weights_of_print(void)
{
    for (int i = 0; i < PRINT_BLOCKS * BLOCK; i++)
        weights_of_print[i] = scattered((uint64_t)i);
}

WIDE static void dot_with_weights(const double *v, int64_t size, double found[2])
{
    lanes re = all_lanes(0), im = all_lanes(0);
    for (int64_t at = 0; at < size; at += BLOCK) {
        block b = load(v + at), w = load(weights_of_print + at);
        re += b.re * w.re - b.im * w.im;
        im += b.re * w.im + b.im * w.re;
    }
    found[0] = sum_of(re);
    found[1] = sum_of(im);
}

/* A number that is the same for states that are the same up to phase, and else hardly ever: the
   square of the overlap with a fixed vector. */
static double print_of(const double *v, int width)
{
    int64_t size = doubles_of(width), step = PRINT_BLOCKS * BLOCK;
    double re = 0, im = 0;
    for (int64_t at = 0; at < size; at += step) {
        double d[2], x = scattered(~(uint64_t)(2 * at)), y = scattered(~(uint64_t)(2 * at + 1));
        dot_with_weights(v + at, size - at < step ? size - at : step, d);
        re += d[0] * x - d[1] * y;
        im += d[0] * y + d[1] * x;
    }
    return re * re + im * im;
}

WIDE static void overlap(const double *a, const double *b, int64_t size, double found[2])
{
    lanes re = all_lanes(0), im = all_lanes(0);
    for (int64_t at = 0; at < size; at += BLOCK) {
        block p = load(a + at), q = load(b + at);
        re += p.re * q.re + p.im * q.im;
        im += p.re * q.im - p.im * q.re;
    }
    found[0] = sum_of(re);
    found[1] = sum_of(im);
}

WIDE static double distance(const double *a, const double *b, int64_t size, const double phase[2])
{
    lanes sum = all_lanes(0);
    for (int64_t at = 0; at < size; at += BLOCK) {
        block p = times(load(a + at), phase[0], phase[1]), q = load(b + at);
        sum += (p.re - q.re) * (p.re - q.re) + (p.im - q.im) * (p.im - q.im);
    }
    return sum_of(sum);
}

static int alike(const double *a, const double *b, int width)
{
    double phase[2];
    overlap(a, b, doubles_of(width), phase);
    double size = sqrt(phase[0] * phase[0] + phase[1] * phase[1]);
    if (size < 0.5)
        return 0;
    phase[0] /= size;
    phase[1] /= size;
    return distance(a, b, doubles_of(width), phase) < SAME;
}

/* --- Python ------------------------------------------------------------------------------------- */

/* A small number, or -1 with an exception. */
static int small(PyObject *object, int most)
{
    long value = PyLong_AsLong(object);
    if (PyErr_Occurred())
        return -1;
    if (value < 0 || value > most) {
        PyErr_Format(PyExc_ValueError, "%ld is not in 0..%d", value, most);
        return -1;
    }
    return (int)value;
}

/* run(psi, width, gates, matrices, tile, patterns): one pass. patterns, one per branch, say which of
   the guarded gates happen. */
static PyObject *run(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[5] = {{0, 8, 1, "psi"},
                                    {2, 4, 0, "gates"},
                                    {3, 8, 0, "matrices"},
                                    {4, 4, 0, "tile"},
                                    {5, 8, 0, "patterns"}};
    Py_buffer view[5];
    int64_t count[5];
    if (!wanted(given, 6))
        return NULL;
    int width = small(args[1], WIDTH_MAX);
    if (width < 0 || open_fields(args, fields, 5, view, count))
        return NULL;
    pass p = {view[1].buf, view[2].buf, count[1] / 5, view[3].buf, (int)count[3], width};
    int fits = count[0] == count[4] * doubles_of(width) && count[1] % 5 == 0 &&
               count[2] == 8 * p.gate_count && count[3] <= TILE_BITS_MAX;
    const char *why = fits ? fault(&p) : "the buffers do not fit one another";
    double *buffer = why ? NULL : aligned_alloc(64, TILE_BYTES);
    if (!why && !buffer) {
        closed(view, 5, "");
        return PyErr_NoMemory();
    }
    if (!why)
        for (int64_t branch = 0; branch < count[4]; branch++)
            run_pass(&p, (double *)view[0].buf + branch * doubles_of(width),
                     ((const uint64_t *)view[4].buf)[branch], buffer);
    free(buffer);
    return closed(view, 5, why);
}

/* weights(psi, width, qubit, into): into, of each branch its weights with the qubit 0 and 1. */
static PyObject *weights(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[2] = {{0, 8, 0, "psi"}, {3, 8, 1, "into"}};
    Py_buffer view[2];
    int64_t count[2];
    if (!wanted(given, 4))
        return NULL;
    int width = small(args[1], WIDTH_MAX);
    int qubit = width < 0 ? -1 : small(args[2], width - 1);
    if (qubit < 0 || open_fields(args, fields, 2, view, count))
        return NULL;
    if (count[1] / 2 * doubles_of(width) != count[0] || count[1] % 2)
        return closed(view, 2, "the buffers do not fit one another");
    for (int64_t branch = 0; branch < count[1] / 2; branch++)
        weigh((const double *)view[0].buf + branch * doubles_of(width), width, qubit,
              (double *)view[1].buf + 2 * branch);
    return closed(view, 2, NULL);
}

WIDE static void project_all(const double *from, double *to, int width, int qubit, int mode,
                             const int32_t *sources, const uint8_t *outcomes, const double *by,
                             int64_t number)
{
    int64_t step = doubles_of(width), step_to = doubles_of(mode == DROP ? width - 1 : width);
    for (int64_t i = 0; i < number; i++, to += step_to) {
        const double *v = from + sources[i] * step;
        if (outcomes[i] == BOTH)
            memcpy(to, v, (size_t)step * sizeof(double));
        else if (mode == DROP)
            drop(v, to, width, qubit, outcomes[i], by[i]);
        else
            keep(v, to, width, qubit, outcomes[i], by[i], mode == CLEAR);
    }
}

/* project(psi, width, qubit, mode, sources, outcomes, factors, into): into, for each of `sources`
   what is left of that branch after the outcome (2 for no measurement), times the factor. mode: 0,
   the qubit leaves the vector; 1, it stays; 2, it stays and is put to 0. */
static PyObject *project(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[5] = {{0, 8, 0, "psi"},
                                    {4, 4, 0, "sources"},
                                    {5, 1, 0, "outcomes"},
                                    {6, 8, 0, "factors"},
                                    {7, 8, 1, "into"}};
    Py_buffer view[5];
    int64_t count[5];
    if (!wanted(given, 8))
        return NULL;
    int width = small(args[1], WIDTH_MAX);
    int qubit = width < 0 ? -1 : small(args[2], width - 1);
    int mode = qubit < 0 ? -1 : small(args[3], MODES - 1);
    if (mode < 0 || open_fields(args, fields, 5, view, count))
        return NULL;
    const int32_t *sources = view[1].buf;
    const uint8_t *outcomes = view[2].buf;
    int64_t branches = count[0] / doubles_of(width), number = count[1];
    const char *why = NULL;
    if (count[0] % doubles_of(width) || count[2] != number || count[3] != number ||
        count[4] != number * doubles_of(mode == DROP ? width - 1 : width))
        why = "the buffers do not fit one another";
    for (int64_t i = 0; i < number && !why; i++)
        if (sources[i] < 0 || sources[i] >= branches || outcomes[i] > (mode == DROP ? ONE : BOTH))
            why = "no such branch or outcome";
    if (!why)
        project_all(view[0].buf, view[4].buf, width, qubit, mode, sources, outcomes, view[3].buf,
                    number);
    return closed(view, 5, why);
}

/* prints(psi, width, into): into, one number per branch that is near for the same states. */
static PyObject *prints(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[2] = {{0, 8, 0, "psi"}, {2, 8, 1, "into"}};
    Py_buffer view[2];
    int64_t count[2];
    if (!wanted(given, 3))
        return NULL;
    int width = small(args[1], WIDTH_MAX);
    if (width < 0 || open_fields(args, fields, 2, view, count))
        return NULL;
    if (count[0] != count[1] * doubles_of(width))
        return closed(view, 2, "the buffers do not fit one another");
    for (int64_t branch = 0; branch < count[1]; branch++)
        ((double *)view[1].buf)[branch] =
            print_of((const double *)view[0].buf + branch * doubles_of(width), width);
    return closed(view, 2, NULL);
}

/* Of each branch one that is the same; `order` ascends in prints. Compared are those that stand for
   others so far, the last LOOK_BACK of them. */
static void find_same(const double *psi, int width, const int32_t *order, const double *print,
                      int32_t *same, int64_t number)
{
    int64_t step = doubles_of(width), found = 0;
    int32_t heads[LOOK_BACK];
    for (int64_t i = 0; i < number; i++) {
        int32_t branch = order[i];
        same[branch] = branch;
        for (int64_t j = found - 1; j >= 0 && j >= found - LOOK_BACK; j--) {
            int32_t head = heads[j % LOOK_BACK];
            if (print[branch] - print[head] > NEAR)
                break;
            if (alike(psi + head * step, psi + branch * step, width)) {
                same[branch] = head;
                break;
            }
        }
        if (same[branch] == branch)
            heads[found++ % LOOK_BACK] = branch;
    }
}

/* join(psi, width, order, prints, same): order, the branches by print; same, of each branch one
   that holds the same state up to phase, itself where none before it in the order does. */
static PyObject *join(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[4] = {
        {0, 8, 0, "psi"}, {2, 4, 0, "order"}, {3, 8, 0, "prints"}, {4, 4, 1, "same"}};
    Py_buffer view[4];
    int64_t count[4];
    if (!wanted(given, 5))
        return NULL;
    int width = small(args[1], WIDTH_MAX);
    if (width < 0 || open_fields(args, fields, 4, view, count))
        return NULL;
    int64_t number = count[1];
    const int32_t *order = view[1].buf;
    const char *why = NULL;
    if (count[0] != number * doubles_of(width) || count[2] != number || count[3] != number)
        why = "the buffers do not fit one another";
    for (int64_t i = 0; i < number && !why; i++)
        if (order[i] < 0 || order[i] >= number)
            why = "no such branch";
    if (!why)
        find_same(view[0].buf, width, order, view[2].buf, view[3].buf, number);
    return closed(view, 4, why);
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, NULL},
    {"weights", (PyCFunction)(void (*)(void))weights, METH_FASTCALL, NULL},
    {"project", (PyCFunction)(void (*)(void))project, METH_FASTCALL, NULL},
    {"prints", (PyCFunction)(void (*)(void))prints, METH_FASTCALL, NULL},
    {"join", (PyCFunction)(void (*)(void))join, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_dense", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__dense(void)
{
    fill_weights_of_print();
    return PyModule_Create(&module);
}
