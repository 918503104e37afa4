/* The stabilizer state that a group of shots has in common, for groups.py.

   Paulis on n qubits are i^phase X^x Z^z, and their 2n bits are one vector: x of qubit q is bit q,
   z of qubit q is bit n + q. A tableau (Aaronson and Gottesman, "Improved simulation of stabilizer
   circuits", 2004) has n stabilizers and n destabilizers; destabilizer i anticommutes with
   stabilizer i and with no other. It is held by columns: column c is bit c of all rows, `half`
   words for the stabilizers and then `half` words for the destabilizers. So whatever is done to all
   rows at once is done to whole words. Behind the columns stand the low and the high bits of the
   stabilizers' phases; destabilizers have none, for nobody asks. */

#ifndef QMKD_TABLEAU_H
#define QMKD_TABLEAU_H

#include <stdint.h>
#include <string.h>

#define HALF_MAX 32
#define QUBITS_MAX (64 * HALF_MAX)
#define ALWAYS static inline __attribute__((always_inline))

/* qubits: n. half: words that hold n bits. width: words that hold 2n bits. stride: words of a
   tableau. */
typedef struct {
    int32_t qubits, half, width, stride;
} shape;

ALWAYS shape shape_of(int32_t qubits)
{
    shape s = {qubits, (qubits + 63) / 64, (2 * qubits + 63) / 64, 0};
    s.stride = (4 * qubits * s.half + 2 * s.half + 7) / 8 * 8;
    return s;
}

/* A Pauli to do something with. own: the columns in which it has bits. across: the columns whose
   sum says which rows anticommute with it, `low` columns of X bits first. against: the bits of its
   own that a frame's bits meet to tell the same. */
typedef struct {
    const uint64_t *bits;
    uint64_t *against;
    int32_t *own, *across;
    int32_t weight, low;
    uint32_t phase;
} pauli;

ALWAYS uint64_t bit_of(const uint64_t *bits, int64_t at)
{
    return bits[at >> 6] >> (at & 63) & 1;
}

/* Fill in all but `bits` and `phase`; there is room behind the pointers. */
static void look_through(pauli *p, const shape *s)
{
    int32_t n = s->qubits;
    memset(p->against, 0, (size_t)s->width * 8);
    p->weight = p->low = 0;
    for (int32_t at = 0; at < 2 * n; at++) {
        int32_t column = at < n ? n + at : at - n;
        if (bit_of(p->bits, column)) {
            p->against[at >> 6] |= UINT64_C(1) << (at & 63);
            p->across[p->weight++] = at;
            p->low += at < n;
        }
    }
    int32_t count = 0;
    for (int32_t at = 0; at < 2 * n; at++)
        if (bit_of(p->bits, at))
            p->own[count++] = at;
}

/* All qubits are |0>: stabilizer q is Z of qubit q, destabilizer q its X. */
static void set_zero(uint64_t *tableau, const shape *s)
{
    memset(tableau, 0, (size_t)s->stride * 8);
    for (int32_t q = 0; q < s->qubits; q++) {
        uint64_t *x = tableau + 2 * s->half * q, *z = tableau + 2 * s->half * (s->qubits + q);
        x[s->half + (q >> 6)] = z[q >> 6] = UINT64_C(1) << (q & 63);
    }
}

/* --- asking --------------------------------------------------------------------------------------

   Functions take `half` as an argument of its own, so that a compiler may know it. */

/* meets: which rows anticommute with the Pauli, 2 * half words. crossed: the part of that which is
   due to the rows' X bits, of stabilizers alone. */
ALWAYS void find_meets(const uint64_t *tableau, int32_t half, const pauli *p, uint64_t *meets,
                       uint64_t *crossed)
{
    for (int32_t w = 0; w < 2 * half; w++)
        meets[w] = 0;
    for (int32_t k = 0; k < p->low; k++)
        for (int32_t w = 0; w < 2 * half; w++)
            meets[w] ^= tableau[p->across[k] * 2 * half + w];
    for (int32_t w = 0; w < half; w++)
        crossed[w] = meets[w];
    for (int32_t k = p->low; k < p->weight; k++)
        for (int32_t w = 0; w < 2 * half; w++)
            meets[w] ^= tableau[p->across[k] * 2 * half + w];
}

/* The same, only of stabilizers. */
ALWAYS void find_stabilizers_met(const uint64_t *tableau, int32_t half, const pauli *p,
                                 uint64_t *meets)
{
    for (int32_t w = 0; w < half; w++)
        meets[w] = 0;
    for (int32_t k = 0; k < p->weight; k++)
        for (int32_t w = 0; w < half; w++)
            meets[w] ^= tableau[p->across[k] * 2 * half + w];
}

