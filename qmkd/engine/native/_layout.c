/* Rows of bits by event into packed rows by shot, and how often each packed row occurs. */

#include <string.h>

#include "buffers.h"

/* Turn an 8 x 8 matrix of bits, one row a byte, about its diagonal
   (Warren, Hacker's Delight, section 7-3). */
static inline uint64_t turn_8(uint64_t x)
{
    uint64_t t = (x ^ x >> 7) & UINT64_C(0x00AA00AA00AA00AA);
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & UINT64_C(0x0000CCCC0000CCCC);
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & UINT64_C(0x00000000F0F0F0F0);
    return x ^ t ^ t << 28;
}

/* One byte of each of up to 64 shots: bit i of it is that of row which[i], or 0 for -1. */
static inline void turn_word(const uint64_t *rows, int64_t row_words, const int32_t *which,
                             int32_t count, int64_t shots, uint8_t *into, int64_t stride)
{
    uint64_t eight[8] = {0};
    for (int32_t i = 0; i < count; i++) {
        if (which[i] < 0)
            continue;
        uint64_t bits = rows[which[i] * row_words];
        for (int32_t group = 0; group < 8; group++)
            eight[group] |= (bits >> 8 * group & 0xFF) << 8 * i;
    }
    for (int32_t group = 0; group < 8; group++) {
        uint64_t turned = turn_8(eight[group]);
        for (int64_t i = 0; i < 8 && 8 * group + i < shots; i++)
            into[(8 * group + i) * stride] = (uint8_t)(turned >> 8 * i);
    }
}

/* All bytes of 64 shots before those of the next, so that they are still near. */
WIDE static void turn_words(const uint64_t *rows, int64_t row_words, const int32_t *which,
                            int64_t count, int64_t shots, uint8_t *into, int64_t stride)
{
    for (int64_t shot = 0; shot < shots; shot += 64) {
        int64_t left = shots - shot < 64 ? shots - shot : 64;
        for (int64_t at = 0; at < count; at += 8)
            turn_word(rows + shot / 64, row_words, which + at,
                      count - at < 8 ? (int32_t)(count - at) : 8, left,
                      into + shot * stride + at / 8, stride);
    }
}

/* pack(rows, row_words, which, shots, into, stride, column): bytes [column, column + ceil(n / 8))
   of every packed row, `stride` bytes long, from the n rows of `which`. */
static PyObject *pack(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    Py_buffer rows, which, into;
    if (given != 7) {
        PyErr_SetString(PyExc_TypeError, "7 arguments are wanted");
        return NULL;
    }
    int64_t number[4];
    static const int place[4] = {1, 3, 5, 6};
    for (int i = 0; i < 4; i++) {
        number[i] = PyLong_AsLongLong(args[place[i]]);
        if (PyErr_Occurred())
            return NULL;
    }
    int64_t row_words = number[0], shots = number[1], stride = number[2], column = number[3];
    int64_t size = open_buffer(args[0], &rows, 8, 0, "rows");
    if (size < 0)
        return NULL;
    int64_t count = open_buffer(args[2], &which, 4, 0, "which");
    if (count < 0)
        goto close_rows;
    int64_t room = open_buffer(args[4], &into, 1, 1, "into");
    if (room < 0)
        goto close_which;
    const int32_t *chosen = which.buf;
    int64_t width = (count + 7) / 8;
    int fits = row_words >= 1 && row_words <= INT32_MAX && shots >= 0 && shots <= 64 * row_words &&
               column >= 0 && width <= stride && column <= stride - width &&
               (!stride || shots <= room / stride);
    for (int64_t i = 0; i < count && fits; i++)
        fits = chosen[i] >= -1 && ((int64_t)chosen[i] + 1) * row_words <= size;
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "the buffers do not fit one another");
    else
        turn_words(rows.buf, row_words, chosen, count, shots, (uint8_t *)into.buf + column, stride);
    PyBuffer_Release(&into);
close_which:
    PyBuffer_Release(&which);
close_rows:
    PyBuffer_Release(&rows);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static inline uint64_t mixed(uint64_t x)
{
    x *= UINT64_C(0x9E3779B97F4A7C15);
    return x ^ x >> 32;
}

