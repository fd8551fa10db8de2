/* What Python and NumPy do slowly, value by value: strings, bytes and single samples, straight from checked pages;
   samples on their way into pages; and small files, one by one. (Pixels are in _pixels.c.)

   Optional: recordio/kernels.py says whether this module is there, and everything works without it. Two rules keep it
   small and safe:

   - Nothing is read beyond a buffer. Pages whose bounds do not hold have no samples here, and every offset is compared
     with its buffer at the moment of use, since a file can change under its map.
   - A kernel never reports damage. It *declines*: the caller then runs the Python code for the same value, which is
     its twin and raises the error that says where the damage is. Only exceptions such as MemoryError leave from here.

   Not for the limited API: PyUnicode_New and writing into a new string are not in it, and without them a string is
   made of bytes that have been copied and scanned by a call that cannot be inlined. */

#include "_pixels.h"
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
#include <unistd.h>

#define AHEAD 4           /* values fetched into the cache before their turn: fewer are slower, more no faster */
#define AHEAD_NBYTES 2048 /* of each of them; the processor fetches the rest of a long run by itself */
#define FIELDS_AT_ONCE 32 /* of a single sample */
#define UNLOCKED_NBYTES (64 << 10) /* copies from here on let other threads run */
#define MAX_PACKED_NDIM 8          /* of arrays that are packed here */
#define MAX_PATH_NBYTES 4096       /* with its end; longer ones the system refuses */
#define MAX_FILE_NBYTES (1 << 30)  /* of a file that is read in one call */

#if defined(__GNUC__)
#define FETCH(address) __builtin_prefetch(address)
#else
#define FETCH(address) ((void)(address))
#endif

/* --- int64 arrays of NumPy, as arguments ------------------------------------------------------------------------- */

typedef struct {
    Py_buffer view;
    Py_ssize_t n;
} Numbers;

/* The format of a buffer, without what says that it is little-endian, as arrays that were made for a file do. */
static const char *format_of(const Py_buffer *view)
{
    const char *format = view->format ? view->format : "B";
    return format + (*format == '<' || *format == '=');
}

/* Of numbers of one size: an integer of 64 bits has one letter or the other, by where its array comes from. */
static int same_format(const char *one, const char *other)
{
    char a = *one == 'l' ? 'q' : *one == 'L' ? 'Q' : *one;
    char b = *other == 'l' ? 'q' : *other == 'L' ? 'Q' : *other;
    return a == b && (!a || !strcmp(one + 1, other + 1));
}

/* Gets an int64 (n,) array of any stride. n < 0: any n. */
static int numbers_get(PyObject *array, Numbers *out, Py_ssize_t n)
{
    if (PyObject_GetBuffer(array, &out->view, PyBUF_STRIDES | PyBUF_FORMAT) < 0)
        return -1;
    if (out->view.ndim == 1 && out->view.itemsize == 8 && same_format(format_of(&out->view), "q")) {
        out->n = out->view.shape[0];
        if (n < 0 || n == out->n)
            return 0;
    }
    PyBuffer_Release(&out->view);
    PyErr_SetString(PyExc_ValueError, "expected int64 arrays of one length");
    return -1;
}

static inline int64_t number_at(const Numbers *numbers, Py_ssize_t k)
{
    int64_t found;
    memcpy(&found, (const char *)numbers->view.buf + k * numbers->view.strides[0], sizeof found);
    return found;
}

/* --- Values: the twin of recordio.format.page.Pages, for text, bytes and fixed values ---------------------------- */

enum { TEXT, BYTES, SCALAR, ARRAY, FORMS };

typedef struct {
    int64_t start;   /* of the page, where the bits of an optional field are */
    int64_t body;    /* after these: offsets and bytes, or fixed values */
    int64_t samples; /* 0 for a page that does not fit into the buffer: nothing of it is read */
    int64_t width;   /* bytes of an element as stored: fewer than `item` in a narrow page */
} Page;

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    Py_buffer buffer;
    Py_ssize_t pages;
    Page *page;
    int form, optional;
    Py_ssize_t uses; /* reads by a Rows since the page cache asked last: they pass it by */
    /* Of fixed values: an array that each is written into, to be copied by NumPy. So NumPy's C API is not needed. */
    PyObject *model;
    Py_buffer scratch;
    int64_t item, elements;
    int busy; /* while NumPy copies, it may let another thread run */
} Values;

typedef struct {
    const char *begin; /* NULL if the value is missing */
    Py_ssize_t nbytes;
} Span;

static PyTypeObject ValuesType;

static int fits(const Values *self, const Page *page)
{
    int64_t len = self->buffer.len, most;
    if (page->start < 0 || page->body < page->start || page->body > len || page->samples < 0 || page->width < 0)
        return 0;
    /* The bits of an optional field are before the body, or in it, which takes more bytes than they do. */
    if (self->form == TEXT || self->form == BYTES)
        return page->samples < (len - page->body) / 8;
    most = len - page->body;
    if (page->width != self->item) { /* narrow: a base follows the distances */
        if (page->width > self->item || (page->width != 1 && page->width != 2 && page->width != 4) ||
            (self->item != 2 && self->item != 4 && self->item != 8))
            return 0;
        most -= self->item;
    }
    return most >= 0 && page->samples <= most / page->width / self->elements;
}

