/* The stabilizer state that a group of shots has in common, for groups.py.

   Paulis on n qubits are i^phase X^x Z^z, and their 2n bits are one vector: x of qubit q is bit q,
   z of qubit q is bit n + q. A tableau (Aaronson and Gottesman, "Improved simulation of stabilizer
   circuits", 2004) has n stabilizers and n destabilizers; destabilizer i anticommutes with
   stabilizer i and with no other. It is held as planes: word c of a plane has bit c of 64 rows. The
   first `half` planes are those of the stabilizers, the next `half` those of the destabilizers. So
   whatever is done to all rows is done to whole words, and in all columns at once. Behind the
   planes stand the low and the high bits of the stabilizers' phases; destabilizers have none, for
   nobody asks. */

#ifndef QMKD_TABLEAU_H
#define QMKD_TABLEAU_H

#include <stdint.h>
#include <string.h>

#define HALF_MAX 32
#define QUBITS_MAX (64 * HALF_MAX)
#define ALWAYS static inline __attribute__((always_inline))

/* qubits: n. half: words for a bit of each of n rows. width: words for 2n bits. columns: words of a
   plane, whole vectors even from column n on; those past 2n are 0. stride: words of a tableau. */
typedef struct {
    int32_t qubits, half, width, columns, stride;
} shape;

ALWAYS shape shape_of(int32_t qubits)
{
    shape s = {qubits, (qubits + 63) / 64, (2 * qubits + 63) / 64, 0, 0};
    s.columns = (qubits + (qubits + 7) / 8 * 8 + 7) / 8 * 8;
    s.stride = (2 * s.half * s.columns + 2 * s.half + 7) / 8 * 8;
    return s;
}

/* How many of the qubits a loop in whole vectors goes through. */
ALWAYS int32_t whole_qubits(const shape *s)
{
    return (s->qubits + 7) / 8 * 8;
}

ALWAYS uint64_t bit_of(const uint64_t *bits, int64_t at)
{
    return bits[at >> 6] >> (at & 63) & 1;
}

/* In which of `half` words the bit of a row is. */
ALWAYS int32_t word_of(int32_t row, int32_t half)
{
    return half == 1 ? 0 : row >> 6;
}

/* All ones in the columns of which bits are set. */
ALWAYS void spread(const uint64_t *bits, const shape *s, uint64_t *columns)
{
    int32_t end = s->columns & ~7;
    for (int32_t c = 0; c < end; c++)
        columns[c] = -(uint64_t)(c < 2 * s->qubits ? bit_of(bits, c) : 0);
}

/* A Pauli to do something with. against: its bits with x and z exchanged, so that the bits of
   another meet them where the two anticommute. own, across: `bits` and `against`, spread; low: the
   X columns of `across`; NULL until somebody asks tableaus about it. */
typedef struct {
    const uint64_t *bits;
    const uint64_t *against, *own, *across, *low;
    uint32_t phase;
} pauli;

#define SPREAD_WORDS(s) (3 * (s)->columns)

/* against: `width` words of room. */
ALWAYS pauli pauli_of(const uint64_t *bits, uint32_t phase, const shape *s, uint64_t *against)
{
    pauli p = {bits, against, NULL, NULL, NULL, phase};
    int32_t n = s->qubits;
    memset(against, 0, (size_t)s->width * 8);
    for (int32_t q = 0; q < n; q++) {
        against[(n + q) >> 6] |= bit_of(bits, q) << ((n + q) & 63);
        against[q >> 6] |= bit_of(bits, n + q) << (q & 63);
    }
    return p;
}

/* The same, spread. room: SPREAD_WORDS(s) words. */
ALWAYS pauli spread_out(pauli p, const shape *s, uint64_t *room)
{
    uint64_t *own = room, *across = own + s->columns, *low = across + s->columns;
    spread(p.bits, s, own);
    spread(p.against, s, across);
    for (int32_t c = 0; c < s->columns; c++)
        low[c] = c < s->qubits ? across[c] : 0;
    p.own = own;
    p.across = across;
    p.low = low;
    return p;
}

/* All qubits are |0>: stabilizer q is Z of qubit q, destabilizer q its X. */
static void set_zero(uint64_t *tableau, const shape *s)
{
    memset(tableau, 0, (size_t)s->stride * 8);
    for (int32_t q = 0; q < s->qubits; q++) {
        uint64_t *plane = tableau + (q >> 6) * s->columns;
        plane[s->qubits + q] = plane[s->half * s->columns + q] = UINT64_C(1) << (q & 63);
    }
}

/* --- asking --------------------------------------------------------------------------------------

   Functions take `half` as an argument of its own, so that a compiler may know it. */

