/* Backpropagation by hand, for gradcheck to check: see README.md.
 *
 *   z1 = x w1ᵀ + b1    a1 = tanh(z1)    z2 = a1 w2ᵀ + b2    p = softmax(z2)
 *   L  = −(1/N) Σₙ Σₖ yₙₖ log pₙₖ
 *
 * Matrices are rows after rows, weights are [out, in].
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    int axes; /* 2, or 1 of a vector, which has one row */
    size_t rows, columns;
    double *at;
} Matrix;

static void fail(const char *what, const char *which) {
    fprintf(stderr, "backprop: %s %s\n", what, which);
    exit(2);
}

static Matrix zeros(int axes, size_t rows, size_t columns) {
    Matrix m = {axes, rows, columns, calloc(rows * columns, sizeof(double))};
    if (!m.at) fail("no memory for", "a matrix");
    return m;
}

static Matrix matrix(size_t rows, size_t columns) { return zeros(2, rows, columns); }

static Matrix vector(size_t columns) { return zeros(1, 1, columns); }

/* --- .npy: a magic string, the length of a header that is a Python dict, the header, the numbers --- */

static Matrix read_npy(const char *folder, const char *name) {
    char path[4096], header[4096] = "";
    unsigned char start[10];
    unsigned long long sizes[2] = {1, 1};
    snprintf(path, sizeof path, "%s/%s.npy", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fread(start, 1, 10, file) != 10) fail("cannot read", path);
    if (memcmp(start, "\x93NUMPY\x01", 7)) fail("not an .npy of version 1:", path);
    size_t length = start[8] + 256u * start[9];
    if (length >= sizeof header || fread(header, 1, length, file) != length) fail("cannot read", path);
    const char *shape = strstr(header, "'shape': (");
    if (!shape || !strstr(header, "'<f8'") || !strstr(header, "'fortran_order': False"))
        fail("no rows of float64 in", path);
    int axes = sscanf(shape, "'shape': (%llu, %llu", &sizes[0], &sizes[1]);
    if (axes < 1) fail("no vector or matrix in", path);
    Matrix m = axes == 2 ? matrix(sizes[0], sizes[1]) : vector(sizes[0]);
    size_t size = m.rows * m.columns;
    if (fread(m.at, sizeof(double), size, file) != size) fail("too few numbers in", path);
    fclose(file);
    return m;
}

static void write_npy(const char *folder, const char *name, Matrix m) {
    char path[4096], shape[64], header[118]; /* after 10 bytes, so that the numbers begin at byte 128 */
    snprintf(path, sizeof path, "%s/%s.npy", folder, name);
    if (m.axes == 2) snprintf(shape, sizeof shape, "(%zu, %zu)", m.rows, m.columns);
    else snprintf(shape, sizeof shape, "(%zu,)", m.columns);
    int length = snprintf(header, sizeof header, "{'descr': '<f8', 'fortran_order': False, 'shape': %s}", shape);
    memset(header + length, ' ', sizeof header - length);
    header[sizeof header - 1] = '\n';
    FILE *file = fopen(path, "wb");
    if (!file) fail("cannot write", path);
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file); /* 0x76 = 118 */
    fwrite(header, 1, sizeof header, file);
    fwrite(m.at, sizeof(double), m.rows * m.columns, file);
    if (ferror(file) | fclose(file)) fail("cannot write", path);
}

/* --- the network --- */

/* z = a wᵀ + b */
static Matrix affine(Matrix a, Matrix w, Matrix b) {
    Matrix z = matrix(a.rows, w.rows);
    for (size_t n = 0; n < z.rows; n++)
        for (size_t j = 0; j < z.columns; j++) {
            double sum = b.at[j];
            for (size_t k = 0; k < a.columns; k++) sum += a.at[n * a.columns + k] * w.at[j * w.columns + k];
            z.at[n * z.columns + j] = sum;
        }
    return z;
}

/* Each row of z becomes exp(z) / Σ exp(z); the largest is subtracted first, so that nothing overflows. */
static void softmax(Matrix z) {
    for (size_t n = 0; n < z.rows; n++) {
        double *row = z.at + n * z.columns, largest = row[0], sum = 0.0;
        for (size_t k = 1; k < z.columns; k++) largest = fmax(largest, row[k]);
        for (size_t k = 0; k < z.columns; k++) sum += row[k] = exp(row[k] - largest);
        for (size_t k = 0; k < z.columns; k++) row[k] /= sum;
    }
}

/* ∂L/∂w = δᵀ a */
static Matrix weight_gradient(Matrix delta, Matrix a) {
    Matrix dw = matrix(delta.columns, a.columns);
    for (size_t n = 0; n < delta.rows; n++)
        for (size_t j = 0; j < delta.columns; j++)
            for (size_t k = 0; k < a.columns; k++)
                dw.at[j * dw.columns + k] += delta.at[n * delta.columns + j] * a.at[n * a.columns + k];
    return dw;
}

/* ∂L/∂b = Σₙ δₙ */
static Matrix bias_gradient(Matrix delta) {
    Matrix db = vector(delta.columns);
    for (size_t n = 0; n < delta.rows; n++)
        for (size_t j = 0; j < delta.columns; j++) db.at[j] += delta.at[n * delta.columns + j];
    return db;
}

/* The δ of the layer below: (δ w) · tanh′(z), and tanh′ = 1 − a² */
static Matrix delta_below(Matrix delta, Matrix w, Matrix activation) {
    Matrix below = matrix(delta.rows, w.columns);
    for (size_t n = 0; n < below.rows; n++)
        for (size_t k = 0; k < below.columns; k++) {
            double sum = 0.0, a = activation.at[n * below.columns + k];
            for (size_t j = 0; j < w.rows; j++) sum += delta.at[n * w.rows + j] * w.at[j * w.columns + k];
            below.at[n * below.columns + k] = sum * (1.0 - a * a);
        }
    return below;
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage:", "backprop CASE OUT");
    const char *from = argv[1], *to = argv[2];
    Matrix x = read_npy(from, "x"), target = read_npy(from, "target");
    Matrix w1 = read_npy(from, "hidden1.weight"), b1 = read_npy(from, "hidden1.bias");
    Matrix w2 = read_npy(from, "output.weight"), b2 = read_npy(from, "output.bias");

    Matrix a1 = affine(x, w1, b1);
    for (size_t i = 0; i < a1.rows * a1.columns; i++) a1.at[i] = tanh(a1.at[i]);
    Matrix delta2 = affine(a1, w2, b2);
    softmax(delta2);
    for (size_t i = 0; i < delta2.rows * delta2.columns; i++) /* δ = (p − y) / N */
        delta2.at[i] = (delta2.at[i] - target.at[i]) / (double)x.rows;
    Matrix delta1 = delta_below(delta2, w2, a1);

    mkdir(to, 0777);
    write_npy(to, "output.weight", weight_gradient(delta2, a1));
    write_npy(to, "output.bias", bias_gradient(delta2));
    write_npy(to, "hidden1.weight", weight_gradient(delta1, x));
    write_npy(to, "hidden1.bias", bias_gradient(delta1));
    return 0;
}