/* Where the value at (page, row) is. 0 declines. */
static inline int find(const Values *self, int64_t number, int64_t row, Span *out)
{
    if (number < 0 || number >= self->pages || row < 0 || row >= self->page[number].samples)
        return 0;
    const Page *page = &self->page[number];
    const char *memory = self->buffer.buf;
    int missing = self->optional && !(memory[page->start + (row >> 3)] >> (row & 7) & 1);
    if (self->form >= SCALAR) {
        out->nbytes = (Py_ssize_t)(self->elements * page->width);
        out->begin = missing ? NULL : memory + page->body + row * out->nbytes;
        return 1;
    }
    int64_t offset[2], data = page->body + 8 * (page->samples + 1);
    memcpy(offset, memory + page->body + 8 * row, sizeof offset);
    if (offset[0] < 0 || offset[1] < offset[0] || offset[1] > self->buffer.len - data)
        return 0;
    *out = (Span){missing ? NULL : memory + data + offset[0], (Py_ssize_t)(offset[1] - offset[0])};
    return !missing || !out->nbytes; /* no bytes are stored of a missing value */
}

static inline void fetch(const Span *span)
{
    Py_ssize_t nbytes = span->nbytes < AHEAD_NBYTES ? span->nbytes : AHEAD_NBYTES;
    for (Py_ssize_t k = 0; span->begin && k < nbytes; k += 64)
        FETCH(span->begin + k);
}

static inline int is_ascii(const char *text, Py_ssize_t nbytes)
{
    uint64_t any = 0, eight[4];
    Py_ssize_t k = 0;
    for (; k + 32 <= nbytes; k += 32) {
        memcpy(eight, text + k, 32);
        any |= eight[0] | eight[1] | eight[2] | eight[3];
    }
    for (; k < nbytes; k++)
        any |= (unsigned char)text[k];
    return !(any & 0x8080808080808080u);
}

static inline PyObject *object_of(int form, Span span)
{
    if (!span.begin)
        return Py_NewRef(Py_None);
    if (form == BYTES)
        return PyBytes_FromStringAndSize(span.begin, span.nbytes);
    if (span.nbytes < 2) /* Python has the strings of one character already */
        return PyUnicode_DecodeUTF8(span.begin, span.nbytes, NULL);
    PyObject *text = PyUnicode_New(span.nbytes, 127), *decoded;
    if (!text)
        return NULL;
    char *copy = (char *)PyUnicode_1BYTE_DATA(text); /* what is looked at stays the same, unlike a mapped file */
    memcpy(copy, span.begin, (size_t)span.nbytes);
    if (is_ascii(copy, span.nbytes))
        return text;
    decoded = PyUnicode_DecodeUTF8(copy, span.nbytes, NULL);
    Py_DECREF(text);
    return decoded;
}

#define WIDEN(FROM, TO)                                                                                                \
    for (int64_t k = 0; k < elements; k++) {                                                                           \
        FROM distance;                                                                                                 \
        memcpy(&distance, from + k * sizeof distance, sizeof distance);                                                \
        TO value = (TO)(base + distance);                                                                              \
        memcpy(to + k * sizeof value, &value, sizeof value);                                                           \
    }

/* Elements of a narrow page, as FORMAT.md says: base + distance, modulo the range of their dtype. */
static void widen(char *to, const char *from, int64_t elements, int64_t width, int64_t item, const char *base_at)
{
    uint64_t base = 0;
    memcpy(&base, base_at, (size_t)item);
    switch (width << 4 | item) {
    case 0x12: WIDEN(uint8_t, uint16_t) break;
    case 0x14: WIDEN(uint8_t, uint32_t) break;
    case 0x18: WIDEN(uint8_t, uint64_t) break;
    case 0x24: WIDEN(uint16_t, uint32_t) break;
    case 0x28: WIDEN(uint16_t, uint64_t) break;
    case 0x48: WIDEN(uint32_t, uint64_t) break;
    }
}

static PyObject *copy_name;

/* A NumPy scalar, or a new array. NULL without an exception declines. */
static PyObject *fixed_value(Values *self, const Page *page, Span span)
{
    if (self->busy)
        return NULL;
    if (page->width < self->item)
        widen(self->scratch.buf, span.begin, self->elements, page->width, self->item,
              (const char *)self->buffer.buf + page->body + page->samples * span.nbytes);
    else
        memcpy(self->scratch.buf, span.begin, (size_t)span.nbytes);
    if (self->form == SCALAR)
        return PySequence_GetItem(self->model, 0);
    self->busy = 1;
    PyObject *value = PyObject_CallMethodNoArgs(self->model, copy_name);
    self->busy = 0;
    return value;
}

/* Copies numbers of NumPy into a column of the pages. */
static int put_numbers(PyObject *array, Values *self, size_t at)
{
    Numbers numbers;
    if (numbers_get(array, &numbers, self->pages) < 0)
        return -1;
    for (Py_ssize_t k = 0; k < self->pages; k++)
        *(int64_t *)((char *)&self->page[k] + at) = number_at(&numbers, k);
    PyBuffer_Release(&numbers.view);
    return 0;
}

