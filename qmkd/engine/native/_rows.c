/* The row machine: straight-line code over rows of bits, one bit per shot.

   Code runs tile by tile, a tile being the shots whose strikes are drawn together, so that all rows
   of a tile stay in the nearest caches. What the instructions mean is in ../rows.py. Row 0 has the
   bits of all shots there are. */

#include "buffers.h"
#include "strikes.h"

#define TILE_WORDS (STRIKE_SHOTS / 64)

enum { ZERO, COPY, XOR, AND, AND_NOT, OR, XOR_AND, COIN, STRIKE, OPERATIONS };

typedef struct {
    int32_t op, into, one, two;
} instruction;

typedef struct {
    uint64_t epoch, node, draw;
} address;

/* gaps: which table. bounds: where its bounds begin, kinds - 1 of them. pattern: where, in the pool,
   kinds + 1 ends are, each the place in the pool where a kind begins: the rows that it turns, by
   their place from `rows` on. Row 0 there stands for one that does not matter. */
typedef struct {
    int32_t gaps, bounds, kinds, pattern, rows;
} noise;

typedef struct {
    const instruction *code;
    int64_t length;
    uint64_t *rows;
    int64_t row_count, row_words;
    const address *addresses;
    int64_t address_count;
    const noise *noises;
    int64_t noise_count;
    const uint64_t *gaps;
    int64_t gaps_count;
    const uint64_t *bounds;
    int64_t bounds_count;
    const int32_t *pool;
    int64_t pool_count;
} program;

/* Everything that an instruction names is there. */
static const char *fault_of_noise(const program *p, const noise *n)
{
    if (n->gaps < 0 || ((int64_t)n->gaps + 1) * GAPS_WORDS > p->gaps_count)
        return "no such table of gaps";
    if (n->kinds < 1 || n->bounds < 0 || (int64_t)n->bounds + n->kinds - 1 > p->bounds_count)
        return "bounds out of range";
    if (n->pattern < 0 || n->pattern + (int64_t)n->kinds + 1 > p->pool_count || n->rows < 0)
        return "a pattern out of range";
    const int32_t *ends = p->pool + n->pattern;
    for (int32_t kind = 0; kind < n->kinds; kind++) {
        if (ends[kind] < 0 || ends[kind] > ends[kind + 1] || ends[kind + 1] > p->pool_count)
            return "a pattern out of range";
        for (int32_t at = ends[kind]; at < ends[kind + 1]; at++) {
            if (p->pool[at] < 0 || n->rows + (int64_t)p->pool[at] >= p->pool_count)
                return "a pattern out of range";
            int32_t row = p->pool[n->rows + p->pool[at]];
            if (row < 0 || row >= p->row_count)
                return "a strike on no row";
        }
    }
    return NULL;
}

static const char *fault(const program *p)
{
    for (int64_t at = 0; at < p->noise_count; at++) {
        const char *why = fault_of_noise(p, &p->noises[at]);
        if (why)
            return why;
    }
    for (int64_t at = 0; at < p->length; at++) {
        const instruction *i = &p->code[at];
        int random = i->op == COIN || i->op == STRIKE;
        int64_t one_end = random ? p->address_count : p->row_count;
        int64_t into_end = i->op == STRIKE ? p->noise_count : p->row_count;
        if (i->op < 0 || i->op >= OPERATIONS || i->into < (i->op != STRIKE) || i->into >= into_end ||
            i->one < 0 || i->one >= one_end || i->two < 0 || i->two >= p->row_count)
            return "an instruction out of range";
    }
    return NULL;
}

/* The strikes of one tile: bits into rows, in the shots of `mask`. `at` is the tile's first word. */
static void strike_tile(const program *p, const noise *n, const place *where, uint64_t block,
                        int64_t at, int64_t word_first, int64_t words, const uint64_t *mask)
{
    striking s = strike_block(where, p->gaps + n->gaps * (int64_t)GAPS_WORDS, block);
    const int32_t *ends = p->pool + n->pattern, *rows = p->pool + n->rows;
    uint64_t word;
    while (next_strike(&s, &word)) {
        int64_t place_in = (s.shot >> 6) - word_first;
        if (place_in < 0)
            continue;
        if (place_in >= words)
            return;
        uint64_t bit = UINT64_C(1) << (s.shot & 63) & mask[at + place_in];
        int32_t kind = pick(p->bounds + n->bounds, n->kinds, word);
        for (const int32_t *i = p->pool + ends[kind]; i < p->pool + ends[kind + 1]; i++)
            if (rows[*i])
                p->rows[rows[*i] * p->row_words + at + place_in] ^= bit;
    }
}