/* A stabilizer that anticommutes; -1 where there is none. */
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

/* The phase of the product of stabilizers, modulo 4. */
ALWAYS uint32_t phase_of_product(const uint64_t *tableau, const shape *s, int32_t half,
                                 const uint64_t *which)
{
    const uint64_t *phases = tableau + 4 * s->qubits * half;
    uint32_t phase = 0;
    uint64_t crossed = 0;
    for (int32_t w = 0; w < half; w++)
        phase += (uint32_t)__builtin_popcountll(phases[w] & which[w]) +
                 2 * (uint32_t)__builtin_popcountll(phases[half + w] & which[w]);
    for (int32_t q = 0; q < s->qubits; q++) { /* A Z that an X of a later factor has to pass. */
        const uint64_t *x = tableau + 2 * half * q, *z = x + 2 * half * s->qubits;
        uint64_t odd = 0;
        for (int32_t w = 0; w < half; w++) {
            uint64_t passed = z[w] & which[w];
            crossed ^= (parities_below(passed) ^ odd) & x[w] & which[w];
            odd ^= -(uint64_t)(__builtin_popcountll(passed) & 1);
        }
    }
    return (phase + 2 * (uint32_t)__builtin_popcountll(crossed)) & 3;
}

enum { SAYS_0, SAYS_1, RANDOM };

/* What measuring the Pauli gives. meets: room for 2 * half words, filled as above. */
ALWAYS int ask(const uint64_t *tableau, const shape *s, int32_t half, const pauli *p,
               uint64_t *meets)
{
    uint64_t crossed[HALF_MAX];
    find_meets(tableau, half, p, meets, crossed);
    uint64_t any = 0;
    for (int32_t w = 0; w < half; w++)
        any |= meets[w];
    if (any)
        return RANDOM;
    /* It is the product of those stabilizers whose destabilizers it meets, up to sign. */
    return (phase_of_product(tableau, s, half, meets + half) - p->phase) >> 1 & 1;
}

/* The bits of a stabilizer. */
ALWAYS void copy_stabilizer(const uint64_t *tableau, const shape *s, int32_t half, int32_t row,
                            uint64_t *into)
{
    const uint64_t *column = tableau + (row >> 6);
    int32_t columns = 2 * s->qubits;
    for (int32_t at = 0; at < columns; at += 64) {
        int32_t end = columns - at < 64 ? columns - at : 64;
        uint64_t word = 0;
        for (int32_t c = 0; c < end; c++)
            word |= (column[(at + c) * 2 * half] >> (row & 63) & 1) << c;
        into[at >> 6] = word;
    }
}

/* --- changing ----------------------------------------------------------------------------------*/

/* exp(-i pi/4 P): a row Q that anticommutes becomes -i P Q. Where P is a stabilizer nothing
   happens but a phase of the whole. */
ALWAYS void rotate(uint64_t *tableau, const shape *s, int32_t half, const pauli *p)
{
    uint64_t meets[2 * HALF_MAX], crossed[HALF_MAX];
    find_meets(tableau, half, p, meets, crossed);
    for (int32_t k = 0; k < p->weight; k++)
        for (int32_t w = 0; w < 2 * half; w++)
            tableau[p->own[k] * 2 * half + w] ^= meets[w];
    uint64_t *low = tableau + 4 * s->qubits * half, *high = low + half;
    uint64_t more = p->phase + 3;
    uint64_t more_low = -(more & 1), more_high = -(more >> 1 & 1);
    for (int32_t w = 0; w < half; w++) {
        high[w] ^= meets[w] & (crossed[w] ^ more_high ^ (low[w] & more_low));
        low[w] ^= meets[w] & more_low;
    }
}

/* Measuring gave the Pauli's +1, at random: it takes the place of stabilizer `pivot`, the first of
   those in `meets`; that becomes its destabilizer. */