static int set_model(Values *self, PyObject *model)
{
    if (PyObject_GetBuffer(model, &self->scratch, PyBUF_CONTIG | PyBUF_FORMAT) < 0)
        return -1;
    self->model = Py_NewRef(model);
    self->item = self->scratch.itemsize;
    self->elements = self->item ? self->scratch.len / self->item : 0;
    if (self->elements && (self->form != SCALAR || self->elements == 1))
        return 0;
    PyErr_SetString(PyExc_ValueError, "expected a model of one element or more");
    return -1;
}

static PyObject *values_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *buffer, *starts, *bodies, *samples, *model = Py_None, *widths = Py_None;
    int form, optional;
    static char *names[] = {"buffer", "starts", "bodies", "samples", "form", "optional", "model", "widths", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOip|OO", names, &buffer, &starts, &bodies, &samples, &form,
                                     &optional, &model, &widths))
        return NULL;
    Values *self = (Values *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->form = form, self->optional = optional;
    if (form < 0 || form >= FORMS || (form >= SCALAR) != (model != Py_None)) {
        PyErr_SetString(PyExc_ValueError, "expected a form, and a model of fixed values");
        goto failed;
    }
    if (PyObject_GetBuffer(buffer, &self->buffer, PyBUF_SIMPLE) < 0 || (form >= SCALAR && set_model(self, model) < 0))
        goto failed;
    self->pages = PyObject_Length(starts);
    if (self->pages < 0)
        goto failed;
    self->page = PyMem_New(Page, self->pages ? self->pages : 1);
    if (!self->page) {
        PyErr_NoMemory();
        goto failed;
    }
    for (Py_ssize_t k = 0; k < self->pages; k++)
        self->page[k].width = self->item;
    if (put_numbers(starts, self, offsetof(Page, start)) < 0 || put_numbers(bodies, self, offsetof(Page, body)) < 0 ||
        put_numbers(samples, self, offsetof(Page, samples)) < 0 ||
        (widths != Py_None && put_numbers(widths, self, offsetof(Page, width)) < 0))
        goto failed;
    for (Py_ssize_t k = 0; k < self->pages; k++)
        if (!fits(self, &self->page[k]))
            self->page[k].samples = 0;
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static void values_dealloc(Values *self)
{
    if (self->weakrefs)
        PyObject_ClearWeakRefs((PyObject *)self);
    PyBuffer_Release(&self->buffer);
    PyBuffer_Release(&self->scratch);
    Py_XDECREF(self->model);
    PyMem_Free(self->page);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef values_members[] = {
    {"uses", T_PYSSIZET, offsetof(Values, uses), 0, "reads by a Rows; whoever counts them sets it to 0"},
    {0},
};

static PyTypeObject ValuesType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "recordio._kernels.Values",
    .tp_doc = "Values(buffer, starts, bodies, samples, form, optional, model=None, widths=None): pages of a field.",
    .tp_basicsize = sizeof(Values),
    .tp_flags = Py_TPFLAGS_DEFAULT, /* holds nothing that could refer to it: no cycles to collect */
    .tp_new = values_new,
    .tp_dealloc = (destructor)values_dealloc,
    .tp_weaklistoffset = offsetof(Values, weakrefs),
    .tp_members = values_members,
};

/* --- columns: take, join and gather ------------------------------------------------------------------------------ */

typedef struct {
    PyObject *values; /* a tuple, which holds the memory of the spans */
    Py_ssize_t n;
    Span *span;
    int form;
} Spans;

static void spans_free(Spans *spans)
{
    Py_CLEAR(spans->values);
    PyMem_Free(spans->span);
    spans->span = NULL;
}

/* Finds all values first, so that the memory of each is fetched before its turn. 1: found. 0: declined. -1: error. */
static int spans_find(Spans *spans, int fixed, PyObject *const *places)
{
    PyObject *values = places[0], *groups = places[1], *pages = places[2], *rows = places[3];
    Numbers group = {0}, page = {0}, row = {0};
    int found = -1;
    *spans = (Spans){.values = PySequence_Tuple(values)};
    if (!spans->values || numbers_get(pages, &page, -1) < 0 || numbers_get(rows, &row, page.n) < 0 ||
        (groups != Py_None && numbers_get(groups, &group, page.n) < 0))
        goto done;
    spans->n = page.n;
    spans->span = PyMem_New(Span, page.n ? page.n : 1);
    if (!spans->span) {
        PyErr_NoMemory();
        goto done;
    }
    found = 1;
    for (Py_ssize_t k = 0; found && k < page.n; k++) {
        int64_t number = groups == Py_None ? 0 : number_at(&group, k);
        found = number >= 0 && number < PyTuple_GET_SIZE(spans->values);
        if (!found)
            break;
        Values *one = (Values *)PyTuple_GET_ITEM(spans->values, number);
        found = Py_IS_TYPE(one, &ValuesType) && (one->form >= SCALAR) == fixed && (!k || one->form == spans->form) &&
                find(one, number_at(&page, k), number_at(&row, k), &spans->span[k]);
        spans->form = found ? one->form : 0;
    }
done:
    PyBuffer_Release(&group.view); /* nothing, if it was not got */
    PyBuffer_Release(&page.view);
    PyBuffer_Release(&row.view);
    if (found != 1)
        spans_free(spans);
    return found;
}

PyDoc_STRVAR(take_doc, "take(values, group, page, row) -> list of str or bytes, None where one is missing.\n\n"
                       "values: Values of one form. group: which of them, None for the first. None: declined.");

static PyObject *take(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Spans spans;
    (void)module;
    if (count != 4)
        return PyErr_Format(PyExc_TypeError, "take takes 4 arguments");
    int found = spans_find(&spans, 0, args);
    if (found < 1)
        return found < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *out = PyList_New(spans.n);
    for (Py_ssize_t k = 0; out && k < spans.n; k++) {
        if (k + AHEAD < spans.n)
            fetch(&spans.span[k + AHEAD]);
        PyObject *value = object_of(spans.form, spans.span[k]);
        if (value)
            PyList_SET_ITEM(out, k, value);
        else
            Py_CLEAR(out);
    }
    spans_free(&spans);
    if (!out && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    return out;
}

static void copy_all(char *to, const Spans *spans, Py_ssize_t total)
{
    PyThreadState *unlocked = total >= UNLOCKED_NBYTES ? PyEval_SaveThread() : NULL;
    const Span *span = spans->span, *end = span + spans->n;
    while (span < end) {
        const char *from = span->begin;
        Py_ssize_t nbytes = span->nbytes;
        const Span *next = span + 1;
        while (from && next < end && next->begin == from + nbytes) /* in order: together */
            nbytes += next++->nbytes;
        if (next == span + 1 && end - span > AHEAD)
            fetch(span + AHEAD);
        if (from)
            memcpy(to, from, (size_t)nbytes);
        to += nbytes;
        span = next;
    }
    if (unlocked)
        PyEval_RestoreThread(unlocked);
}

PyDoc_STRVAR(join_doc, "join(values, group, page, row, most, offsets, missing) -> bytearray of all values, end to end."
                       "\n\noffsets: int64 (n + 1,), is filled with where each begins; missing: bool (n,), with which "
                       "are. None: declined, as more than `most` bytes are.");

static PyObject *join(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Spans spans;
    (void)module;
    if (count != 7)
        return PyErr_Format(PyExc_TypeError, "join takes 7 arguments");
    Py_ssize_t most = PyLong_AsSsize_t(args[4]), total = 0;
    if (most < 0)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    int found = spans_find(&spans, 0, args);
    if (found < 1)
        return found < 0 ? NULL : Py_NewRef(Py_None);
    Py_buffer offsets = {0}, missing = {0};
    PyObject *out = NULL;
    if (PyObject_GetBuffer(args[5], &offsets, PyBUF_CONTIG) < 0 ||
        PyObject_GetBuffer(args[6], &missing, PyBUF_CONTIG) < 0)
        goto done;
    if (offsets.itemsize != 8 || offsets.len / 8 != spans.n + 1 || missing.len != spans.n)
        PyErr_SetString(PyExc_ValueError, "expected a mark for each value, and one offset more");
    else {
        int64_t *offset = offsets.buf;
        for (Py_ssize_t k = 0; k < spans.n && total >= 0; k++) {
            ((char *)missing.buf)[k] = !spans.span[k].begin;
            offset[k] = total;
            total = spans.span[k].nbytes <= most - total ? total + spans.span[k].nbytes : -1;
        }
        offset[spans.n] = total;
        out = total < 0 ? Py_NewRef(Py_None) : PyByteArray_FromStringAndSize(NULL, total);
    }
    if (out && out != Py_None)
        copy_all(PyByteArray_AS_STRING(out), &spans, total);
done:
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&missing);
    spans_free(&spans);
    return out;
}

PyDoc_STRVAR(gather_doc, "gather(values, group, page, row, out) -> whether the fixed values are in `out` now.\n\n"
                         "For pages in many buffers, and for values that are no rows of a table: those NumPy "
                         "gathers as fast. Declines narrow and missing values.");

static PyObject *gather(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Spans spans;
    (void)module;
    if (count != 5)
        return PyErr_Format(PyExc_TypeError, "gather takes 5 arguments");
    int found = spans_find(&spans, 1, args);
    if (found < 1)
        return found < 0 ? NULL : Py_NewRef(Py_False);
    Py_buffer out;
    if (PyObject_GetBuffer(args[4], &out, PyBUF_CONTIG) < 0) {
        spans_free(&spans);
        return NULL;
    }
    Py_ssize_t nbytes = spans.n ? out.len / spans.n : 0;
    found = out.len == spans.n * nbytes;
    for (Py_ssize_t k = 0; k < spans.n && found; k++)
        found = spans.span[k].begin && spans.span[k].nbytes == nbytes;
    if (found)
        copy_all(out.buf, &spans, out.len);
    PyBuffer_Release(&out);
    spans_free(&spans);
    return PyBool_FromLong(found);
}

/* --- Rows: the single samples of an open shard ------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Py_ssize_t blocks, fields;
    int64_t *first;   /* the first sample of each block, and their number */
    Py_buffer ready;  /* a byte per block: 0 until its pages have been checked */
    PyObject *names, *sources, *slow;
} Rows;

