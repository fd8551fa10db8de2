/* Pixels of decoded pictures, for which the libraries take most of the time of a conversion beside the codecs: sums of
   channels, and Pillow's bilinear filter.

   Written for AVX2, which processors of the last ten years have, and for the dot products of AVX-512 where they are
   there: a compiler makes a third to a half of their speed of plain loops. Elsewhere both functions decline, and
   OpenCV and Pillow, their twins, give the same numbers. */

#include "_pixels.h"
#include <stdint.h>
#include <string.h>

const char channel_sums_doc[] =
    "channel_sums(pixels, channels, wide) -> (sums, squares), a tuple of ints each; None if it declined.\n\npixels: "
    "uint8, C-contiguous. channels: 1, 3 or 4. wide: whether vectors of 512 bits serve where they are there.";
const char resize_rgb_doc[] =
    "resize_rgb(pixels, out) -> whether it is done; if not, it declined.\n\npixels: uint8 (H, W, 3), C-contiguous or "
    "a box of such. out: uint8 (h, w, 3), C-contiguous.";

#if defined(__x86_64__) && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 9)) /* older ones lack intrinsics */
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vbmi,avx512vnni")))

int has_pixels(void)
{
    return __builtin_cpu_supports("avx2");
}

static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}

/* --- Sums of channels ----------------------------------------------------------------------------------------------

   Bytes are shuffled in lanes of 16 so that each four of them, one sum of 32 bits, are of one channel: of RGB a lane
   takes 12 bytes. A step is one vector of such lanes. */

#define MAX_CHANNELS 4
#define STEPS_IN_16_BITS 64     /* each adds up to 510 */
#define STEPS_IN_32_BITS 0x1f00 /* each adds up to 4 * 255^2; a multiple of STEPS_IN_16_BITS and of 4 */

typedef struct {
    uint64_t sums[MAX_CHANNELS], squares[MAX_CHANNELS];
} Sums;

static int lane_nbytes(int channels)
{
    return channels == 3 ? 12 : 16;
}

/* Where the bytes of a lane come from; 0x80 is none, for which a shuffle gives 0. */
static void lane_order(int channels, uint8_t order[16])
{
    for (int k = 0; k < 16; k++)
        order[k] = (uint8_t)(channels == 1 ? k : k / 4 < channels ? k % 4 * channels + k / 4 : 0x80);
}

static void add_lanes(Sums *out, int channels, const uint32_t *sums, const uint32_t *squares, int count)
{
    for (int k = 0; k < count; k++) {
        int channel = channels == 1 ? 0 : k % 4;
        if (channel < channels) {
            out->sums[channel] += sums[k];
            out->squares[channel] += squares[k];
        }
    }
}

AVX2 static __m256i two_lanes(const uint8_t *at, int nbytes, __m256i order)
{
    __m128i low = _mm_loadu_si128((const __m128i *)at), high = _mm_loadu_si128((const __m128i *)(at + nbytes));
    return _mm256_shuffle_epi8(_mm256_set_m128i(high, low), order);
}

AVX2 static void sum_by_avx2(const uint8_t *at, Py_ssize_t steps, int channels, Sums *out)
{
    uint8_t order16[16];
    lane_order(channels, order16);
    const __m256i order = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)order16));
    const __m256i low_bytes = _mm256_set1_epi16(0xff), ones = _mm256_set1_epi8(1), ones16 = _mm256_set1_epi16(1);
    const int nbytes = lane_nbytes(channels);
    __m256i sums = _mm256_setzero_si256(), even_squares = sums, odd_squares = sums;
    while (steps) {
        __m256i sums16 = _mm256_setzero_si256();
        Py_ssize_t now = steps < STEPS_IN_16_BITS ? steps : STEPS_IN_16_BITS;
        for (Py_ssize_t k = 0; k < now; k++, at += 2 * nbytes) {
            __m256i bytes = two_lanes(at, nbytes, order);
            __m256i even = _mm256_and_si256(bytes, low_bytes), odd = _mm256_srli_epi16(bytes, 8);
            sums16 = _mm256_add_epi16(sums16, _mm256_maddubs_epi16(bytes, ones));
            even_squares = _mm256_add_epi32(even_squares, _mm256_madd_epi16(even, even));
            odd_squares = _mm256_add_epi32(odd_squares, _mm256_madd_epi16(odd, odd));
        }
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(sums16, ones16));
        steps -= now;
    }
    uint32_t found[8], squares[8];
    _mm256_storeu_si256((__m256i *)found, sums);
    _mm256_storeu_si256((__m256i *)squares, _mm256_add_epi32(even_squares, odd_squares));
    add_lanes(out, channels, found, squares, 8);
}

