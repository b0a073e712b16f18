/* Backpropagation by hand, for gradcheck to check: see README.md.
 *
 *   z1 = x w1ᵀ + b1    a1 = tanh(z1)    z2 = a1 w2ᵀ + b2    p = softmax(z2)
 *   L  = −(1/N) Σₙ Σₖ yₙₖ log pₙₖ
 *
 * Matrices are stored row by row. Weights are [out, in].
 */
#include "npy.h"

static Array matrix(size_t rows, size_t columns) { return zeros(2, rows, columns, 1); }

/* z = a wᵀ + b */
static Array affine(Array a, Array w, Array b) {
    size_t rows = a.size[0], in = a.size[1], out = w.size[0];
    Array z = matrix(rows, out);
    for (size_t n = 0; n < rows; n++)
        for (size_t j = 0; j < out; j++) {
            double sum = b.at[j];
            for (size_t k = 0; k < in; k++) sum += a.at[n * in + k] * w.at[j * in + k];
            z.at[n * out + j] = sum;
        }
    return z;
}

/* Each row of z becomes exp(z) / Σ exp(z); the largest is subtracted first, so that nothing overflows. */
static void softmax(Array z) {
    size_t columns = z.size[1];
    for (size_t n = 0; n < z.size[0]; n++) {
        double *row = z.at + n * columns, largest = row[0], sum = 0.0;
        for (size_t k = 1; k < columns; k++) largest = fmax(largest, row[k]);
        for (size_t k = 0; k < columns; k++) sum += row[k] = exp(row[k] - largest);
        for (size_t k = 0; k < columns; k++) row[k] /= sum;
    }
}

/* ∂L/∂w = δᵀ a */
static Array weight_gradient(Array delta, Array a) {
    size_t out = delta.size[1], in = a.size[1];
    Array dw = matrix(out, in);
    for (size_t n = 0; n < a.size[0]; n++)
        for (size_t j = 0; j < out; j++)
            for (size_t k = 0; k < in; k++) dw.at[j * in + k] += delta.at[n * out + j] * a.at[n * in + k];
    return dw;
}

/* ∂L/∂b = Σₙ δₙ */
static Array bias_gradient(Array delta) {
    size_t out = delta.size[1];
    Array db = zeros(1, out, 1, 1);
    for (size_t n = 0; n < delta.size[0]; n++)
        for (size_t j = 0; j < out; j++) db.at[j] += delta.at[n * out + j];
    return db;
}

/* The δ of the layer below: (δ w) · tanh′(z), and tanh′ = 1 − a² */
static Array delta_below(Array delta, Array w, Array activation) {
    size_t out = w.size[0], in = w.size[1];
    Array below = zeros_like(activation);
    for (size_t n = 0; n < delta.size[0]; n++)
        for (size_t k = 0; k < in; k++) {
            double sum = 0.0, a = activation.at[n * in + k];
            for (size_t j = 0; j < out; j++) sum += delta.at[n * out + j] * w.at[j * in + k];
            below.at[n * in + k] = sum * (1.0 - a * a);
        }
    return below;
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage:", "backprop CASE OUT");
    const char *from = argv[1], *to = argv[2];
    Array x = read_npy(from, "x"), target = read_npy(from, "target");
    Array w1 = read_npy(from, "hidden1.weight"), b1 = read_npy(from, "hidden1.bias");
    Array w2 = read_npy(from, "output.weight"), b2 = read_npy(from, "output.bias");

    Array a1 = affine(x, w1, b1);
    for (size_t i = 0; i < length(a1); i++) a1.at[i] = tanh(a1.at[i]);
    Array delta2 = affine(a1, w2, b2);
    softmax(delta2);
    for (size_t i = 0; i < length(delta2); i++) /* δ = (p − y) / N */
        delta2.at[i] = (delta2.at[i] - target.at[i]) / (double)x.size[0];
    Array delta1 = delta_below(delta2, w2, a1);

    write_npy(to, "output.weight", weight_gradient(delta2, a1));
    write_npy(to, "output.bias", bias_gradient(delta2));
    write_npy(to, "hidden1.weight", weight_gradient(delta1, x));
    write_npy(to, "hidden1.bias", bias_gradient(delta1));
    return 0;
}