/* A strong reference to the object of a weak one; NULL without an exception if it is gone. */
static PyObject *strong(PyObject *reference)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *found = NULL;
    return PyWeakref_GetRef(reference, &found) < 0 ? NULL : found;
#else
    PyObject *found = PyWeakref_GetObject(reference);
    return found && found != Py_None ? Py_NewRef(found) : NULL;
#endif
}

typedef struct {
    Values *values; /* NULL if the value comes from a function */
    int64_t page;
    Span span;
} Place;

/* Finds a value of a source, and begins to fetch it into the cache. 0 declines. A source is one of

     Values of all blocks;
     a list with one of these for each block: such Values, or a weak reference to the Values of its only page;
     a function of block and row. */
static int place_find(PyObject *source, int64_t block, int64_t row, Place *out)
{
    out->values = NULL;
    out->page = block;
    if (Py_IS_TYPE(source, &ValuesType))
        out->values = (Values *)Py_NewRef(source);
    else if (!PyList_CheckExact(source))
        return 1;
    else {
        PyObject *one = block < PyList_GET_SIZE(source) ? PyList_GET_ITEM(source, block) : Py_None;
        if (Py_IS_TYPE(one, &ValuesType))
            out->values = (Values *)Py_NewRef(one);
        else if (PyWeakref_Check(one) && (one = strong(one))) {
            if (!Py_IS_TYPE(one, &ValuesType)) {
                Py_DECREF(one);
                return 0;
            }
            out->values = (Values *)one;
            out->page = 0;
        } else
            return 0;
    }
    if (!find(out->values, out->page, row, &out->span))
        return 0;
    out->values->uses++;
    fetch(&out->span);
    return 1;
}

