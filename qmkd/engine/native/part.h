/* Shots in groups: what a part of a batch holds, for groups.py.

   Of each group there is a tableau (tableau.h), of each shot the number of its group and its frame.
   These are laid out in one of two ways. At large, frames are words of their own, in blocks of 64
   shots (shots.h). Where qubits and groups are few, they are sliced: bit c of all frames is a plane
   of bits, and so is each binary digit of the groups' numbers (slices.h). */

#ifndef QMKD_PART_H
#define QMKD_PART_H

#include <stdlib.h>

#include "buffers.h"
#include "strikes.h"
#include "tableau.h"

#define TILE_WORDS (STRIKE_SHOTS / 64)
#define SLICED_QUBITS_MAX 12
#define DIGITS 6
#define SLICED_GROUPS_MAX (1 << DIGITS)

typedef struct {
    uint64_t epoch, node, draw;
} address;

/* room: groups for which there is room. words: of 64 shots each. rows: row_count rows of that many
   words; row 0 has all shots. groups: NULL where frames are sliced. */
typedef struct {
    shape s;
    uint64_t *tableaus;
    int64_t count, room;
    uint32_t *groups;
    uint64_t *frames;
    int64_t words;
    uint64_t *rows;
    int64_t row_count;
} part;

static inline uint64_t *tableau_of(const part *p, int64_t group)
{
    return p->tableaus + group * p->s.stride;
}

static inline uint64_t *row_of(const part *p, int64_t row)
{
    return p->rows + row * p->words;
}

/* Run `function(part, half, ...)` with a `half` that the compiler knows where it is small. */
#define BY_HALF(function, part, ...)                   \
    switch ((part)->s.half) {                          \
    case 1:                                            \
        function((part), 1, __VA_ARGS__);              \
        break;                                         \
    case 2:                                            \
        function((part), 2, __VA_ARGS__);              \
        break;                                         \
    default:                                           \
        function((part), (part)->s.half, __VA_ARGS__); \
    }

/* The same with the `width` of frames. */
#define BY_WIDTH(function, part, ...)                   \
    switch ((part)->s.width) {                          \
    case 1:                                             \
        function((part), 1, __VA_ARGS__);               \
        break;                                          \
    case 2:                                             \
        function((part), 2, __VA_ARGS__);               \
        break;                                          \
    default:                                            \
        function((part), (part)->s.width, __VA_ARGS__); \
    }

/* Whether the run goes on; if not, `poll` has raised, and the part is worth nothing any more. */
static inline int go_on(PyObject *poll)
{
    PyObject *none = PyObject_CallNoArgs(poll);
    Py_XDECREF(none);
    return none != NULL;
}

/* Groups that take some milliseconds to reduce. */
static inline int64_t groups_per_poll(const shape *s)
{
    return s->half == 1 ? 1024 : 1 + 64 / (s->half * s->half);
}

/* --- what becomes of groups --------------------------------------------------------------------*/

/* Of the `asked` groups that there are before any is split. verdict: RANDOM where the state changes
   in shots for which an operation is meant. to: the group of these shots afterwards. kicks: of each
   group there is afterwards, `width` words that frames may have to take in. */
typedef struct {
    int64_t asked;
    uint8_t *verdict, *seen;
    uint32_t *to;
    uint64_t *kicks;
} fates;

enum { INSIDE = 1, OUTSIDE = 2 };

static inline int make_fates(fates *f, const part *p)
{
    size_t count = (size_t)p->count, width = (size_t)p->s.width;
    f->asked = p->count;
    f->verdict = calloc(2 * count, 1);
    f->seen = calloc(count, 1);
    f->to = malloc(count * 4);
    f->kicks = calloc(2 * count * width, 8);
    for (size_t g = 0; f->to && g < count; g++)
        f->to[g] = (uint32_t)g;
    return f->verdict && f->seen && f->to && f->kicks;
}

static inline void free_fates(fates *f)
{
    free(f->verdict);
    free(f->seen);
    free(f->to);
    free(f->kicks);
}

/* Of the groups that change, split those that have shots on both sides. Returns the number of
   groups then; where that is more than there is room for, nothing was done. */
static inline int64_t split(part *p, fates *f)
{
    int64_t count = p->count;
    for (int64_t g = 0; g < p->count; g++)
        if (f->verdict[g] == RANDOM && f->seen[g] == (INSIDE | OUTSIDE))
            f->to[g] = (uint32_t)count++;
    if (count > p->room)
        return count;
    for (int64_t g = 0; g < p->count; g++)
        if (f->to[g] != g) {
            memcpy(tableau_of(p, f->to[g]), tableau_of(p, g), (size_t)p->s.stride * 8);
            f->verdict[f->to[g]] = f->verdict[g];
        }
    p->count = count;
    return count;
}

/* What groups have in common, so that shots need not be asked for theirs. */
typedef struct {
    int any_random, all_random, one_sign, one_kick;
} alike;

static inline alike compare(const part *p, const fates *f)
{
    alike a = {0, 1, 1, 1};
    int32_t width = p->s.width;
    for (int64_t g = 0; g < p->count; g++) {
        int random = f->verdict[g] == RANDOM;
        a.any_random |= random;
        a.all_random &= random;
        a.one_sign &= (f->verdict[g] & SAYS_1) == (f->verdict[0] & SAYS_1);
        a.one_kick &= !memcmp(f->kicks + g * width, f->kicks, (size_t)width * 8);
    }
    return a;
}

/* --- what is done ------------------------------------------------------------------------------*/

/* Measure a Pauli in the shots of row `where` into row `into`, unless that is 0; where the outcome
   is 1, frames take in Pauli `flip`, unless that is -1. last: no frame matters afterwards. */
typedef struct {
    int32_t pauli, into, where, address, flip, last;
} measurement;

/* A Clifford gate: `count` rotations exp(-i pi/4 P) about Paulis that commute, and then the Pauli
   turns[count]. minus: the product of three is -1, else it is 1. adds: of each group, bit k where
   frames take in Pauli k; NULL where none does. */
#define TURNS_MAX 3
typedef struct {
    const pauli *turns;
    int32_t count;
    int minus;
    const uint8_t *adds;
} gate;

#endif
