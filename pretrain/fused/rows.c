/* What stands between the matrix products of a training step in bf16, each in one pass over rows.

   pretrain/fused calls these where a C compiler was found, and does the same in several passes of
   torch where not. Products' type is bf16, sums are fp32. A row (of `unfold` a strip of columns) belongs to one thread and no sum
   crosses threads, so their number changes no bit. Shape suffixes: see __init__.py. */

#include "numbers.h"

/* x + y, where there is a y; its RMS norm without the norm's weight; the factor of each row. */
void normalise(const float *x_NE, const bf16 *y_NE, float *sum_NE, bf16 *hat_NE, float *factor_N,
               size N, size E, float eps, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size n = 0; n < N; n++) {
        const float *x = x_NE + n * E;
        bf16 *hat = hat_NE + n * E;
        float squares = 0;
        if (y_NE) {
            const bf16 *y = y_NE + n * E;
            float *sum = sum_NE + n * E;
#pragma omp simd
            for (size e = 0; e < E; e++) sum[e] = x[e] + widen(y[e]);
            x = sum;
        }
#pragma omp simd reduction(+ : squares)
        for (size e = 0; e < E; e++) squares += x[e] * x[e];
        float factor = 1.0f / sqrtf(squares / E + eps);
#pragma omp simd
        for (size e = 0; e < E; e++) hat[e] = narrow(x[e] * factor);
        factor_N[n] = factor;
    }
}

/* Gradient of the norm's input, added to that of the residual stream if there is one; and in the
   products' type. */
void normalise_back(const bf16 *dhat_NE, const bf16 *hat_NE, const float *factor_N,
                    const float *residual_NE, float *dx_NE, bf16 *narrow_NE, size N, size E,
                    int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size n = 0; n < N; n++) {
        const bf16 *dhat = dhat_NE + n * E, *hat = hat_NE + n * E;
        const float *residual = residual_NE ? residual_NE + n * E : NULL;
        float *dx = dx_NE + n * E, factor = factor_N[n], dot = 0;
#pragma omp simd reduction(+ : dot)
        for (size e = 0; e < E; e++) dot += widen(dhat[e]) * widen(hat[e]);
        dot /= E;
#pragma omp simd
        for (size e = 0; e < E; e++) dx[e] = (widen(dhat[e]) - widen(hat[e]) * dot) * factor;
        if (residual)
#pragma omp simd
            for (size e = 0; e < E; e++) dx[e] += residual[e];
#pragma omp simd
        for (size e = 0; e < E; e++) narrow_NE[n * E + e] = narrow(dx[e]);
    }
}

/* A matrix with the weight of the norm before it folded in. */
void fold(const float *matrix_ME, const float *norm_E, bf16 *folded_ME, size M, size E, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size m = 0; m < M; m++)
#pragma omp simd
        for (size e = 0; e < E; e++) folded_ME[m * E + e] = narrow(matrix_ME[m * E + e] * norm_E[e]);
}

/* Gradients of a norm's weight, which is added to, and of a matrix behind it, from P parts of that
   of their product: rows `first`, first + 1, … of each. */
void unfold(bf16 *const *parts, size P, size first, const float *norm_E, const float *matrix_ME,
            float *dnorm_E, float *dmatrix_ME, size M, size E, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size start = 0; start < E; start += VECTOR) {
        size width = start + VECTOR < E ? VECTOR : E - start;
        const float *norm = norm_E + start;
        float dnorm[VECTOR] = {0}, sum[VECTOR];
        for (size m = 0; m < M; m++) {
            const float *matrix = matrix_ME + m * E + start;
            float *dmatrix = dmatrix_ME + m * E + start;
            const size place = (first + m) * E + start;
#pragma omp simd
            for (size e = 0; e < width; e++) sum[e] = widen(parts[0][place + e]);
            for (size p = 1; p < P; p++)
#pragma omp simd
                for (size e = 0; e < width; e++) sum[e] += widen(parts[p][place + e]);
#pragma omp simd
            for (size e = 0; e < width; e++) {
                dnorm[e] += sum[e] * matrix[e];
                dmatrix[e] = sum[e] * norm[e];
            }
        }
        for (size e = 0; e < width; e++) dnorm_E[start + e] += dnorm[e];
    }
}