/* The value that was found there. NULL without an exception declines. */
static PyObject *place_value(const Place *place, PyObject *source, int64_t block, int64_t row)
{
    Values *values = place->values;
    PyObject *value = NULL;
    if (!values)
        value = PyObject_CallFunction(source, "LL", (long long)block, (long long)row);
    else if (values->form >= SCALAR && place->span.begin)
        return fixed_value(values, &values->page[place->page], place->span);
    else
        value = object_of(values->form, place->span);
    if (!value && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear(); /* the twin raises it again, with the place */
    return value;
}

/* Adds some fields of a sample, all of which are found before the first is made. 0 declines, or there is an error. */
static int add_fields(PyObject *out, PyObject *const *names, PyObject *const *sources, Py_ssize_t fields, int64_t block,
                      int64_t row)
{
    Place places[FIELDS_AT_ONCE];
    Py_ssize_t found = 0, done = 0;
    int fine = 1;
    for (; fine && found < fields; found++)
        fine = place_find(sources[found], block, row, &places[found]);
    for (; fine && done < fields; done++) {
        PyObject *value = place_value(&places[done], sources[done], block, row);
        fine = value && PyDict_SetItem(out, names[done], value) == 0;
        Py_XDECREF(value);
    }
    while (found--)
        Py_XDECREF(places[found].values);
    return fine;
}

PyDoc_STRVAR(sample_doc, "sample(number) -> dict of the fields' values; slow(number) if a kernel declines.");

static PyObject *rows_sample(Rows *self, PyObject *number)
{
    int64_t wanted = PyLong_CheckExact(number) ? PyLong_AsLongLong(number) : -1;
    if (wanted < 0 || wanted >= self->first[self->blocks]) {
        PyErr_Clear(); /* a number of more than 64 bits */
        return PyObject_CallOneArg(self->slow, number);
    }
    Py_ssize_t block = 0, end = self->blocks;
    while (end - block > 1) {
        Py_ssize_t middle = (block + end) / 2;
        if (self->first[middle] <= wanted)
            block = middle;
        else
            end = middle;
    }
    PyObject *out = ((const char *)self->ready.buf)[block] ? PyDict_New() : NULL;
    PyObject *const *names = ((PyTupleObject *)self->names)->ob_item;
    PyObject *const *sources = ((PyTupleObject *)self->sources)->ob_item;
    for (Py_ssize_t k = 0; out && k < self->fields; k += FIELDS_AT_ONCE) {
        Py_ssize_t fields = self->fields - k < FIELDS_AT_ONCE ? self->fields - k : FIELDS_AT_ONCE;
        if (!add_fields(out, names + k, sources + k, fields, block, wanted - self->first[block]))
            Py_CLEAR(out);
    }
    return out || PyErr_Occurred() ? out : PyObject_CallOneArg(self->slow, number);
}

static PyObject *rows_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *first, *ready, *names, *sources, *slow;
    static char *keywords[] = {"first", "ready", "names", "sources", "slow", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO!O!O", keywords, &first, &ready, &PyTuple_Type, &names,
                                     &PyTuple_Type, &sources, &slow))
        return NULL;
    Numbers numbers;
    Rows *self = (Rows *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->names = Py_NewRef(names), self->sources = Py_NewRef(sources), self->slow = Py_NewRef(slow);
    self->fields = PyTuple_GET_SIZE(names);
    if (PyObject_GetBuffer(ready, &self->ready, PyBUF_SIMPLE) < 0 || numbers_get(first, &numbers, -1) < 0)
        goto failed;
    self->blocks = numbers.n - 1;
    if (self->blocks < 1 || self->ready.len != self->blocks || PyTuple_GET_SIZE(sources) != self->fields)
        PyErr_SetString(PyExc_ValueError, "expected a mark for each block, and a source for each name");
    else if (!(self->first = PyMem_New(int64_t, numbers.n)))
        PyErr_NoMemory();
    for (Py_ssize_t k = 0; self->first && k < numbers.n; k++) {
        self->first[k] = number_at(&numbers, k);
        if (self->first[k] < 0)
            self->first[k] = INT64_MAX; /* of no sample */
    }
    PyBuffer_Release(&numbers.view);
    if (self->first)
        return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static void rows_dealloc(Rows *self)
{
    PyBuffer_Release(&self->ready);
    Py_XDECREF(self->names);
    Py_XDECREF(self->sources);
    Py_XDECREF(self->slow);
    PyMem_Free(self->first);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef rows_methods[] = {{"sample", (PyCFunction)rows_sample, METH_O, sample_doc}, {0}};

static PyTypeObject RowsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "recordio._kernels.Rows",
    .tp_doc = "Rows(first, ready, names, sources, slow): single samples of blocks whose pages have been checked.",
    .tp_basicsize = sizeof(Rows),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = rows_new,
    .tp_dealloc = (destructor)rows_dealloc,
    .tp_methods = rows_methods,
};

/* --- RowPacker: the twin of recordio.writer.packing.Packer.pack, for plain values -------------------------------- */

enum { PACK_TEXT, PACK_BYTES, PACK_INT, PACK_UINT, PACK_FLOAT, PACK_ARRAY, PACK_FORMS };

typedef struct {
    PyObject *name;
    int form, optional;
    Py_ssize_t item;  /* bytes of a number */
    PyObject *format; /* that the buffers of its arrays have, bytes */
    int ndim;
    Py_ssize_t shape[MAX_PACKED_NDIM]; /* -1: free, said before the elements */
} PackField;

typedef struct {
    PyObject_HEAD
    Py_ssize_t n;
    PackField *field;
    PyObject *array; /* the type of arrays: those of a class beneath it may mean something else */
} RowPacker;

static PyObject *packed_text(PyObject *value)
{
    if (!PyUnicode_CheckExact(value))
        return NULL;
    if (PyUnicode_IS_COMPACT_ASCII(value))
        return PyBytes_FromStringAndSize((const char *)PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value));
    return PyUnicode_AsUTF8String(value);
}