ALWAYS void project(uint64_t *tableau, const shape *s, int32_t half, const pauli *p,
                    const uint64_t *meets, int32_t pivot)
{
    int32_t n = s->qubits, word = pivot >> 6, shift = pivot & 63;
    uint64_t own = UINT64_C(1) << shift;
    uint64_t others[2 * HALF_MAX], crossed[HALF_MAX];
    for (int32_t w = 0; w < 2 * half; w++)
        others[w] = meets[w];
    others[word] &= ~own;
    others[half + word] &= ~own;
    for (int32_t w = 0; w < half; w++)
        crossed[w] = 0;
    for (int32_t q = 0; q < n; q++) {
        const uint64_t *x = tableau + 2 * half * q, *z = x + 2 * half * n;
        uint64_t mine = -(z[word] >> shift & 1);
        for (int32_t w = 0; w < half; w++)
            crossed[w] ^= x[w] & mine;
    }
    for (int32_t c = 0; c < 2 * n; c++) {
        uint64_t *column = tableau + 2 * half * c;
        uint64_t mine = -(column[word] >> shift & 1);
        for (int32_t w = 0; w < 2 * half; w++)
            column[w] ^= others[w] & mine;
        column[word] &= ~own;
        column[half + word] = (column[half + word] & ~own) | (mine & own);
    }
    for (int32_t k = 0; k < p->weight; k++)
        tableau[p->own[k] * 2 * half + word] |= own;
    uint64_t *low = tableau + 4 * n * half, *high = low + half;
    uint64_t its_low = -(low[word] >> shift & 1), its_high = -(high[word] >> shift & 1);
    for (int32_t w = 0; w < half; w++) {
        high[w] ^= others[w] & (crossed[w] ^ its_high ^ (low[w] & its_low));
        low[w] ^= others[w] & its_low;
    }
    low[word] = (low[word] & ~own) | (uint64_t)(p->phase & 1) << shift;
    high[word] = (high[word] & ~own) | (uint64_t)(p->phase >> 1 & 1) << shift;
}

/* --- comparing -----------------------------------------------------------------------------------

   Two tableaus have the same stabilizers up to sign where their reduced rows are the same. */

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

/* The stabilizers as n vectors of 2n bits, `width` words each; `rows` has room for 64 * half. */
ALWAYS void copy_stabilizers(const uint64_t *tableau, const shape *s, uint64_t *rows)
{
    for (int32_t w = 0; w < s->half; w++)
        for (int32_t at = 0; at < s->width; at++) {
            uint64_t words[64];
            int32_t columns = 2 * s->qubits - 64 * at;
            columns = columns < 64 ? columns : 64;
            for (int32_t c = 0; c < 64; c++)
                words[c] = c < columns ? tableau[(64 * at + c) * 2 * s->half + w] : 0;
            transpose(words);
            for (int32_t i = 0; i < 64; i++)
                rows[(64 * w + i) * s->width + at] = words[i];
        }
}

/* Parity of the bits that two vectors have in common. */
ALWAYS uint64_t common_parity(const uint64_t *one, const uint64_t *two, int32_t words)
{
    uint64_t common = 0;
    for (int32_t w = 0; w < words; w++)
        common ^= one[w] & two[w];
    return (uint64_t)(__builtin_popcountll(common) & 1);
}

/* Gauss and Jordan. pivots: of each row the column where it alone has a bit, ascending. phases: of
   each row, modulo 4, or NULL where they do not matter. */
ALWAYS void reduce(uint64_t *rows, const shape *s, int32_t width, int32_t *pivots, uint8_t *phases)
{
    int32_t n = s->qubits, rank = 0;
    uint64_t passed[2 * HALF_MAX];
    for (int32_t column = 0; column < 2 * n && rank < n; column++) {
        int32_t word = column >> 6, shift = column & 63, found = rank;
        while (found < n && !(rows[found * width + word] >> shift & 1))
            found++;
        if (found == n)
            continue;
        uint64_t *mine = rows + rank * width;
        for (int32_t w = 0; found != rank && w < width; w++) {
            uint64_t held = mine[w];
            mine[w] = rows[found * width + w];
            rows[found * width + w] = held;
        }
        if (phases) {
            uint8_t held = phases[rank];
            phases[rank] = phases[found];
            phases[found] = held;
            memset(passed, 0, sizeof passed); /* Its X bits, where others have their Z bits. */
            for (int32_t q = 0; q < n; q++)
                passed[(n + q) >> 6] |= bit_of(mine, q) << ((n + q) & 63);
        }
        for (int32_t row = 0; row < n; row++) {
            uint64_t *its = rows + row * width;
            uint64_t hit = -(its[word] >> shift & 1 & (uint64_t)(row != rank));
            if (phases && hit)
                phases[row] += phases[rank] + 2 * (uint8_t)common_parity(its, passed, width);
            for (int32_t w = 0; w < width; w++)
                its[w] ^= mine[w] & hit;
        }
        pivots[rank++] = column;
    }
}

static void copy_phases(const uint64_t *tableau, const shape *s, uint8_t *phases)
{
    const uint64_t *low = tableau + 4 * s->qubits * s->half, *high = low + s->half;
    for (int32_t row = 0; row < s->qubits; row++)
        phases[row] = (uint8_t)(bit_of(low, row) | bit_of(high, row) << 1);
}

#endif
