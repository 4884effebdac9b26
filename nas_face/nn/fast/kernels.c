/* Layers between convolutions, of float32 values whose channels lie together in memory: rows x
 * channels, a row for each position of each image.
 *
 * A pass over a map costs what its bytes cost, so each function makes as few passes as it can. The
 * second of two passes goes through the rows backwards, for the last ones are still in the cache.
 *
 * Sums are taken over chunks of rows that depend on the size alone, in float32 within a chunk and
 * in double between chunks, in order: no result depends on the number of threads. NaN goes through
 * everything, as in torch. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum activation { NONE, RELU, PRELU, SILU };

/* How rows are laid out and cut. Short rows are put together in pairs until they fill vectors and
 * a loop over them is long enough; `wide` is what a row is then, `fold` how many it is of. */
struct plan {
    int64_t rows, wide, fold, chunk, chunks;
};

static struct plan plan_for(int64_t rows, int64_t channels) {
    struct plan p = {.rows = rows, .wide = channels, .fold = 1};
    while ((p.wide % 16 || p.wide < 128) && p.wide < 512 && p.rows % 2 == 0) {
        p.rows /= 2;
        p.wide *= 2;
        p.fold *= 2;
    }
    int64_t cache = 65536 / p.wide, share = (p.rows + 15) / 16;
    p.chunk = share < cache ? share : cache;
    if (p.chunk < 1) p.chunk = 1;
    p.chunks = (p.rows + p.chunk - 1) / p.chunk;
    return p;
}

static int64_t rows_of(struct plan p, int64_t chunk) {
    int64_t left = p.rows - chunk * p.chunk;
    return left < p.chunk ? left : p.chunk;
}

/* How many values of a sum are kept for each one that is asked for. */
int64_t room(int64_t rows, int64_t channels) {
    struct plan p = plan_for(rows, channels);
    return p.chunks * p.fold;
}

static void repeat(const float *once, float *often, int64_t channels, struct plan p) {
    for (int64_t i = once == often; i < p.fold; i++)
        memcpy(often + i * channels, once, channels * sizeof(float));
}

/* exp to 2 units in the last place; vectorises where a call to expf would not. */
INLINE float exponential(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693145752f - n * 1.42860677e-6f; /* ln 2 in two parts */
    float p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

INLINE float activate(enum activation kind, float z, float slope) {
    switch (kind) {
    case RELU:
        return z <= 0.0f ? 0.0f : z;
    case PRELU:
        return z > 0.0f ? z : z * slope;
    case SILU:
        return z / (1.0f + exponential(-z));
    default:
        return z;
    }
}

/* Gradient before the activation, of the one behind it. */
INLINE float activate_back(enum activation kind, float z, float slope, float gradient) {
    switch (kind) {
    case RELU:
        return z <= 0.0f ? 0.0f : gradient;
    case PRELU:
        return z > 0.0f ? gradient : gradient * slope;
    case SILU: {
        float s = 1.0f / (1.0f + exponential(-z));
        return gradient * s * (1.0f + z * (1.0f - s));
    }
    default:
        return gradient;
    }
}

/* Calls a function with an activation that the compiler knows: a loop for each. */
#define WITH_ACTIVATION(function, kind, ...)                                                      \
    switch (kind) {                                                                               \
    case RELU:                                                                                    \
        function(RELU, __VA_ARGS__);                                                              \
        break;                                                                                    \
    case PRELU:                                                                                   \
        function(PRELU, __VA_ARGS__);                                                             \
        break;                                                                                    \
    case SILU:                                                                                    \
        function(SILU, __VA_ARGS__);                                                              \
        break;                                                                                    \
    default:                                                                                      \
        function(NONE, __VA_ARGS__);                                                              \
    }

static void sums_around_mean(const float *restrict x, float *restrict mean,
                             float *restrict squares, int64_t rows, int64_t wide) {
    memset(mean, 0, wide * sizeof(float));
    memset(squares, 0, wide * sizeof(float));
    for (int64_t row = 0; row < rows; row++)
#pragma omp simd
        for (int64_t c = 0; c < wide; c++) mean[c] += x[row * wide + c];
    for (int64_t c = 0; c < wide; c++) mean[c] /= (float)rows;
    for (int64_t row = 0; row < rows; row++)
#pragma omp simd
        for (int64_t c = 0; c < wide; c++) {
            float away = x[row * wide + c] - mean[c];
            squares[c] += away * away;
        }
}

/* Mean and variance (divided by rows) of each channel. parts: 2 * channels floats times room. */
void mean_and_variance(const float *x, float *parts, float *mean, float *variance, int64_t rows,
                       int64_t channels, int threads) {
    struct plan p = plan_for(rows, channels);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t chunk = 0; chunk < p.chunks; chunk++) {
        float *part = parts + 2 * p.wide * chunk;
        sums_around_mean(x + chunk * p.chunk * p.wide, part, part + p.wide, rows_of(p, chunk),
                         p.wide);
    }
    /* Sums of squares around the means of parts, put together: Chan, Golub, LeVeque 1979. */
    for (int64_t c = 0; c < channels; c++) {
        double total = 0.0, squares = 0.0, seen = 0.0;
        for (int64_t chunk = 0; chunk < p.chunks; chunk++)
            for (int64_t i = 0; i < p.fold; i++) {
                const float *part = parts + 2 * p.wide * chunk + i * channels + c;
                double n = (double)rows_of(p, chunk), away = part[0] - total;
                squares += part[p.wide] + away * away * seen * n / (seen + n);
                seen += n;
                total += away * n / seen;
            }
        mean[c] = (float)total;
        variance[c] = (float)(squares / seen);
    }
}