static PyObject *packed_int(const PackField *field, PyObject *value)
{
    if (!PyLong_CheckExact(value))
        return NULL;
    int bits = 8 * (int)field->item;
    uint64_t found;
    if (field->form == PACK_UINT) {
        found = PyLong_AsUnsignedLongLong(value);
        if ((found == UINT64_MAX && PyErr_Occurred()) || (bits < 64 && found >> bits))
            return NULL;
    } else {
        int64_t number = PyLong_AsLongLong(value);
        if ((number == -1 && PyErr_Occurred()) || (bits < 64 && (number >> (bits - 1)) != (number < 0 ? -1 : 0)))
            return NULL;
        found = (uint64_t)number;
    }
    return PyBytes_FromStringAndSize((const char *)&found, field->item);
}

static PyObject *packed_float(const PackField *field, PyObject *value)
{
    char data[8];
    if (!PyFloat_CheckExact(value))
        return NULL;
    double number = PyFloat_AS_DOUBLE(value);
    int failed = field->item == 8   ? PyFloat_Pack8(number, data, 1)
                 : field->item == 4 ? PyFloat_Pack4(number, data, 1)
                                    : PyFloat_Pack2(number, data, 1);
    return failed ? NULL : PyBytes_FromStringAndSize(data, field->item);
}

static PyObject *packed_array(const RowPacker *self, const PackField *field, PyObject *value)
{
    Py_buffer view;
    if ((PyObject *)Py_TYPE(value) != self->array || PyObject_GetBuffer(value, &view, PyBUF_FORMAT | PyBUF_ND) < 0)
        return NULL; /* also of an array that is not contiguous */
    PyObject *out = NULL;
    Py_ssize_t head = 0;
    if (view.ndim != field->ndim || view.itemsize != field->item || !view.len ||
        !same_format(format_of(&view), PyBytes_AS_STRING(field->format)))
        goto done;
    for (int k = 0; k < view.ndim; k++) {
        if (field->shape[k] >= 0 && field->shape[k] != view.shape[k])
            goto done;
        head += field->shape[k] < 0 ? 8 : 0;
    }
    out = PyBytes_FromStringAndSize(NULL, head + view.len);
    if (!out)
        goto done;
    char *to = PyBytes_AS_STRING(out);
    for (int k = 0; k < view.ndim; k++)
        if (field->shape[k] < 0) {
            int64_t size = view.shape[k];
            memcpy(to, &size, sizeof size);
            to += sizeof size;
        }
    memcpy(to, view.buf, (size_t)view.len);
done:
    PyBuffer_Release(&view);
    return out;
}

/* NULL, perhaps with an exception, declines. */
static PyObject *packed_value(const RowPacker *self, const PackField *field, PyObject *value)
{
    if (field->optional && value == Py_None)
        return Py_NewRef(Py_None);
    switch (field->form) {
    case PACK_TEXT: return packed_text(value);
    case PACK_BYTES: return PyBytes_CheckExact(value) ? Py_NewRef(value) : NULL;
    case PACK_INT:
    case PACK_UINT: return packed_int(field, value);
    case PACK_FLOAT: return packed_float(field, value);
    default: return packed_array(self, field, value);
    }
}