/* Words [at, at + words) of every row; they are words [word_first, ...) of the block. */
WIDE static void run_tile(const program *p, uint64_t seed, uint64_t block, int64_t at,
                          int64_t word_first, int64_t words)
{
    uint64_t *rows = p->rows + at;
    for (const instruction *i = p->code; i < p->code + p->length; i++) {
        uint64_t *into = rows + i->into * p->row_words;
        const uint64_t *one = rows + i->one * p->row_words, *two = rows + i->two * p->row_words;
        switch (i->op) {
        case ZERO:
            memset(into, 0, (size_t)words * 8);
            break;
        case COPY:
            memmove(into, one, (size_t)words * 8);
            break;
        case XOR:
            for (int64_t w = 0; w < words; w++)
                into[w] ^= one[w];
            break;
        case AND:
            for (int64_t w = 0; w < words; w++)
                into[w] = one[w] & two[w];
            break;
        case AND_NOT:
            for (int64_t w = 0; w < words; w++)
                into[w] = one[w] & ~two[w];
            break;
        case OR:
            for (int64_t w = 0; w < words; w++)
                into[w] = one[w] | two[w];
            break;
        case XOR_AND:
            for (int64_t w = 0; w < words; w++)
                into[w] ^= one[w] & two[w];
            break;
        case COIN: {
            const address *a = &p->addresses[i->one];
            place where = {seed, a->epoch, a->node, a->draw};
            fill_coins(&where, block * TILE_WORDS + (uint64_t)word_first, words, into);
            for (int64_t w = 0; w < words; w++)
                into[w] &= rows[w];
            break;
        }
        default: {
            const address *a = &p->addresses[i->one];
            place where = {seed, a->epoch, a->node, a->draw};
            strike_tile(p, &p->noises[i->into], &where, block, at, word_first, words,
                        p->rows + i->two * p->row_words);
        }
        }
    }
}

/* Words [at, end) of every row; word 0 is number `word` of all shots. */
static void run_tiles(const program *p, uint64_t seed, uint64_t word, int64_t at, int64_t end)
{
    while (at < end) {
        int64_t first = (int64_t)((word + (uint64_t)at) % TILE_WORDS);
        int64_t words = TILE_WORDS - first;
        if (words > end - at)
            words = end - at;
        run_tile(p, seed, (word + (uint64_t)at) / TILE_WORDS, at, first, words);
        at += words;
    }
}

/* run(code, rows, row_words, addresses, noises, gaps, bounds, pool, seed, shot_first, at, end) */
static PyObject *run(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const struct {
        const char *name;
        int argument, item, writable, size;
    } fields[7] = {
        {"code", 0, 4, 0, 4},   {"rows", 1, 8, 1, 1}, {"addresses", 3, 8, 0, 3},
        {"noises", 4, 4, 0, 5}, {"gaps", 5, 8, 0, 1}, {"bounds", 6, 8, 0, 1},
        {"pool", 7, 4, 0, 1},
    };
    if (given != 12) {
        PyErr_SetString(PyExc_TypeError, "12 arguments are wanted");
        return NULL;
    }
    int64_t row_words = PyLong_AsLongLong(args[2]);
    uint64_t seed = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[8]);
    uint64_t shot_first = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[9]);
    int64_t at = PyErr_Occurred() ? 0 : PyLong_AsLongLong(args[10]);
    int64_t end = PyErr_Occurred() ? 0 : PyLong_AsLongLong(args[11]);
    if (PyErr_Occurred())
        return NULL;
    Py_buffer view[7];
    int64_t count[7];
    int open = 0;
    for (; open < 7; open++) {
        count[open] = open_buffer(args[fields[open].argument], &view[open], fields[open].item,
                                  fields[open].writable, fields[open].name);
        if (count[open] < 0)
            break;
    }
    if (open == 7) {
        program p = {view[0].buf, count[0] / 4, view[1].buf, row_words > 0 ? count[1] / row_words : 0,
                     row_words,   view[2].buf, count[2] / 3, view[3].buf, count[3] / 5, view[4].buf,
                     count[4],    view[5].buf, count[5],     view[6].buf, count[6]};
        int torn = row_words < 1 || count[1] % row_words || !count[1] || shot_first % 64 ||
                   count[0] % 4 || count[2] % 3 || count[3] % 5 || at < 0 || end > row_words;
        const char *why = torn ? "the buffers do not fit one another" : fault(&p);
        if (why)
            PyErr_SetString(PyExc_ValueError, why);
        else
            run_tiles(&p, seed, shot_first / 64, at, end);
    }
    while (open--)
        PyBuffer_Release(&view[open]);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_rows", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__rows(void)
{
    return PyModule_Create(&module);
}
