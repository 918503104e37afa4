/* Which branch each shot is in, for dense.py: drawing outcomes, splitting and joining.

   Rows are bits, 64 shots to a word; `of` has the branch of every shot, the last word filled up. */

#include "arguments.h"

#include <string.h>

#include "philox.h"

#define ONE (UINT64_C(1) << 40) /* chance.py's ONE */
#define HALF (ONE >> 1)
#define TABLES 4
#define DENSE_BITS 16 /* of a word, from which on all its shots are gone through */
#define FEW 64 /* branches for which counts are kept several times, as increments wait on another */

/* Do something for each set bit of a word; `shot` is its number within the word. */
#define OVER_BITS(word, body)                                                                      \
    for (uint64_t left = (word); left; left &= left - 1) {                                         \
        int shot = __builtin_ctzll(left);                                                          \
        body;                                                                                      \
    }

static inline int64_t ones_in(const uint64_t *row, int64_t words)
{
    int64_t found = 0;
    for (int64_t w = 0; w < words; w++)
        found += __builtin_popcountll(row[w]);
    return found;
}

/* How many shots of the row are in the second of two branches. */
WIDE static int64_t count_second(const uint32_t *of, const uint64_t *row, int64_t words)
{
    int64_t found = 0;
    for (int64_t w = 0; w < words; w++, of += 64) {
        uint64_t sum = 0;
        for (int shot = 0; shot < 64; shot++)
            sum += of[shot] & (row[w] >> shot & 1);
        found += (int64_t)sum;
    }
    return found;
}

static void count_few(const uint32_t *of, const uint64_t *row, int64_t words, int64_t *into,
                      int64_t branches)
{
    int64_t table[TABLES][FEW] = {{0}};
    for (int64_t w = 0; w < words; w++, of += 64) {
        int turn = 0;
        OVER_BITS(row[w], table[turn++ % TABLES][of[shot]]++);
    }
    for (int64_t b = 0; b < branches; b++)
        for (int i = 0; i < TABLES; i++)
            into[b] += table[i][b];
}

static void count_all(const uint32_t *of, const uint64_t *row, int64_t words, int64_t *into,
                      int64_t branches)
{
    memset(into, 0, (size_t)branches * 8);
    if (branches == 1) {
        into[0] = ones_in(row, words);
    } else if (branches == 2) {
        into[1] = count_second(of, row, words);
        into[0] = ones_in(row, words) - into[1];
    } else if (branches <= FEW) {
        count_few(of, row, words, into, branches);
    } else {
        for (int64_t w = 0; w < words; w++)
            OVER_BITS(row[w], into[of[64 * w + shot]]++);
    }
}

/* --- moving ------------------------------------------------------------------------------------- */

/* The shots of the row go from branch b to branch to[b]. */
WIDE static void move_all(uint32_t *of, const uint64_t *row, int64_t words, const uint32_t *to)
{
    for (int64_t w = 0; w < words; w++, of += 64) {
        if (__builtin_popcountll(row[w]) < DENSE_BITS) {
            OVER_BITS(row[w], of[shot] = to[of[shot]]);
        } else {
            for (int shot = 0; shot < 64; shot++) {
                uint32_t inside = -(uint32_t)(row[w] >> shot & 1);
                of[shot] ^= (to[of[shot]] ^ of[shot]) & inside;
            }
        }
    }
}

/* The same where there is one branch only, number 0. */
WIDE static void move_first(uint32_t *of, const uint64_t *row, int64_t words, uint32_t to)
{
    for (int64_t w = 0; w < words; w++, of += 64)
        for (int shot = 0; shot < 64; shot++)
            of[shot] = (uint32_t)(row[w] >> shot & 1) * to;
}

WIDE static void relabel_all(uint32_t *of, int64_t shots, const uint32_t *to, int64_t branches)
{
    uint32_t differ = 0;
    for (int64_t b = 1; b < branches; b++)
        differ |= to[b] ^ to[0];
    if (!differ) {
        for (int64_t i = 0; i < shots; i++)
            of[i] = to[0];
    } else {
        for (int64_t i = 0; i < shots; i++)
            of[i] = to[of[i]];
    }
}

/* The highest branch that a shot is in. */
WIDE static uint32_t highest(const uint32_t *of, int64_t shots)
{
    uint32_t most = 0;
    for (int64_t i = 0; i < shots; i++)
        most = of[i] > most ? of[i] : most;
    return most;
}

/* --- drawing ------------------------------------------------------------------------------------ */