/* A product of bytes takes one of them as signed: x * x = x * (x - 128) + 128 * x. */
AVX512 static void sum_by_avx512(const uint8_t *at, Py_ssize_t steps, int channels, Sums *out)
{
    uint8_t order16[16], order64[64];
    lane_order(channels, order16);
    const int nbytes = lane_nbytes(channels);
    __mmask64 there = 0;
    for (int k = 0; k < 64; k++) {
        order64[k] = (uint8_t)(k / 16 * nbytes + (order16[k % 16] & 0x0f));
        there |= (__mmask64)(order16[k % 16] < 0x80) << k;
    }
    const __m512i order = _mm512_loadu_si512(order64), ones = _mm512_set1_epi8(1), middle = _mm512_set1_epi8(-128);
    __m512i sums[4], products[4]; /* several, as each waits for the one before */
    for (int k = 0; k < 4; k++)
        sums[k] = products[k] = _mm512_setzero_si512();
    for (; steps >= 4; steps -= 4)
        for (int k = 0; k < 4; k++, at += 4 * nbytes) {
            __m512i bytes = _mm512_maskz_permutexvar_epi8(there, order, _mm512_loadu_si512(at));
            sums[k] = _mm512_dpbusd_epi32(sums[k], bytes, ones);
            products[k] = _mm512_dpbusd_epi32(products[k], bytes, _mm512_xor_si512(bytes, middle));
        }
    for (int k = 0; k < 4; k++) {
        uint32_t found[16], squares[16];
        _mm512_storeu_si512(found, sums[k]);
        _mm512_storeu_si512(squares, _mm512_add_epi32(products[k], _mm512_slli_epi32(sums[k], 7)));
        add_lanes(out, channels, found, squares, 16);
    }
}

static void sum_channels(const uint8_t *at, Py_ssize_t nbytes, int channels, int wide, Sums *out)
{
    const int lanes = wide ? 4 : 2, lane = lane_nbytes(channels);
    const Py_ssize_t step = (Py_ssize_t)lanes * lane;
    const Py_ssize_t beyond = wide ? 64 - step : 16 - lane; /* the last step, read in any case */
    Py_ssize_t left = nbytes < beyond ? 0 : (nbytes - beyond) / step;
    left -= wide ? left % 4 : 0;
    const uint8_t *end = at + nbytes;
    while (left) {
        Py_ssize_t now = left < STEPS_IN_32_BITS ? left : STEPS_IN_32_BITS;
        (wide ? sum_by_avx512 : sum_by_avx2)(at, now, channels, out);
        at += now * step;
        left -= now;
    }
    for (int channel = 0; at < end; at++, channel = (channel + 1) % channels) {
        out->sums[channel] += *at;
        out->squares[channel] += (uint64_t)*at * *at;
    }
}

static PyObject *ints(const uint64_t *numbers, int count)
{
    PyObject *out = PyTuple_New(count);
    for (int k = 0; out && k < count; k++) {
        PyObject *number = PyLong_FromUnsignedLongLong(numbers[k]);
        if (number)
            PyTuple_SET_ITEM(out, k, number);
        else
            Py_CLEAR(out);
    }
    return out;
}

