/* Random words by address, for chance.py, which says what an address is. */

#include "buffers.h"
#include "strikes.h"

static int parse_place(PyObject *const *args, place *at)
{
    uint64_t *fields[4] = {&at->seed, &at->epoch, &at->node, &at->draw};
    for (int i = 0; i < 4; i++) {
        *fields[i] = PyLong_AsUnsignedLongLong(args[i]);
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

static int wanted(Py_ssize_t given, Py_ssize_t expected)
{
    if (given != expected)
        PyErr_Format(PyExc_TypeError, "%zd arguments are wanted, not %zd", expected, given);
    return given == expected;
}

/* coins(seed, epoch, node, draw, shot_first, into): into takes 64 shots a word. */
static PyObject *coins(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    place at;
    Py_buffer into;
    if (!wanted(given, 6) || parse_place(args, &at))
        return NULL;
    uint64_t first = PyLong_AsUnsignedLongLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (first % 64) {
        PyErr_SetString(PyExc_ValueError, "shot_first is no multiple of 64");
        return NULL;
    }
    int64_t count = open_buffer(args[5], &into, 8, 1, "into");
    if (count < 0)
        return NULL;
    fill_coins(&at, first / 64, count, into.buf);
    PyBuffer_Release(&into);
    Py_RETURN_NONE;
}

/* words(seed, epoch, node, draw, shot_first, into): one word per shot. */
static PyObject *words(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    place at;
    Py_buffer into;
    if (!wanted(given, 6) || parse_place(args, &at))
        return NULL;
    uint64_t shot = PyLong_AsUnsignedLongLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    int64_t count = open_buffer(args[5], &into, 8, 1, "into");
    if (count < 0)
        return NULL;
    uint64_t *out = into.buf, coins = 0;
    for (int64_t done = 0; done < count;) {
        philox_block low = draw_block(&at, DOMAIN_WORDS, shot >> 2);
        if (!done || !(shot & 63))
            coins = coin_word(&at, shot >> 6);
        do {
            out[done++] = whole_word(coins >> (shot & 63) & 1, low.word[shot & 3]);
            shot++;
        } while (shot & 3 && done < count);
    }
    PyBuffer_Release(&into);
    Py_RETURN_NONE;
}

/* coin(seed, epoch, node, draw, shot) -> 0 or 1 */
static PyObject *coin(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    place at;
    if (!wanted(given, 5) || parse_place(args, &at))
        return NULL;
    uint64_t shot = PyLong_AsUnsignedLongLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    return PyLong_FromLong((long)(coin_word(&at, shot >> 6) >> (shot & 63) & 1));
}

/* gaps(chance, into): the table of strikes.h; chance in units of 2^-64, modulo 1. */
static PyObject *gaps(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    Py_buffer into;
    if (!wanted(given, 2))
        return NULL;
    uint64_t chance = PyLong_AsUnsignedLongLong(args[0]);
    if (PyErr_Occurred())
        return NULL;
    int64_t count = open_buffer(args[1], &into, 8, 1, "into");
    if (count < 0)
        return NULL;
    if (count == GAPS_WORDS)
        fill_gaps(chance, into.buf);
    else
        PyErr_Format(PyExc_ValueError, "a table takes %d words", GAPS_WORDS);
    PyBuffer_Release(&into);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* The strikes of shots [first, first + shots); counts them all and writes the first `room`. */
static int64_t find_strikes(const place *at, const uint64_t *table, const uint64_t *bounds,
                            int32_t things, uint64_t first, uint64_t shots, uint32_t *hit,
                            uint32_t *which, int64_t room)
{
    int64_t found = 0;
    for (uint64_t block = first / STRIKE_SHOTS; block * STRIKE_SHOTS < first + shots; block++) {
        striking s = strike_block(at, table, block);
        uint64_t word;
        while (next_strike(&s, &word)) {
            uint64_t shot = block * STRIKE_SHOTS + (uint64_t)s.shot;
            if (shot >= first + shots)
                break;
            if (shot < first)
                continue;
            if (found < room) {
                hit[found] = (uint32_t)(shot - first);
                which[found] = (uint32_t)pick(bounds, things, word);
            }
            found++;
        }
    }
    return found;
}

/* strikes(seed, epoch, node, draw, shot_first, shots, gaps, bounds, hit, which) -> count
   hit, which: uint32, room for what is found; where there are more, only the count is right. */
static PyObject *strikes(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    place at;
    Py_buffer view[4];
    static const char *names[4] = {"gaps", "bounds", "hit", "which"};
    int64_t count[4];
    if (!wanted(given, 10) || parse_place(args, &at))
        return NULL;
    uint64_t first = PyLong_AsUnsignedLongLong(args[4]);
    uint64_t shots = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[5]);
    if (PyErr_Occurred())
        return NULL;
    int open = 0;
    for (; open < 4; open++) {
        count[open] = open_buffer(args[6 + open], &view[open], open < 2 ? 8 : 4, open > 1, names[open]);
        if (count[open] < 0)
            break;
    }
    PyObject *result = NULL;
    if (open == 4) {
        if (count[0] != GAPS_WORDS || count[2] != count[3] || shots >> 32)
            PyErr_SetString(PyExc_ValueError, "the buffers do not fit one another");
        else
            result = PyLong_FromLongLong(find_strikes(&at, view[0].buf, view[1].buf,
                                                      (int32_t)count[1] + 1, first, shots,
                                                      view[2].buf, view[3].buf, count[2]));
    }
    while (open--)
        PyBuffer_Release(&view[open]);
    return result;
}

static PyMethodDef methods[] = {
    {"coins", (PyCFunction)(void (*)(void))coins, METH_FASTCALL, NULL},
    {"words", (PyCFunction)(void (*)(void))words, METH_FASTCALL, NULL},
    {"coin", (PyCFunction)(void (*)(void))coin, METH_FASTCALL, NULL},
    {"gaps", (PyCFunction)(void (*)(void))gaps, METH_FASTCALL, NULL},
    {"strikes", (PyCFunction)(void (*)(void))strikes, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_chance", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__chance(void)
{
    return PyModule_Create(&module);
}