/* The sum of the columns in which `mask` has ones. */
ALWAYS uint64_t sum_of(const uint64_t *plane, const shape *s, const uint64_t *mask)
{
    uint64_t sum = 0;
    int32_t end = s->columns & ~7;
    for (int32_t c = 0; c < end; c++)
        sum ^= plane[c] & mask[c];
    return sum;
}

/* Which stabilizers anticommute with a Pauli. Returns whether there is any. */
ALWAYS int find_met(const uint64_t *tableau, const shape *s, int32_t half, const pauli *p,
                    uint64_t *met)
{
    uint64_t any = 0;
    for (int32_t w = 0; w < half; w++)
        any |= met[w] = sum_of(tableau + w * s->columns, s, p->across);
    return any != 0;
}

/* Which destabilizers do. */
ALWAYS void find_others_met(const uint64_t *tableau, const shape *s, int32_t half, const pauli *p,
                            uint64_t *met)
{
    for (int32_t w = 0; w < half; w++)
        met[w] = sum_of(tableau + (half + w) * s->columns, s, p->across);
}

/* The first row of which a bit is set, or -1. */
ALWAYS int32_t first_of(const uint64_t *words, int32_t count)
{
    for (int32_t w = 0; w < count; w++)
        if (words[w])
            return 64 * w + __builtin_ctzll(words[w]);
    return -1;
}

/* Bit i is the parity of the bits below i. */
ALWAYS uint64_t parities_below(uint64_t word)
{
    word ^= word << 1;
    word ^= word << 2;
    word ^= word << 4;
    word ^= word << 8;
    word ^= word << 16;
    word ^= word << 32;
    return word << 1;
}

/* The phase of the product of stabilizers, modulo 4. A Z is passed by the X of a later factor. */
ALWAYS uint32_t phase_of_product(const uint64_t *tableau, const shape *s, int32_t half,
                                 const uint64_t *which)
{
    const uint64_t *low = tableau + 2 * half * s->columns, *high = low + half;
    int32_t end = whole_qubits(s) & ~7;
    uint32_t phase = 0;
    uint64_t crossed = 0, odd[64 * HALF_MAX];
    if (half > 1)
        memset(odd, 0, (size_t)end * 8);
    for (int32_t w = 0; w < half; w++) {
        const uint64_t *x = tableau + w * s->columns, *z = x + s->qubits;
        phase += (uint32_t)__builtin_popcountll(low[w] & which[w]) +
                 2 * (uint32_t)__builtin_popcountll(high[w] & which[w]);
        for (int32_t q = 0; q < end; q++) {
            uint64_t passed = parities_below(z[q] & which[w]);
            uint64_t before = half > 1 ? odd[q] : 0;
            crossed ^= (passed ^ before) & x[q] & which[w];
            if (half > 1)
                odd[q] = before ^ -((passed ^ (z[q] & which[w])) >> 63);
        }
    }
    return (phase + 2 * (uint32_t)__builtin_popcountll(crossed)) & 3;
}

enum { SAYS_0, SAYS_1, RANDOM };

/* What measuring the Pauli gives. met: `half` words, filled as by `find_met`. */
ALWAYS int ask(const uint64_t *tableau, const shape *s, int32_t half, const pauli *p, uint64_t *met)
{
    uint64_t factors[HALF_MAX];
    if (find_met(tableau, s, half, p, met))
        return RANDOM;
    /* It is the product of those stabilizers whose destabilizers it meets, up to sign. */
    find_others_met(tableau, s, half, p, factors);
    return (phase_of_product(tableau, s, half, factors) - p->phase) >> 1 & 1;
}

/* The bits of a stabilizer. */
ALWAYS void copy_stabilizer(const uint64_t *tableau, const shape *s, int32_t half, int32_t row,
                            uint64_t *into)
{
    const uint64_t *plane = tableau + word_of(row, half) * s->columns;
    for (int32_t w = 0; w < s->width; w++, plane += 64) {
        int32_t end = s->columns - 64 * w < 64 ? (s->columns - 64 * w) & ~7 : 64;
        uint64_t word = 0;
        for (int32_t c = 0; c < end; c++)
            word |= (plane[c] >> (row & 63) & 1) << c;
        into[w] = word;
    }
}

/* --- changing ----------------------------------------------------------------------------------*/

/* plane ^= word, in the columns of the mask. */
ALWAYS void add_to_columns(uint64_t *plane, const shape *s, const uint64_t *mask, uint64_t word)
{
    int32_t end = s->columns & ~7;
    for (int32_t c = 0; c < end; c++)
        plane[c] ^= mask[c] & word;
}