static inline uint64_t hash_row(const uint8_t *row, int64_t size)
{
    uint64_t hash = 0, part;
    for (; size >= 8; size -= 8, row += 8) {
        memcpy(&part, row, 8);
        hash = mixed(hash ^ part);
    }
    part = 0;
    memcpy(&part, row, (size_t)size);
    return mixed(hash ^ part);
}

/* Where each different row stands first, and how often it occurs. slots: a table of 2^k places, at
   least twice as many as there is room. */
typedef struct {
    int64_t *first, *number;
    int64_t found, room;
    int32_t *slots;
    uint64_t mask;
} tally;

/* Another row for a slot that is free; false where there is no room. */
static inline int begin_row(tally *t, uint64_t slot, int64_t at)
{
    if (t->found == t->room)
        return 0;
    t->first[t->found] = at;
    t->number[t->found] = 0;
    t->slots[slot] = (int32_t)t->found++;
    return 1;
}

/* Rows of one or two bytes index a table of their own: 2^16 places. */
static int count_short(const uint8_t *packed, int64_t rows, int64_t size, tally *t)
{
    for (int64_t at = 0; at < rows; at++) {
        uint64_t slot = size == 1 ? packed[at] : packed[2 * at] | (uint64_t)packed[2 * at + 1] << 8;
        if (t->slots[slot] < 0 && !begin_row(t, slot, at))
            return 0;
        t->number[t->slots[slot]]++;
    }
    return 1;
}

static int count_long(const uint8_t *packed, int64_t rows, int64_t size, tally *t)
{
    for (int64_t at = 0; at < rows; at++) {
        const uint8_t *row = packed + at * size;
        uint64_t slot = hash_row(row, size) & t->mask;
        while (t->slots[slot] >= 0 &&
               memcmp(packed + t->first[t->slots[slot]] * size, row, (size_t)size))
            slot = (slot + 1) & t->mask;
        if (t->slots[slot] < 0 && !begin_row(t, slot, at))
            return 0;
        t->number[t->slots[slot]]++;
    }
    return 1;
}

/* How many different rows there are; -1 where there is no room. */
static int64_t count_rows(const uint8_t *packed, int64_t rows, int64_t size, tally *t)
{
    memset(t->slots, 0xFF, (t->mask + 1) * sizeof *t->slots);
    int short_rows = size <= 2 && t->mask >= 0xFFFF;
    return (short_rows ? count_short : count_long)(packed, rows, size, t) ? t->found : -1;
}

/* count(packed, size, first, number, slots) -> how many different rows there are, or -1 where
   there are more than `first` and `number` have room for. */
static PyObject *count(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const struct {
        const char *name;
        int argument, item, writable;
    } fields[4] = {{"packed", 0, 1, 0}, {"first", 2, 8, 1}, {"number", 3, 8, 1}, {"slots", 4, 4, 1}};
    if (given != 5) {
        PyErr_SetString(PyExc_TypeError, "5 arguments are wanted");
        return NULL;
    }
    int64_t size = PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    Py_buffer view[4];
    int64_t length[4];
    int open = 0;
    for (; open < 4; open++) {
        length[open] = open_buffer(args[fields[open].argument], &view[open], fields[open].item,
                                   fields[open].writable, fields[open].name);
        if (length[open] < 0)
            break;
    }
    PyObject *result = NULL;
    if (open == 4) {
        int fits = size >= 1 && length[0] % size == 0 && length[1] == length[2] &&
                   length[3] >= 2 * length[1] && length[3] > 0 && !(length[3] & (length[3] - 1)) &&
                   length[1] < INT32_MAX;
        tally t = {view[1].buf, view[2].buf, 0, length[1], view[3].buf, (uint64_t)length[3] - 1};
        if (fits)
            result = PyLong_FromLongLong(count_rows(view[0].buf, length[0] / size, size, &t));
        else
            PyErr_SetString(PyExc_ValueError, "the buffers do not fit one another");
    }
    while (open--)
        PyBuffer_Release(&view[open]);
    return result;
}

static PyMethodDef methods[] = {
    {"pack", (PyCFunction)(void (*)(void))pack, METH_FASTCALL, NULL},
    {"count", (PyCFunction)(void (*)(void))count, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_layout", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__layout(void)
{
    return PyModule_Create(&module);
}
