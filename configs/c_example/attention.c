/* The backward pass of causal self-attention, for gradcheck to check: see README.md.
 *
 *   q, k, v = x wᵀ + b, in one product      p = softmax(q kᵀ / √d), row by row      out = (p v) oᵀ + c
 *
 * There are HEADS heads of d features each. Token t sees the tokens s ≤ t. ∂L/∂out is an input. In the terms of
 * torch.nn.MultiheadAttention, w is in_proj_weight [3 · width, width], and o is out_proj.weight.
 */
#include "npy.h"

enum { HEADS = 2 };

/* out += a bᵀ, where a is [rows, inner] and b is [columns, inner] */
static void times_transposed(const double *a, const double *b, double *out, size_t rows, size_t inner, size_t columns) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            for (size_t k = 0; k < inner; k++) out[i * columns + j] += a[i * inner + k] * b[j * inner + k];
}

/* The backward pass of out = a wᵀ + b, over all rows: adds to ∂L/∂a, ∂L/∂w and ∂L/∂b. */
static void dense_down(Array a, Array w, const double *dout, Array da, Array dw, Array db) {
    size_t out = w.size[0], in = w.size[1], rows = length(a) / in;
    for (size_t n = 0; n < rows; n++)
        for (size_t j = 0; j < out; j++) {
            double delta = dout[n * out + j];
            db.at[j] += delta;
            for (size_t k = 0; k < in; k++) {
                dw.at[j * in + k] += delta * a.at[n * in + k];
                da.at[n * in + k] += delta * w.at[j * in + k];
            }
        }
}

/* Row t of p: softmax(q kᵀ / √d) over the tokens s ≤ t. q[s + 1] begins `apart` numbers after q[s]; so does k. */
static void probabilities(const double *q, const double *k, double *p, size_t t, size_t d, size_t apart) {
    double largest = -INFINITY, sum = 0.0;
    for (size_t s = 0; s <= t; s++) {
        p[s] = 0.0;
        for (size_t i = 0; i < d; i++) p[s] += q[t * apart + i] * k[s * apart + i] / sqrt((double)d);
        largest = fmax(largest, p[s]);
    }
    for (size_t s = 0; s <= t; s++) sum += p[s] = exp(p[s] - largest);
    for (size_t s = 0; s <= t; s++) p[s] /= sum;
}

/* One head of one sample, forward: value = p v */
static void attend(const double *q, const double *k, const double *v, double *p, double *value, size_t tokens,
                   size_t d, size_t apart, size_t width) {
    for (size_t t = 0; t < tokens; t++) {
        probabilities(q, k, p + t * tokens, t, d, apart);
        for (size_t s = 0; s <= t; s++)
            for (size_t i = 0; i < d; i++) value[t * width + i] += p[t * tokens + s] * v[s * apart + i];
    }
}

/* One head of one sample, backward. dq, dk and dv share one array, and so do q, k and v. */
static void attend_down(const double *q, const double *k, const double *v, const double *p, const double *dvalue,
                        double *dq, double *dk, double *dv, size_t tokens, size_t d, size_t apart, size_t width) {
    double *dp = calloc(tokens, sizeof(double));
    if (!dp) fail("no memory for", "a row");
    for (size_t t = 0; t < tokens; t++) {
        const double *row = p + t * tokens;
        double along = 0.0; /* Σ p ∂L/∂p, which the derivative of softmax subtracts */
        for (size_t s = 0; s <= t; s++) {
            dp[s] = 0.0;
            for (size_t i = 0; i < d; i++) {
                dp[s] += dvalue[t * width + i] * v[s * apart + i];
                dv[s * apart + i] += row[s] * dvalue[t * width + i];
            }
            along += row[s] * dp[s];
        }
        for (size_t s = 0; s <= t; s++) {
            double dscore = row[s] * (dp[s] - along) / sqrt((double)d);
            for (size_t i = 0; i < d; i++) {
                dq[t * apart + i] += dscore * k[s * apart + i];
                dk[s * apart + i] += dscore * q[t * apart + i];
            }
        }
    }
    free(dp);
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage:", "attention CASE OUT");
    Array x = read_npy(argv[1], "x"), dout = read_npy(argv[1], "target");
    Array w = read_npy(argv[1], "attention1.in_proj_weight"), b = read_npy(argv[1], "attention1.in_proj_bias");
    Array o = read_npy(argv[1], "attention1.out_proj.weight");
    size_t samples = x.size[0], tokens = x.size[1], width = x.size[2], d = width / HEADS, apart = 3 * width;
    Array dw = zeros_like(w), db = zeros_like(b), d_o = zeros_like(o), dc = zeros(1, width, 1, 1);
    Array qkv = zeros(3, samples, tokens, apart), dqkv = zeros_like(qkv), p = zeros(3, samples * HEADS, tokens, tokens);
    Array value = zeros_like(x), dvalue = zeros_like(x), dx = zeros_like(x);

    times_transposed(x.at, w.at, qkv.at, samples * tokens, width, apart);
    for (size_t i = 0; i < length(qkv); i++) qkv.at[i] += b.at[i % apart];
    for (size_t n = 0; n < samples * HEADS; n++) {
        size_t head = n % HEADS * d, at = n / HEADS * tokens * apart + head, to = n / HEADS * tokens * width + head;
        const double *q = qkv.at + at, *k = q + width, *v = k + width;
        attend(q, k, v, p.at + n * tokens * tokens, value.at + to, tokens, d, apart, width);
    }

    dense_down(value, o, dout.at, dvalue, d_o, dc);
    for (size_t n = 0; n < samples * HEADS; n++) {
        size_t head = n % HEADS * d, at = n / HEADS * tokens * apart + head, to = n / HEADS * tokens * width + head;
        const double *q = qkv.at + at, *k = q + width, *v = k + width;
        double *dq = dqkv.at + at, *dk = dq + width, *dv = dk + width;
        attend_down(q, k, v, p.at + n * tokens * tokens, dvalue.at + to, dq, dk, dv, tokens, d, apart, width);
    }
    dense_down(x, w, dqkv.at, dx, dw, db);

    write_npy(argv[2], "attention1.in_proj_weight", dw);
    write_npy(argv[2], "attention1.in_proj_bias", db);
    write_npy(argv[2], "attention1.out_proj.weight", d_o);
    write_npy(argv[2], "attention1.out_proj.bias", dc);
    write_npy(argv[2], "input", dx);
    return 0;
}