/* Phases of the stabilizers in `which`: plus `more`, plus 2 in those that are `crossed`. */
ALWAYS void add_phases(uint64_t *phases, int32_t half, const uint64_t *which, uint32_t more,
                       const uint64_t *crossed)
{
    uint64_t *low = phases, *high = phases + half;
    uint64_t more_low = -(uint64_t)(more & 1), more_high = -(uint64_t)(more >> 1 & 1);
    for (int32_t w = 0; w < half; w++) {
        high[w] ^= which[w] & (crossed[w] ^ more_high ^ (low[w] & more_low));
        low[w] ^= which[w] & more_low;
    }
}

ALWAYS uint32_t phase_of(const uint64_t *phases, int32_t half, int32_t row)
{
    int32_t word = word_of(row, half), shift = row & 63;
    return (uint32_t)(phases[word] >> shift & 1) +
           2 * (uint32_t)(phases[half + word] >> shift & 1);
}

/* exp(-i pi/4 P): a row Q that anticommutes becomes -i P Q. Where P is a stabilizer nothing
   happens but a phase of the whole. */
ALWAYS void rotate(uint64_t *tableau, const shape *s, int32_t half, const pauli *p)
{
    uint64_t met[2 * HALF_MAX], crossed[HALF_MAX];
    find_met(tableau, s, half, p, met);
    find_others_met(tableau, s, half, p, met + half);
    for (int32_t w = 0; w < half; w++)
        crossed[w] = sum_of(tableau + w * s->columns, s, p->low);
    for (int32_t w = 0; w < 2 * half; w++)
        add_to_columns(tableau + w * s->columns, s, p->own, met[w]);
    add_phases(tableau + 2 * half * s->columns, half, met, p->phase + 3, crossed);
}

/* In which columns a stabilizer has a bit, spread. */
ALWAYS void spread_stabilizer(const uint64_t *tableau, const shape *s, int32_t half, int32_t row,
                              uint64_t *columns)
{
    const uint64_t *plane = tableau + word_of(row, half) * s->columns;
    int32_t end = s->columns & ~7;
    for (int32_t c = 0; c < end; c++)
        columns[c] = -(plane[c] >> (row & 63) & 1);
}

/* Stabilizers cross a Pauli where their X meets its Z. */
ALWAYS uint64_t crossed_by(const uint64_t *plane, const shape *s, const uint64_t *columns)
{
    uint64_t crossed = 0;
    int32_t end = whole_qubits(s) & ~7;
    for (int32_t q = 0; q < end; q++)
        crossed ^= plane[q] & columns[s->qubits + q];
    return crossed;
}

/* Measuring gave the Pauli's +1, at random: it takes the place of stabilizer `pivot`, the first of
   those that it met; that becomes its destabilizer. */
ALWAYS void project(uint64_t *tableau, const shape *s, int32_t half, const pauli *p,
                    const uint64_t *met, int32_t pivot)
{
    int32_t word = word_of(pivot, half), end = s->columns & ~7;
    uint64_t own = UINT64_C(1) << (pivot & 63);
    uint64_t others[2 * HALF_MAX], crossed[HALF_MAX], columns[2 * QUBITS_MAX + 16];
    uint64_t *phases = tableau + 2 * half * s->columns;
    if (half < 1)
        __builtin_unreachable();
    for (int32_t w = 0; w < half; w++)
        others[w] = met[w];
    find_others_met(tableau, s, half, p, others + half);
    others[word] &= ~own;
    others[half + word] &= ~own;
    spread_stabilizer(tableau, s, half, pivot, columns);
    for (int32_t w = 0; w < half; w++)
        crossed[w] = crossed_by(tableau + w * s->columns, s, columns);
    for (int32_t w = 0; w < 2 * half; w++)
        add_to_columns(tableau + w * s->columns, s, columns, others[w]);
    uint64_t *stabilizers = tableau + word * s->columns;
    uint64_t *destabilizers = stabilizers + half * s->columns;
    for (int32_t c = 0; c < end; c++) {
        stabilizers[c] = (stabilizers[c] & ~own) | (p->own[c] & own);
        destabilizers[c] = (destabilizers[c] & ~own) | (columns[c] & own);
    }
    add_phases(phases, half, others, phase_of(phases, half, pivot), crossed);
    phases[word] = (phases[word] & ~own) | (-(uint64_t)(p->phase & 1) & own);
    phases[half + word] = (phases[half + word] & ~own) | (-(uint64_t)(p->phase >> 1 & 1) & own);
}

/* --- reducing ----------------------------------------------------------------------------------*/

