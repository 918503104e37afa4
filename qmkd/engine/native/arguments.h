/* Arguments of a call: several buffers, opened and closed together. */

#ifndef QMKD_ARGUMENTS_H
#define QMKD_ARGUMENTS_H

#include "buffers.h"

/* An argument that is a buffer: its place, bytes of an item, whether it is written to. */
typedef struct {
    int argument, item, writable;
    const char *name;
} field;

/* Open all or none; -1 with an exception. */
static inline int open_fields(PyObject *const *args, const field *fields, int number,
                              Py_buffer *views, int64_t *counts)
{
    for (int i = 0; i < number; i++) {
        counts[i] = open_buffer(args[fields[i].argument], &views[i], fields[i].item,
                                fields[i].writable, fields[i].name);
        if (counts[i] < 0) {
            while (i--)
                PyBuffer_Release(&views[i]);
            return -1;
        }
    }
    return 0;
}

/* Close all; None, or a ValueError that says why not. */
static inline PyObject *closed(Py_buffer *views, int number, const char *why)
{
    while (number--)
        PyBuffer_Release(&views[number]);
    if (why) {
        PyErr_SetString(PyExc_ValueError, why);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Whether there are as many arguments as expected; if not, with an exception. */
static inline int wanted(Py_ssize_t given, Py_ssize_t expected)
{
    if (given != expected)
        PyErr_Format(PyExc_TypeError, "%zd arguments are wanted, not %zd", expected, given);
    return given == expected;
}

#endif