PyDoc_STRVAR(pack_doc, "pack(sample, to) -> bytes of a sample, whose packed values were appended to the list `to`: bytes, "
                       "or None of what is missing.\n\nNone: declined, and nothing was appended.");

static PyObject *row_packer_pack(RowPacker *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "pack takes a sample and a list");
    if (!PyDict_CheckExact(args[0]) || PyDict_GET_SIZE(args[0]) != self->n)
        return Py_NewRef(Py_None);
    Py_ssize_t before = PyList_GET_SIZE(args[1]), nbytes = 0, k = 0;
    for (int taken = 1; taken && k < self->n; k += taken) {
        PyObject *value = Py_XNewRef(PyDict_GetItemWithError(args[0], self->field[k].name));
        PyObject *packed = value ? packed_value(self, &self->field[k], value) : NULL;
        taken = packed && PyList_Append(args[1], packed) == 0;
        nbytes += taken && packed != Py_None ? PyBytes_GET_SIZE(packed) : 0;
        Py_XDECREF(value);
        Py_XDECREF(packed);
    }
    PyObject *done = k == self->n ? PyLong_FromSsize_t(nbytes) : NULL, *type, *error, *trace;
    if (done)
        return done;
    PyErr_Fetch(&type, &error, &trace);
    for (Py_ssize_t size = PyList_GET_SIZE(args[1]); size > before; size--) /* few at a time take no memory */
        if (PyList_SetSlice(args[1], size - 1, size, NULL) < 0)
            return NULL;
    PyErr_Restore(type, error, trace);
    if (PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError) || !PyErr_ExceptionMatches(PyExc_Exception))
            return NULL;
        PyErr_Clear(); /* the twin raises it again, in its own words */
    }
    return Py_NewRef(Py_None);
}

static int set_field(PackField *field, PyObject *given)
{
    PyObject *shape;
    if (!PyTuple_Check(given)) {
        PyErr_SetString(PyExc_TypeError, "a field is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(given, "UipnSO!", &field->name, &field->form, &field->optional, &field->item, &field->format,
                          &PyTuple_Type, &shape)) {
        field->name = field->format = NULL;
        return -1;
    }
    Py_INCREF(field->name);
    Py_INCREF(field->format);
    Py_ssize_t ndim = PyTuple_GET_SIZE(shape);
    int is_number = field->form != PACK_TEXT && field->form != PACK_BYTES;
    if (field->form < 0 || field->form >= PACK_FORMS || ndim > MAX_PACKED_NDIM ||
        (field->form == PACK_ARRAY) != (ndim > 0) ||
        (is_number && field->form != PACK_ARRAY && (field->item < 1 || field->item > 8))) {
        PyErr_SetString(PyExc_ValueError, "expected a form, a number of up to 8 bytes, and a shape of arrays alone");
        return -1;
    }
    field->ndim = (int)ndim;
    for (Py_ssize_t k = 0; k < ndim; k++) {
        field->shape[k] = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, k));
        if (field->shape[k] == -1 && PyErr_Occurred())
            return -1;
    }
    return 0;
}