/* Gauss and Jordan, on `rows` rows in `half` planes of `count` columns, whole vectors: rows are
   added to rows until each column is a single bit, in a row that it owns, or a sum of such columns
   before it. owners: of each row its column, or -1. phases: of rows that are stabilizers of shape
   `s`, or NULL. */
ALWAYS void eliminate(uint64_t *planes, int32_t count, int32_t half, int32_t rows, int32_t *owners,
                      uint64_t *hits, uint64_t *phases, const shape *s)
{
    uint64_t used[HALF_MAX], others[HALF_MAX], crossed[HALF_MAX];
    for (int32_t w = 0; w < half; w++)
        used[w] = 0;
    for (int32_t row = 0; row < rows; row++)
        owners[row] = -1;
    int32_t owned = 0;
    for (int32_t column = 0; column < count && owned < rows; column++) {
        int32_t row = -1;
        for (int32_t w = half - 1; w >= 0; w--) {
            others[w] = planes[w * count + column];
            if (others[w] & ~used[w])
                row = 64 * w + __builtin_ctzll(others[w] & ~used[w]);
        }
        if (row < 0)
            continue;
        int32_t word = word_of(row, half), shift = row & 63;
        owners[row] = column;
        owned++;
        used[word] |= UINT64_C(1) << shift;
        others[word] ^= UINT64_C(1) << shift;
        if (phases || half > 1)
            for (int32_t c = 0; c < (count & ~7); c++)
                hits[c] = -(planes[word * count + c] >> shift & 1);
        if (phases) {
            for (int32_t w = 0; w < half; w++)
                crossed[w] = crossed_by(planes + w * count, s, hits);
            add_phases(phases, half, others, phase_of(phases, half, row), crossed);
        }
        /* Before `column`, the row has no bit left. */
        for (int32_t w = 0; w < half; w++)
            for (int32_t c = column & ~7; c < (count & ~7); c++)
                planes[w * count + c] ^=
                    others[w] & (half > 1 ? hits[c] : -(planes[c] >> shift & 1));
    }
}

/* Word i becomes bit i of the words (Warren, Hacker's Delight, section 7-3). */
ALWAYS void transpose(uint64_t *words)
{
    uint64_t mask = UINT64_C(0x00000000FFFFFFFF);
    for (int32_t step = 32; step; step >>= 1, mask ^= mask << step)
        for (int32_t group = 0; group < 64; group += 2 * step)
            for (int32_t i = group; i < group + step; i++) {
                uint64_t swap = (words[i] >> step ^ words[i + step]) & mask;
                words[i] ^= swap << step;
                words[i + step] ^= swap;
            }
}

/* Stabilizers reduced: n vectors of `width` words in order of their pivots, the columns in which
   they alone have a bit. Two states have the same ones up to sign where these are the same. The
   rest is to work in. */
typedef struct {
    uint64_t *rows;
    int32_t *pivots;
    uint8_t *phases;
    uint64_t *planes, *hits, *raw, *raw_phases;
    int32_t *owners, *place;
} reduced;

ALWAYS void reduce(const uint64_t *tableau, const shape *s, int32_t half, reduced *r, int signs)
{
    int32_t n = s->qubits, width = s->width, rank = 0;
    memcpy(r->planes, tableau, (size_t)(half * s->columns) * 8);
    memcpy(r->raw_phases, tableau + 2 * half * s->columns, (size_t)(2 * half) * 8);
    eliminate(r->planes, s->columns, half, n, r->owners, r->hits, signs ? r->raw_phases : NULL, s);
    for (int32_t w = 0; w < half; w++)
        for (int32_t at = 0; at < width; at++) {
            uint64_t words[64];
            int32_t columns = s->columns - 64 * at < 64 ? s->columns - 64 * at : 64;
            memset(words, 0, sizeof words);
            memcpy(words, r->planes + w * s->columns + 64 * at, (size_t)columns * 8);
            transpose(words);
            for (int32_t i = 0; i < 64; i++)
                r->raw[(64 * w + i) * width + at] = words[i];
        }
    for (int32_t c = 0; c < 2 * n; c++)
        r->place[c] = -1;
    for (int32_t row = 0; row < n; row++)
        r->place[r->owners[row]] = row;
    for (int32_t c = 0; c < 2 * n; c++) {
        int32_t row = r->place[c];
        if (row < 0)
            continue;
        r->phases[rank] = (uint8_t)phase_of(r->raw_phases, half, row);
        memcpy(r->rows + rank * width, r->raw + row * width, (size_t)width * 8);
        r->pivots[rank++] = c;
    }
}

#endif