/* silu(gate) * up, whose rows stand side by side. */
void swiglu(const bf16 *made_N2I, bf16 *mixed_NI, size N, size I, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size n = 0; n < N; n++) {
        const bf16 *gate = made_N2I + n * 2 * I, *up = gate + I;
        bf16 *mixed = mixed_NI + n * I;
#pragma omp simd
        for (size i = 0; i < I; i++) {
            float g = widen(gate[i]);
            mixed[i] = narrow(g * sigmoid(g) * widen(up[i]));
        }
    }
}

void swiglu_back(const bf16 *dmixed_NI, const bf16 *made_N2I, bf16 *dmade_N2I, size N, size I,
                 int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size n = 0; n < N; n++) {
        const bf16 *dmixed = dmixed_NI + n * I, *gate = made_N2I + n * 2 * I, *up = gate + I;
        bf16 *dgate = dmade_N2I + n * 2 * I, *dup = dgate + I;
#pragma omp simd
        for (size i = 0; i < I; i++) {
            float d = widen(dmixed[i]), g = widen(gate[i]), s = sigmoid(g);
            dup[i] = narrow(d * g * s);
            dgate[i] = narrow(d * widen(up[i]) * s * (1.0f + g * (1.0f - s)));
        }
    }
}

/* exp(x - its maximum) into `powers`; their sum. */
static float powers_of(const bf16 *x, float *powers, size K, float *most)
{
    float top = -INFINITY, sum = 0;
#pragma omp simd reduction(max : top)
    for (size k = 0; k < K; k++) top = widen(x[k]) > top ? widen(x[k]) : top;
#pragma omp simd reduction(+ : sum)
    for (size k = 0; k < K; k++) sum += powers[k] = exponential(widen(x[k]) - top);
    *most = top;
    return sum;
}

/* Keys to go through for query n % Q of the last Q of K tokens, which sees no key behind its own:
   whole vectors are quicker than the rest of one. */
static inline size in_sight(size n, size K, size Q, size *seen)
{
    *seen = K - Q + n % Q + 1;
    size whole = (*seen + VECTOR - 1) / VECTOR * VECTOR;
    return whole < K ? whole : K;
}

/* Softmax in place of rows of scores over the keys that are seen. */
void shares(bf16 *scores_NK, size N, size K, size Q, int threads)
{
#pragma omp parallel num_threads(threads)
    {
        float *powers = malloc(K * sizeof(float)), top;
#pragma omp for
        for (size n = 0; n < N; n++) {
            bf16 *row = scores_NK + n * K;
            size seen, whole = in_sight(n, K, Q, &seen);
            for (size k = seen; k < whole; k++) row[k] = narrow(-INFINITY);
            float factor = 1.0f / powers_of(row, powers, whole, &top);
#pragma omp simd
            for (size k = 0; k < whole; k++) row[k] = narrow(powers[k] * factor);
            memset(row + seen, 0, (K - seen) * sizeof(bf16));
        }
        free(powers);
    }
}

/* Gradient of the scores, in place of that of the shares. */
void shares_back(bf16 *dshare_NK, const bf16 *share_NK, size N, size K, size Q, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (size n = 0; n < N; n++) {
        bf16 *d = dshare_NK + n * K;
        const bf16 *share = share_NK + n * K;
        size seen, whole = in_sight(n, K, Q, &seen);
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (size k = 0; k < whole; k++) dot += widen(d[k]) * widen(share[k]);
#pragma omp simd
        for (size k = 0; k < whole; k++) d[k] = narrow((widen(d[k]) - dot) * widen(share[k]));
        memset(d + seen, 0, (K - seen) * sizeof(bf16));
    }
}

/* Cross-entropy (nats) of each row, and its gradient in place of the logits. */
void cross_entropy(bf16 *logits_NV, const int64_t *y_N, float *nats_N, size N, size V,
                   int64_t ignore, int threads)
{
#pragma omp parallel num_threads(threads)
    {
        float *powers = malloc(V * sizeof(float)), top;
#pragma omp for
        for (size n = 0; n < N; n++) {
            bf16 *row = logits_NV + n * V;
            nats_N[n] = 0;
            if (y_N[n] == ignore) {
                memset(row, 0, V * sizeof(bf16));
                continue;
            }
            float wanted = widen(row[y_N[n]]), sum = powers_of(row, powers, V, &top);
            float factor = 1.0f / sum, chance = powers[y_N[n]] * factor;
            nats_N[n] = logf(sum) + (top - wanted);
#pragma omp simd
            for (size v = 0; v < V; v++) row[v] = narrow(powers[v] * factor);
            row[y_N[n]] = narrow(chance - 1.0f);
        }
        free(powers);
    }
}