/* Random words where they are asked for. */
typedef struct {
    place at;
    uint64_t coins_at, words_at; /* position of the block that is here, plus one */
    philox_block coins, words;
} source;

static inline uint64_t coins_of(source *s, uint64_t word)
{
    if (s->coins_at != (word >> 2) + 1) {
        s->coins = draw_block(&s->at, DOMAIN_COINS, word >> 2);
        s->coins_at = (word >> 2) + 1;
    }
    return s->coins.word[word & 3];
}

static inline uint64_t low_of(source *s, uint64_t shot)
{
    if (s->words_at != (shot >> 2) + 1) {
        s->words = draw_block(&s->at, DOMAIN_WORDS, shot >> 2);
        s->words_at = (shot >> 2) + 1;
    }
    return s->words.word[shot & 3];
}

/* The outcome of a shot, where P(1) is `chance` / ONE. */
static inline uint64_t outcome_of(source *s, uint64_t shot, uint64_t chance)
{
    if (chance == 0 || chance == ONE)
        return chance == ONE;
    uint64_t coin = coins_of(s, shot >> 6) >> (shot & 63) & 1;
    if (chance == HALF)
        return coin;
    return whole_word(coin, low_of(s, shot)) >> 24 < chance;
}

typedef struct {
    const uint64_t *full, *where, *flipped; /* the last two NULL for all and none */
    const uint32_t *of;
    const uint64_t *chances;
    uint64_t *outcomes, *vectors;
    int64_t words;
} drawing;

/* Outcomes of the shots of `where`; `vectors` are these where no frame flips them. */
static void draw_all(const drawing *d, source *s, uint64_t word_first, int fair)
{
    for (int64_t w = 0; w < d->words; w++) {
        uint64_t mask = d->full[w] & (d->where ? d->where[w] : ~UINT64_C(0)), found = 0;
        uint64_t flipped = d->flipped ? d->flipped[w] & mask : 0, word = word_first + (uint64_t)w;
        if (fair) {
            found = mask ? coins_of(s, word) & mask : 0;
        } else {
            const uint32_t *of = d->of + 64 * w;
            OVER_BITS(mask, {
                uint64_t chance = d->chances[of[shot]];
                chance = flipped >> shot & 1 ? ONE - chance : chance;
                found |= outcome_of(s, word * 64 + (uint64_t)shot, chance) << shot;
            });
        }
        d->outcomes[w] = found;
        d->vectors[w] = found ^ flipped;
    }
}

/* --- Python ------------------------------------------------------------------------------------- */

static const char *const UNFIT = "the buffers do not fit one another";
static const char *const ASTRAY = "a shot in no branch";

/* Every shot is in one of the branches. */
static int astray(const uint32_t *of, int64_t shots, int64_t branches)
{
    return shots && highest(of, shots) >= branches;
}

/* draw(seed, epoch, node, draw, shot_first, full, where, flipped, of, chances, outcomes, vectors)
   chances: of each branch P(1) of its vector, in units of 2^-40. where: a row, or empty for all.
   flipped: the shots whose outcome is the other one, or empty. outcomes, vectors: rows, the
   outcomes and those of the vectors. */
static PyObject *draw(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[7] = {
        {5, 8, 0, "full"},     {6, 8, 0, "where"},     {7, 8, 0, "flipped"}, {8, 4, 0, "of"},
        {9, 8, 0, "chances"}, {10, 8, 1, "outcomes"}, {11, 8, 1, "vectors"}};
    Py_buffer view[7];
    int64_t count[7];
    uint64_t numbers[5];
    if (!wanted(given, 12))
        return NULL;
    for (int i = 0; i < 5; i++) {
        numbers[i] = PyLong_AsUnsignedLongLong(args[i]);
        if (PyErr_Occurred())
            return NULL;
    }
    if (open_fields(args, fields, 7, view, count))
        return NULL;
    int64_t words = count[0];
    drawing d = {view[0].buf, count[1] ? view[1].buf : NULL, count[2] ? view[2].buf : NULL,
                 view[3].buf, view[4].buf, view[5].buf, view[6].buf, words};
    if (numbers[4] % 64 || (count[1] && count[1] != words) || (count[2] && count[2] != words) ||
        count[3] != 64 * words || count[5] != words || count[6] != words)
        return closed(view, 7, UNFIT);
    int fair = 1;
    for (int64_t b = 0; b < count[4]; b++) {
        if (d.chances[b] > ONE)
            return closed(view, 7, "a chance above 1");
        fair &= d.chances[b] == HALF;
    }
    if (astray(d.of, count[3], count[4]))
        return closed(view, 7, ASTRAY);
    source s = {{numbers[0], numbers[1], numbers[2], numbers[3]}, 0, 0, {{0}}, {{0}}};
    draw_all(&d, &s, numbers[4] / 64, fair);
    return closed(view, 7, NULL);
}