INLINE void norm_act_rows(enum activation kind, const float *restrict x,
                          const float *restrict scale, const float *restrict shift,
                          const float *restrict slope, float *restrict y, int64_t rows,
                          int64_t wide) {
    for (int64_t row = 0; row < rows; row++)
#pragma omp simd
        for (int64_t c = 0; c < wide; c++) {
            float z = x[row * wide + c] * scale[c] + shift[c];
            y[row * wide + c] = activate(kind, z, slope[c]);
        }
}

/* Deals channels out: channel `group * size + i` becomes channel `i * groups + group`. */
INLINE void deal(const float *restrict x, float *restrict y, int64_t groups, int64_t channels) {
    int64_t size = channels / groups;
    if (groups == 2)
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            y[2 * i] = x[i];
            y[2 * i + 1] = x[size + i];
        }
    else if (size == 2)
#pragma omp simd
        for (int64_t i = 0; i < groups; i++) {
            y[i] = x[2 * i];
            y[groups + i] = x[2 * i + 1];
        }
    else
        for (int64_t i = 0; i < size; i++)
            for (int64_t group = 0; group < groups; group++)
                y[i * groups + group] = x[group * size + i];
}

static void deal_wide(const float *x, float *y, int64_t groups, int64_t channels,
                      struct plan p) {
    for (int64_t i = 0; i < p.fold; i++)
        deal(x + i * channels, y + i * channels, groups, channels);
}

/* y = activation(scale * x + shift), its channels dealt out to groups (1: left where they are). */
void norm_act(int kind, const float *x, const float *scale, const float *shift, const float *slope,
              float *y, int64_t groups, int64_t rows, int64_t channels, int threads) {
    struct plan p = plan_for(rows, channels);
    float scales[p.wide], shifts[p.wide], slopes[p.wide];
    repeat(scale, scales, channels, p);
    repeat(shift, shifts, channels, p);
    repeat(slope, slopes, channels, p);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t at = 0; at < p.chunks; at++) {
        int64_t chunk = p.chunks - 1 - at, start = chunk * p.chunk * p.wide;
        if (groups == 1) {
            WITH_ACTIVATION(norm_act_rows, kind, x + start, scales, shifts, slopes, y + start,
                            rows_of(p, chunk), p.wide)
            continue;
        }
        float row[p.wide];
        for (int64_t end = start + rows_of(p, chunk) * p.wide; start < end; start += p.wide) {
            WITH_ACTIVATION(norm_act_rows, kind, x + start, scales, shifts, slopes, row, 1, p.wide)
            deal_wide(row, y + start, groups, channels, p);
        }
    }
}