PyObject *channel_sums(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    Py_buffer pixels;
    long channels = count == 3 ? PyLong_AsLong(args[1]) : 0;
    if (channels != 1 && channels != 3 && channels != 4) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "channel_sums takes pixels, 1, 3 or 4 channels, and whether wide");
        return NULL;
    }
    int wide = PyObject_IsTrue(args[2]);
    if (wide < 0)
        return NULL;
    if (!has_pixels())
        Py_RETURN_NONE;
    if (PyObject_GetBuffer(args[0], &pixels, PyBUF_SIMPLE) < 0)
        return NULL;
    Sums out = {0};
    Py_BEGIN_ALLOW_THREADS
    sum_channels(pixels.buf, pixels.len, (int)channels, wide && has_avx512(), &out);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&pixels);
    PyObject *sums = ints(out.sums, (int)channels), *squares = ints(out.squares, (int)channels);
    PyObject *pair = sums && squares ? PyTuple_Pack(2, sums, squares) : NULL;
    Py_XDECREF(sums);
    Py_XDECREF(squares);
    return pair;
}

/* --- Resizing ------------------------------------------------------------------------------------------------------

   As Pillow does it: first along rows, each value rounded to a byte, then along columns. */

#define BITS 22 /* of a weight behind the point */
#define HALF (1 << (BITS - 1))
#define AT_ONCE 4       /* rows, and pixels of a row, in one step */
#define OVERRUN 32      /* bytes behind the last pixel of a row that may be read and written */
#define MAX_SIDE 100000 /* larger ones are left to the twins */

typedef struct {
    int32_t *start;   /* of each of n pixels, its first neighbour */
    int32_t *weights; /* of `taps` neighbours of each */
    Py_ssize_t n, taps;
} Axis;

static Py_ssize_t bound(double at, Py_ssize_t length)
{
    return at < 0 ? 0 : at > (double)length ? length : (Py_ssize_t)at;
}

/* The weights by which `length` pixels become n, as Pillow rounds them: 1 if done, 0 for fewer pixels than weights, -1
   without memory. What is in `out` is to be freed in any case. */
static int axis_make(Py_ssize_t length, Py_ssize_t n, Axis *out)
{
    const double scale = (double)length / (double)n, support = scale < 1 ? 1 : scale, per_pixel = 1 / support;
    const Py_ssize_t most = (Py_ssize_t)(2 * support) + 1, taps = (most + AT_ONCE - 1) / AT_ONCE * AT_ONCE;
    if (taps > length || length > MAX_SIDE || n > MAX_SIDE)
        return 0;
    *out = (Axis){PyMem_RawMalloc((size_t)n * 4), PyMem_RawCalloc((size_t)(n * taps), 4), n, taps};
    double *exact = PyMem_RawMalloc((size_t)taps * sizeof *exact);
    int made = out->start && out->weights && exact ? 1 : -1;
    for (Py_ssize_t k = 0; made > 0 && k < n; k++) {
        double centre = ((double)k + 0.5) * scale, sum = 0;
        Py_ssize_t from = bound(centre - support + 0.5, length), count = bound(centre + support + 0.5, length) - from;
        Py_ssize_t start = from < length - taps ? from : length - taps;
        made = count <= taps - (from - start);
        for (Py_ssize_t j = 0; made && j < count; j++) {
            double away = ((double)(j + from) - centre + 0.5) * per_pixel;
            away = away < 0 ? -away : away;
            exact[j] = away < 1 ? 1 - away : 0;
            sum += exact[j];
        }
        for (Py_ssize_t j = 0; made && j < count; j++)
            out->weights[k * taps + from - start + j] = (int32_t)(0.5 + exact[j] / sum * (1 << BITS));
        out->start[k] = (int32_t)start;
    }
    PyMem_RawFree(exact);
    return made;
}

static void axis_free(Axis *axis)
{
    PyMem_RawFree(axis->start);
    PyMem_RawFree(axis->weights);
}

AVX2 static __m256i weighed(__m256i sum, __m256i pixels, __m256i channels, int32_t weight)
{
    return _mm256_add_epi32(sum, _mm256_mullo_epi32(_mm256_shuffle_epi8(pixels, channels), _mm256_set1_epi32(weight)));
}

