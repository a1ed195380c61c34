/* Query, key and value heads in bf16: normed, rotated, laid out for attention, and the way back.

   What heads.py does in many passes of torch, in one. A has the heads of queries, then of keys. */

#include "numbers.h"

/* Where the query of head a, token t and block b stands: Q tokens, and the heads that share a key
   head, are next to each other. */
static inline size place(size b, size t, size a, size B, size H, size D, size Q)
{
    return (((t / Q * B + b) * H + a) * Q + t % Q) * D;
}

void by_token(const bf16 *mixed, bf16 *mixed_NF, size B, size T, size H, size D, size Q,
              int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size n = 0; n < B * T; n++)
        for (size a = 0; a < H; a++)
            memcpy(mixed_NF + (n * H + a) * D, mixed + place(n / T, n % T, a, B, H, D, Q),
                   D * sizeof(bf16));
}

void by_block(const bf16 *mixed_NF, bf16 *mixed, size B, size T, size H, size D, size Q,
              int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size n = 0; n < B * T; n++)
        for (size a = 0; a < H; a++)
            memcpy(mixed + place(n / T, n % T, a, B, H, D, Q), mixed_NF + (n * H + a) * D,
                   D * sizeof(bf16));
}

/* A number of turns that is known when this is compiled makes the loops over a head twice as fast. */
#define FOR_HALF(h, CALL) ((h) == 16 ? CALL(16) : (h) == 32 ? CALL(32) : CALL(h))

/* Norm (if `normed`) and rotation of one head in two halves; its factor. */
static inline float turn_head(const bf16 *one, const bf16 *two, const float *first,
                              const float *second, const float *cos, const float *sin, bf16 *out,
                              size h, size normed, float eps)
{
    float sum = 0, factor = 1;
#pragma omp simd reduction(+ : sum)
    for (size d = 0; d < h; d++)
        sum += widen(one[d]) * widen(one[d]) + widen(two[d]) * widen(two[d]);
    if (normed) factor = 1.0f / sqrtf(sum / (2 * h) + eps);
#pragma omp simd
    for (size d = 0; d < h; d++) {
        float x = widen(one[d]) * factor * first[d], y = widen(two[d]) * factor * second[d];
        out[d] = narrow(x * cos[d] - y * sin[d]);
        out[d + h] = narrow(y * cos[d] + x * sin[d]);
    }
    return factor;
}

/* Norm of each query and key head where it has one, rotation, and all heads laid out for attention.
   Scales, cos and sin have the first halves of all heads, then the second ones. */
void turn(const bf16 *made_NW, const float *scale_2A, const float *cos_TA, const float *sin_TA,
          bf16 *query, bf16 *key, bf16 *value, float *factor_NA, size B, size T, size H, size G,
          size D, size Q, size normed, float eps, int threads)
{
    size A = H + G, h = D / 2, half = A * h, W = 2 * half + G * D;
#pragma omp parallel for num_threads(threads)
    for (size n = 0; n < B * T; n++) {
        size b = n / T, t = n % T;
        const bf16 *made = made_NW + n * W;
        for (size a = 0; a < A; a++) {
            size at = a * h;
            bf16 *out = a < H ? query + place(b, t, a, B, H, D, Q)
                              : key + ((b * G + a - H) * T + t) * D;
#define TURN(h)                                                                                    \
    turn_head(made + a * D, made + a * D + h, scale_2A + at, scale_2A + half + at,                 \
              cos_TA + t * half + at, sin_TA + t * half + at, out, h, normed, eps)
            factor_NA[n * A + a] = FOR_HALF(h, TURN);
        }
        for (size g = 0; g < G; g++)
            memcpy(value + ((b * G + g) * T + t) * D, made + 2 * half + g * D, D * sizeof(bf16));
    }
}

/* The gradient of key or value head g of a token, from all blocks of queries that see it. */
static inline void add_up(bf16 *const *parts, float *sum, size b, size t, size g, size T, size G,
                          size D, size Q)
{
    memset(sum, 0, D * sizeof(float));
    for (size j = t / Q; j < T / Q; j++) {
        const bf16 *part = parts[j] + ((b * G + g) * (j + 1) * Q + t) * D;
#pragma omp simd
        for (size d = 0; d < D; d++) sum[d] += widen(part[d]);
    }
}

/* From the gradient `back` (2 h) behind rotation to that before the norm; adds to that of scales. */
static inline void turn_head_back(float *back, const bf16 *one, const bf16 *two,
                                  const float *first, const float *second, const float *cos,
                                  const float *sin, float factor, float *dfirst, float *dsecond,
                                  bf16 *done, bf16 *dtwo, size h, size normed)
{
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (size d = 0; d < h; d++) {
        float x = widen(one[d]) * factor, y = widen(two[d]) * factor;
        float dx = back[d] * cos[d] + back[d + h] * sin[d];
        float dy = back[d + h] * cos[d] - back[d] * sin[d];
        dfirst[d] += dx * x;
        dsecond[d] += dy * y;
        back[d] = dx * first[d];
        back[d + h] = dy * second[d];
        dot += back[d] * x + back[d + h] * y;
    }
    dot = normed ? dot / (2 * h) * factor : 0;
#pragma omp simd
    for (size d = 0; d < h; d++) {
        done[d] = narrow((back[d] - widen(one[d]) * dot) * factor);
        dtwo[d] = narrow((back[d + h] - widen(two[d]) * dot) * factor);
    }
}

/* The way back of `turn`; for each Q tokens the sum of the gradient of `scale`. */
void turn_back(const bf16 *dquery, bf16 *const *dkeys, bf16 *const *dvalues, const bf16 *made_NW,
               const float *scale_2A, const float *cos_TA, const float *sin_TA,
               const float *factor_NA, bf16 *dmade_NW, float *dscale, size B, size T, size H,
               size G, size D, size Q, size normed, int threads)
{
    size A = H + G, h = D / 2, half = A * h, W = 2 * half + G * D;
    memset(dscale, 0, B * T / Q * 2 * half * sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        float *back = malloc(D * sizeof(float));
#pragma omp for schedule(static, Q)
        for (size n = 0; n < B * T; n++) {
            size b = n / T, t = n % T;
            const bf16 *made = made_NW + n * W;
            bf16 *dmade = dmade_NW + n * W;
            float *dfirst = dscale + n / Q * 2 * half, *dsecond = dfirst + half;
            for (size a = 0; a < A; a++) {
                size at = a * h;
                const bf16 *from = dquery + place(b, t, a < H ? a : 0, B, H, D, Q);
                if (a >= H) add_up(dkeys, back, b, t, a - H, T, G, D, Q);
                else
                    for (size d = 0; d < D; d++) back[d] = widen(from[d]);
#define TURN_BACK(h)                                                                               \
    turn_head_back(back, made + a * D, made + a * D + h, scale_2A + at, scale_2A + half + at,      \
                   cos_TA + t * half + at, sin_TA + t * half + at, factor_NA[n * A + a],           \
                   dfirst + at, dsecond + at, dmade + a * D, dmade + a * D + h, h, normed)
                FOR_HALF(h, TURN_BACK);
            }
            for (size g = 0; g < G; g++) {
                add_up(dvalues, back, b, t, g, T, G, D, Q);
                for (size d = 0; d < D; d++) dmade[2 * half + g * D + d] = narrow(back[d]);
            }
        }
        free(back);
    }
}