/* Leaves the gradient before the activation in kept: where it is asked to, and of SiLU, which is
 * costly to compute again. */
INLINE void norm_act_sums(enum activation kind, const float *restrict x,
                          const float *restrict gradient, const float *restrict scale,
                          const float *restrict shift, const float *restrict slope,
                          const float *restrict mean, float *restrict product,
                          float *restrict plain, float *restrict negative, int keep,
                          float *restrict kept, int64_t rows, int64_t wide) {
    for (int64_t row = 0; row < rows; row++)
#pragma omp simd
        for (int64_t c = 0; c < wide; c++) {
            float value = x[row * wide + c], g = gradient[row * wide + c];
            float z = value * scale[c] + shift[c];
            float before = activate_back(kind, z, slope[c], g);
            if (kind == SILU || keep) kept[row * wide + c] = before;
            product[c] += before * (value - mean[c]);
            plain[c] += before;
            if (kind == PRELU) negative[c] += z > 0.0f ? 0.0f : g * z;
        }
}

/* The gradient may lie in out. */
INLINE void norm_act_back_rows(enum activation kind, const float *restrict x,
                               const float *gradient, const float *restrict scale,
                               const float *restrict shift, const float *restrict slope,
                               const float *restrict mean, const float *restrict by_value,
                               const float *restrict constant, float *out, int64_t rows,
                               int64_t wide) {
    for (int64_t row = 0; row < rows; row++)
#pragma omp simd
        for (int64_t c = 0; c < wide; c++) {
            float value = x[row * wide + c];
            float z = value * scale[c] + shift[c];
            float before = activate_back(kind, z, slope[c], gradient[row * wide + c]);
            out[row * wide + c] = before * scale[c] + (value - mean[c]) * by_value[c] + constant[c];
        }
}

/* Gradients of weight, bias and slope (sums, in turn) and of x (out), of a normalisation by the
 * batch, an activation and channels dealt out to groups. scale: weight * inverse; inverse: one
 * over the standard deviation. parts: 3 * channels floats times room. */
void norm_act_backward(int kind, const float *x, const float *gradient, const float *scale,
                       const float *shift, const float *slope, const float *mean,
                       const float *inverse, float *parts, float *sums, float *out, int64_t groups,
                       int64_t rows, int64_t channels, int threads) {
    struct plan p = plan_for(rows, channels);
    float scales[p.wide], shifts[p.wide], slopes[p.wide], means[p.wide];
    repeat(scale, scales, channels, p);
    repeat(shift, shifts, channels, p);
    repeat(slope, slopes, channels, p);
    repeat(mean, means, channels, p);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t chunk = 0; chunk < p.chunks; chunk++) {
        int64_t start = chunk * p.chunk * p.wide;
        float *part = parts + 3 * p.wide * chunk;
        memset(part, 0, 3 * p.wide * sizeof(float));
        if (groups == 1) {
            WITH_ACTIVATION(norm_act_sums, kind, x + start, gradient + start, scales, shifts,
                            slopes, means, part, part + p.wide, part + 2 * p.wide, 0, out + start,
                            rows_of(p, chunk), p.wide)
            continue;
        }
        float row[p.wide];
        for (int64_t end = start + rows_of(p, chunk) * p.wide; start < end; start += p.wide) {
            deal_wide(gradient + start, row, channels / groups, channels, p);
            WITH_ACTIVATION(norm_act_sums, kind, x + start, row, scales, shifts, slopes, means,
                            part, part + p.wide, part + 2 * p.wide, 1, out + start, 1, p.wide)
        }
    }
    float by_value[p.wide], constant[p.wide];
    for (int64_t c = 0; c < channels; c++) {
        double product = 0.0, plain = 0.0, negative = 0.0;
        for (int64_t chunk = 0; chunk < p.chunks; chunk++)
            for (int64_t i = 0; i < p.fold; i++) {
                const float *part = parts + 3 * p.wide * chunk + i * channels + c;
                product += part[0];
                plain += part[p.wide];
                negative += part[2 * p.wide];
            }
        product *= inverse[c];
        sums[c] = (float)product;
        sums[channels + c] = (float)plain;
        sums[2 * channels + c] = (float)negative;
        by_value[c] = (float)(-scale[c] * inverse[c] * product / (double)rows);
        constant[c] = (float)(-scale[c] * plain / (double)rows);
    }
    repeat(by_value, by_value, channels, p);
    repeat(constant, constant, channels, p);
    if (kind == SILU || groups > 1) { /* the first pass has left the gradient before it in out */
        kind = NONE;
        gradient = out;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t at = 0; at < p.chunks; at++) {
        int64_t chunk = p.chunks - 1 - at, start = chunk * p.chunk * p.wide;
        WITH_ACTIVATION(norm_act_back_rows, kind, x + start, gradient + start, scales, shifts,
                        slopes, means, by_value, constant, out + start, rows_of(p, chunk), p.wide)
    }
}