/* Two rows of four pixels each, of which a lane has one row. */
AVX2 static __m256i four_of(const uint8_t *at, Py_ssize_t line)
{
    return _mm256_set_m128i(_mm_loadu_si128((const __m128i *)(at + line)), _mm_loadu_si128((const __m128i *)at));
}

/* Four rows, `line` bytes each from one to the next; up to 4 bytes more than the last pixel are read, of the rows behind
   a box or of the gap before the next row, and one more is written. */
AVX2 static void four_rows(const uint8_t *in, Py_ssize_t line, const Axis *columns, uint8_t *out, Py_ssize_t out_line)
{
    __m256i channels[4]; /* of the pixels of a lane, as 32 bits each */
    for (int k = 0; k < 4; k++)
        channels[k] = _mm256_broadcastsi128_si256(
            _mm_setr_epi32((int)0xffffff00 | 3 * k, (int)0xffffff00 | (3 * k + 1), (int)0xffffff00 | (3 * k + 2), -1));
    for (Py_ssize_t x = 0; x < columns->n; x++, out += 3) {
        const uint8_t *at = in + 3 * (Py_ssize_t)columns->start[x];
        const int32_t *weight = columns->weights + x * columns->taps;
        __m256i first = _mm256_set1_epi32(HALF), second = first;
        for (Py_ssize_t k = 0; k < columns->taps; k += AT_ONCE, at += 3 * AT_ONCE, weight += AT_ONCE) {
            __m256i one = four_of(at, line), other = four_of(at + 2 * line, line);
            for (int j = 0; j < 2; j++) {
                first = weighed(first, one, channels[j], weight[j]);
                second = weighed(second, other, channels[j], weight[j]);
            }
            if (weight[2] | weight[3]) /* not where a picture grows */
                for (int j = 2; j < 4; j++) {
                    first = weighed(first, one, channels[j], weight[j]);
                    second = weighed(second, other, channels[j], weight[j]);
                }
        }
        __m256i both = _mm256_packus_epi32(_mm256_srli_epi32(first, BITS), _mm256_srli_epi32(second, BITS));
        both = _mm256_packus_epi16(both, both); /* in each lane a pixel of `first` and one of `second` */
        uint64_t even = (uint64_t)_mm256_extract_epi64(both, 0), odd = (uint64_t)_mm256_extract_epi64(both, 2);
        const uint32_t pixels[4] = {(uint32_t)even, (uint32_t)odd, (uint32_t)(even >> 32), (uint32_t)(odd >> 32)};
        for (int k = 0; k < 4; k++)
            memcpy(out + k * out_line, &pixels[k], 4);
    }
}

AVX2 static __m256i eight_bytes(const uint8_t *at)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at));
}

/* Row y from the rows above and below, `line` bytes each from one to the next, of which OVERRUN more may be read. */
AVX2 static void one_row(const uint8_t *in, Py_ssize_t line, const Axis *rows, Py_ssize_t y, uint8_t *out, Py_ssize_t n)
{
    const int32_t *weight = rows->weights + y * rows->taps;
    Py_ssize_t taps = rows->taps;
    in += rows->start[y] * line;
    for (; taps > 1 && !weight[taps - 1]; taps--) {
    }
    for (; taps > 1 && !*weight; taps--, weight++)
        in += line;
    for (Py_ssize_t x = 0; x < n; x += 32) {
        __m256i sums[4];
        for (int k = 0; k < 4; k++)
            sums[k] = _mm256_set1_epi32(HALF);
        for (Py_ssize_t t = 0; t < taps; t++)
            for (int k = 0; k < 4; k++)
                sums[k] = _mm256_add_epi32(sums[k], _mm256_mullo_epi32(eight_bytes(in + t * line + x + 8 * k),
                                                                       _mm256_set1_epi32(weight[t])));
        for (int k = 0; k < 4; k++)
            sums[k] = _mm256_srli_epi32(sums[k], BITS);
        __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(sums[0], sums[1]), _mm256_packus_epi32(sums[2], sums[3]));
        bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        uint8_t found[32];
        _mm256_storeu_si256((__m256i *)found, bytes);
        memcpy(out + x, found, (size_t)(n - x < 32 ? n - x : 32));
    }
}