static PyObject *row_packer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *array, *fields;
    static char *names[] = {"array", "fields", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!", names, &PyType_Type, &array, &PyTuple_Type, &fields))
        return NULL;
    RowPacker *self = (RowPacker *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->array = Py_NewRef(array);
    self->n = PyTuple_GET_SIZE(fields);
    self->field = PyMem_Calloc((size_t)self->n + 1, sizeof(PackField));
    if (!self->field)
        PyErr_NoMemory();
    for (Py_ssize_t k = 0; self->field && k < self->n; k++)
        if (set_field(&self->field[k], PyTuple_GET_ITEM(fields, k)) < 0)
            break;
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void row_packer_dealloc(RowPacker *self)
{
    for (Py_ssize_t k = 0; self->field && k < self->n; k++) {
        Py_XDECREF(self->field[k].name);
        Py_XDECREF(self->field[k].format);
    }
    PyMem_Free(self->field);
    Py_XDECREF(self->array);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef row_packer_methods[] = {
    {"pack", (PyCFunction)(void (*)(void))row_packer_pack, METH_FASTCALL, pack_doc}, {0}};

static PyTypeObject RowPackerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "recordio._kernels.RowPacker",
    .tp_doc = "RowPacker(array, fields): packs samples. array: the type of arrays. fields: a tuple for each of name, "
              "form, whether it is optional, bytes of a number, format of a buffer, shape with -1 for free.",
    .tp_basicsize = sizeof(RowPacker),
    .tp_flags = Py_TPFLAGS_DEFAULT, /* holds nothing that could refer to it */
    .tp_new = row_packer_new,
    .tp_dealloc = (destructor)row_packer_dealloc,
    .tp_methods = row_packer_methods,
};

/* --- Files, which Python reads with four calls each, and as many changes of the thread that holds its lock --------- */

/* Reads the file at a path below an open folder, which is names[from:to]. 0 if it cannot be read or is not as long as
   `data`, whose last byte, not of its content, is where one more would go. */
static int read_whole(int folder, const Py_buffer *names, int64_t from, int64_t to, PyObject *data)
{
    char path[MAX_PATH_NBYTES];
    if (from < 0 || to <= from || to > names->len || to - from >= MAX_PATH_NBYTES)
        return 0;
    memcpy(path, (const char *)names->buf + from, (size_t)(to - from));
    path[to - from] = 0;
    if (strlen(path) != (size_t)(to - from))
        return 0;
    int fd = openat(folder, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a FIFO must not wait for its writer */
    if (fd < 0)
        return 0;
    Py_ssize_t nbytes = PyBytes_GET_SIZE(data), got = read(fd, PyBytes_AS_STRING(data), (size_t)nbytes + 1);
    close(fd);
    return got == nbytes;
}

PyDoc_STRVAR(read_files_doc, "read_files(folder, names, starts, ends, sizes) -> list of bytes, None for each file that "
                             "cannot be read so, or is not as long.\n\nfolder: an open one. names: bytes, of which "
                             "starts and ends, int64 (n,) as sizes, cut the paths.");

static PyObject *read_files(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 5)
        return PyErr_Format(PyExc_TypeError, "read_files takes 5 arguments");
    int folder = (int)PyLong_AsLong(args[0]);
    Py_buffer names;
    Numbers start = {0}, end = {0}, size = {0};
    PyObject *out = NULL, **file = NULL;
    if ((folder == -1 && PyErr_Occurred()) || PyObject_GetBuffer(args[1], &names, PyBUF_SIMPLE) < 0)
        return NULL;
    if (numbers_get(args[2], &start, -1) < 0 || numbers_get(args[3], &end, start.n) < 0 ||
        numbers_get(args[4], &size, start.n) < 0 || !(out = PyList_New(start.n)))
        goto done;
    file = PyMem_New(PyObject *, start.n + 1);
    if (!file)
        PyErr_NoMemory();
    for (Py_ssize_t k = 0; file && out && k < start.n; k++) {
        int64_t nbytes = number_at(&size, k);
        int fits = nbytes > 0 && nbytes <= MAX_FILE_NBYTES;
        file[k] = fits ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)nbytes) : Py_NewRef(Py_None);
        if (file[k])
            PyList_SET_ITEM(out, k, file[k]);
        else
            Py_CLEAR(out);
    }
    if (!file || !out) {
        Py_CLEAR(out);
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t k = 0; k < start.n; k++)
        if (file[k] == Py_None || !read_whole(folder, &names, number_at(&start, k), number_at(&end, k), file[k]))
            file[k] = NULL;
    Py_END_ALLOW_THREADS
    for (Py_ssize_t k = 0; k < start.n; k++)
        if (!file[k])
            PyList_SetItem(out, k, Py_NewRef(Py_None));
done:
    PyMem_Free(file);
    PyBuffer_Release(&start.view);
    PyBuffer_Release(&end.view);
    PyBuffer_Release(&size.view);
    PyBuffer_Release(&names);
    return out;
}

static PyMethodDef functions[] = {
    {"read_files", (PyCFunction)(void (*)(void))read_files, METH_FASTCALL, read_files_doc},
    {"take", (PyCFunction)(void (*)(void))take, METH_FASTCALL, take_doc},
    {"join", (PyCFunction)(void (*)(void))join, METH_FASTCALL, join_doc},
    {"gather", (PyCFunction)(void (*)(void))gather, METH_FASTCALL, gather_doc},
    {"channel_sums", (PyCFunction)(void (*)(void))channel_sums, METH_FASTCALL, channel_sums_doc},
    {"resize_rgb", (PyCFunction)(void (*)(void))resize_rgb, METH_FASTCALL, resize_rgb_doc},
    {0},
};

/* Not for subinterpreters with a lock of their own: Python refuses it there, and the twins serve. */
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "recordio._kernels",
    .m_doc = "Optional kernels; see recordio/kernels.py.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__kernels(void)
{
    copy_name = PyUnicode_InternFromString("copy");
    PyObject *module = PyModule_Create(&definition);
    if (!copy_name || !module || PyModule_AddType(module, &ValuesType) < 0 || PyModule_AddType(module, &RowsType) < 0 ||
        PyModule_AddType(module, &RowPackerType) < 0 || PyModule_AddIntMacro(module, PACK_TEXT) < 0 ||
        PyModule_AddIntMacro(module, PACK_BYTES) < 0 || PyModule_AddIntMacro(module, PACK_INT) < 0 ||
        PyModule_AddIntMacro(module, PACK_UINT) < 0 || PyModule_AddIntMacro(module, PACK_FLOAT) < 0 ||
        PyModule_AddIntMacro(module, PACK_ARRAY) < 0 ||
        PyModule_AddIntMacro(module, MAX_PACKED_NDIM) < 0 ||
        PyModule_AddIntConstant(module, "PIXELS", has_pixels()) < 0 ||
        PyModule_AddIntMacro(module, TEXT) < 0 || PyModule_AddIntMacro(module, BYTES) < 0 ||
        PyModule_AddIntMacro(module, SCALAR) < 0 || PyModule_AddIntMacro(module, ARRAY) < 0)
        Py_CLEAR(module);
    return module;
}