static void prelu_back_rows(const float *restrict x, const float *restrict gradient,
                            const float *restrict slope, float *restrict negative,
                            float *restrict out, int64_t rows, int64_t wide) {
    memset(negative, 0, wide * sizeof(float));
    for (int64_t row = 0; row < rows; row++)
#pragma omp simd
        for (int64_t c = 0; c < wide; c++) {
            float z = x[row * wide + c], g = gradient[row * wide + c];
            out[row * wide + c] = z > 0.0f ? g : g * slope[c];
            negative[c] += z > 0.0f ? 0.0f : g * z;
        }
}

/* Gradients of a PReLU alone: of its slopes (sums) and of its input (out). parts: channels floats
 * times room. */
void prelu_backward(const float *x, const float *gradient, const float *slope, float *parts,
                    float *sums, float *out, int64_t rows, int64_t channels, int threads) {
    struct plan p = plan_for(rows, channels);
    float slopes[p.wide];
    repeat(slope, slopes, channels, p);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t chunk = 0; chunk < p.chunks; chunk++) {
        int64_t start = chunk * p.chunk * p.wide;
        prelu_back_rows(x + start, gradient + start, slopes, parts + p.wide * chunk, out + start,
                        rows_of(p, chunk), p.wide);
    }
    for (int64_t c = 0; c < channels; c++) {
        double negative = 0.0;
        for (int64_t chunk = 0; chunk < p.chunks; chunk++)
            for (int64_t i = 0; i < p.fold; i++)
                negative += parts[p.wide * chunk + i * channels + c];
        sums[c] = (float)negative;
    }
}

/* y = factors * x, factors for each image and channel. */
void gate(const float *restrict x, const float *restrict factors, float *restrict y,
          int64_t images, int64_t rows, int64_t channels, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t image = 0; image < images; image++) {
        const float *restrict factor = factors + image * channels;
        for (int64_t row = image * rows; row < (image + 1) * rows; row++)
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                y[row * channels + c] = x[row * channels + c] * factor[c];
    }
}

/* Gradients of x (out) and of the factors (sums). */
void gate_backward(const float *restrict x, const float *restrict gradient,
                   const float *restrict factors, float *restrict sums, float *restrict out,
                   int64_t images, int64_t rows, int64_t channels, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t image = 0; image < images; image++) {
        const float *restrict factor = factors + image * channels;
        float *restrict sum = sums + image * channels;
        memset(sum, 0, channels * sizeof(float));
        for (int64_t row = image * rows; row < (image + 1) * rows; row++)
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                float g = gradient[row * channels + c];
                out[row * channels + c] = g * factor[c];
                sum[c] += g * x[row * channels + c];
            }
    }
}

/* Channels dealt out to groups. */
void shuffle(const float *x, float *y, int64_t groups, int64_t rows, int64_t channels,
             int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++)
        deal(x + row * channels, y + row * channels, groups, channels);
}