/* count(of, row, into): into, of each branch how many of its shots the row has. */
static PyObject *count(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[3] = {{0, 4, 0, "of"}, {1, 8, 0, "row"}, {2, 8, 1, "into"}};
    Py_buffer view[3];
    int64_t size[3];
    if (!wanted(given, 3) || open_fields(args, fields, 3, view, size))
        return NULL;
    const uint32_t *of = view[0].buf;
    const uint64_t *row = view[1].buf;
    int64_t *into = view[2].buf;
    if (size[0] != 64 * size[1])
        return closed(view, 3, UNFIT);
    if (astray(of, size[0], size[2]))
        return closed(view, 3, ASTRAY);
    count_all(of, row, size[1], into, size[2]);
    return closed(view, 3, NULL);
}

/* move(of, row, to): the shots of the row go from branch b to branch to[b]. */
static PyObject *move(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[3] = {{0, 4, 1, "of"}, {1, 8, 0, "row"}, {2, 4, 0, "to"}};
    Py_buffer view[3];
    int64_t size[3];
    if (!wanted(given, 3) || open_fields(args, fields, 3, view, size))
        return NULL;
    uint32_t *of = view[0].buf;
    const uint64_t *row = view[1].buf;
    const uint32_t *to = view[2].buf;
    if (size[0] != 64 * size[1])
        return closed(view, 3, UNFIT);
    if (astray(of, size[0], size[2]))
        return closed(view, 3, ASTRAY);
    if (size[2] == 1)
        move_first(of, row, size[1], to[0]);
    else
        move_all(of, row, size[1], to);
    return closed(view, 3, NULL);
}

/* relabel(of, to): every shot goes from branch b to branch to[b]. */
static PyObject *relabel(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[2] = {{0, 4, 1, "of"}, {1, 4, 0, "to"}};
    Py_buffer view[2];
    int64_t size[2];
    if (!wanted(given, 2) || open_fields(args, fields, 2, view, size))
        return NULL;
    uint32_t *of = view[0].buf;
    const uint32_t *to = view[1].buf;
    if (!size[1] || astray(of, size[0], size[1]))
        return closed(view, 2, ASTRAY);
    relabel_all(of, size[0], to, size[1]);
    return closed(view, 2, NULL);
}

/* differ(of, full, where, done, into): into, the shots of `full` that are in `where` but whose
   branch is not in `done` (of each branch 0 or 1), and the other way round. */
static PyObject *differ(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[5] = {{0, 4, 0, "of"},
                                    {1, 8, 0, "full"},
                                    {2, 8, 0, "where"},
                                    {3, 1, 0, "done"},
                                    {4, 8, 1, "into"}};
    Py_buffer view[5];
    int64_t size[5];
    if (!wanted(given, 5) || open_fields(args, fields, 5, view, size))
        return NULL;
    const uint32_t *of = view[0].buf;
    const uint64_t *full = view[1].buf, *where = view[2].buf;
    const uint8_t *done = view[3].buf;
    uint64_t *into = view[4].buf;
    if (size[0] != 64 * size[1] || size[2] != size[1] || size[4] != size[1])
        return closed(view, 5, UNFIT);
    if (astray(of, size[0], size[3]))
        return closed(view, 5, ASTRAY);
    for (int64_t w = 0; w < size[1]; w++) {
        uint64_t bits = 0;
        for (int shot = 0; shot < 64; shot++)
            bits |= (uint64_t)(done[of[64 * w + shot]] & 1) << shot;
        into[w] = (bits ^ where[w]) & full[w];
    }
    return closed(view, 5, NULL);
}

static PyMethodDef methods[] = {
    {"draw", (PyCFunction)(void (*)(void))draw, METH_FASTCALL, NULL},
    {"count", (PyCFunction)(void (*)(void))count, METH_FASTCALL, NULL},
    {"move", (PyCFunction)(void (*)(void))move, METH_FASTCALL, NULL},
    {"relabel", (PyCFunction)(void (*)(void))relabel, METH_FASTCALL, NULL},
    {"differ", (PyCFunction)(void (*)(void))differ, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_branches", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__branches(void)
{
    return PyModule_Create(&module);
}