static int resize(const Py_buffer *pixels, const Axis *columns, const Axis *rows, uint8_t *out)
{
    const uint8_t *in = pixels->buf;
    const Py_ssize_t height = pixels->shape[0], nbytes = 3 * pixels->shape[1], line = pixels->strides[0];
    const Py_ssize_t out_line = 3 * columns->n, between_line = out_line + OVERRUN;
    const Py_ssize_t last = (height - 1) / AT_ONCE * AT_ONCE; /* the last rows, read from a copy */
    uint8_t *between = PyMem_RawMalloc((size_t)((last + AT_ONCE) * between_line));
    uint8_t *copy = PyMem_RawCalloc((size_t)(AT_ONCE * nbytes + OVERRUN), 1);
    if (between && copy) {
        for (Py_ssize_t y = last; y < height; y++)
            memcpy(copy + (y - last) * nbytes, in + y * line, (size_t)nbytes);
        for (Py_ssize_t y = 0; y < last; y += AT_ONCE)
            four_rows(in + y * line, line, columns, between + y * between_line, between_line);
        four_rows(copy, nbytes, columns, between + last * between_line, between_line);
        for (Py_ssize_t y = 0; y < rows->n; y++)
            one_row(between, between_line, rows, y, out + y * out_line, out_line);
    }
    int done = between && copy;
    PyMem_RawFree(between);
    PyMem_RawFree(copy);
    return done;
}

static int is_rgb(const Py_buffer *view)
{
    return view->itemsize == 1 && view->ndim == 3 && view->shape[2] == 3 && view->shape[0] > 0 && view->shape[1] > 0;
}

/* Whether each row is one piece, and each begins behind the one before. */
static int has_rows(const Py_buffer *view)
{
    return view->strides[2] == 1 && view->strides[1] == 3 && view->strides[0] >= 3 * view->shape[1];
}

/* 1 if done, 0 if declined, -1 without memory. */
static int resize_views(const Py_buffer *in, const Py_buffer *out)
{
    Axis columns = {0}, rows = {0};
    Py_ssize_t between = in->shape[0] * out->shape[1], all = in->shape[0] * in->shape[1] + out->shape[0] * out->shape[1];
    int small = between / 2 <= all; /* what is between both passes: not where a column becomes a row */
    int made = small && has_rows(in) ? axis_make(in->shape[1], out->shape[1], &columns) : 0;
    if (made > 0)
        made = axis_make(in->shape[0], out->shape[0], &rows);
    if (made > 0)
        made = resize(in, &columns, &rows, out->buf) ? 1 : -1;
    axis_free(&columns);
    axis_free(&rows);
    return made;
}

PyObject *resize_rgb(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "resize_rgb takes 2 arguments");
    if (!has_pixels())
        Py_RETURN_FALSE;
    Py_buffer in, out;
    int made = -1;
    if (PyObject_GetBuffer(args[0], &in, PyBUF_STRIDES) < 0)
        return NULL;
    if (PyObject_GetBuffer(args[1], &out, PyBUF_ND | PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&in);
        return NULL;
    }
    if (is_rgb(&in) && is_rgb(&out)) {
        Py_BEGIN_ALLOW_THREADS
        made = resize_views(&in, &out);
        Py_END_ALLOW_THREADS
        if (made < 0)
            PyErr_NoMemory();
    } else
        PyErr_SetString(PyExc_ValueError, "resize_rgb takes arrays of bytes (H, W, 3)");
    PyBuffer_Release(&in);
    PyBuffer_Release(&out);
    return made < 0 ? NULL : PyBool_FromLong(made);
}

#else

int has_pixels(void)
{
    return 0;
}

PyObject *channel_sums(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module, (void)args, (void)count;
    Py_RETURN_NONE;
}

PyObject *resize_rgb(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module, (void)args, (void)count;
    Py_RETURN_FALSE;
}

#endif
