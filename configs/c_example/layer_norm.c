/* The backward pass of a layer normalisation, for gradcheck to check: see README.md.
 *
 *   ẑ = (x − mean) / σ,  σ = √(variance + eps)        out = γ ẑ + β
 *
 * The mean and the variance are over the last axis of x [samples, tokens, features]. ∂L/∂out is an input.
 */
#include "npy.h"

static const double EPS = 1e-5;

/* ẑ of one row, in place. Returns 1/σ. */
static double normalise(double *row, size_t features) {
    double mean = 0.0, variance = 0.0;
    for (size_t k = 0; k < features; k++) mean += row[k] / (double)features;
    for (size_t k = 0; k < features; k++) variance += (row[k] - mean) * (row[k] - mean) / (double)features;
    double inverse = 1.0 / sqrt(variance + EPS);
    for (size_t k = 0; k < features; k++) row[k] = (row[k] - mean) * inverse;
    return inverse;
}

/* ∂L/∂x = (g − mean(g) − ẑ mean(g ẑ)) / σ of one row, with g = ∂L/∂ẑ. Every x changes the mean and the variance. */
static void down(const double *g, const double *z, double inverse, double *dx, size_t features) {
    double mean = 0.0, along = 0.0;
    for (size_t k = 0; k < features; k++) {
        mean += g[k] / (double)features;
        along += g[k] * z[k] / (double)features;
    }
    for (size_t k = 0; k < features; k++) dx[k] = (g[k] - mean - z[k] * along) * inverse;
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage:", "layer_norm CASE OUT");
    Array z = read_npy(argv[1], "x"), dout = read_npy(argv[1], "target");
    Array gamma = read_npy(argv[1], "layer_norm1.weight");
    size_t features = gamma.size[0], rows = length(z) / features;
    Array dx = zeros_like(z), g = zeros_like(z), dgamma = zeros_like(gamma), dbeta = zeros_like(gamma);

    for (size_t n = 0; n < rows; n++) {
        size_t at = n * features;
        double inverse = normalise(z.at + at, features);
        for (size_t k = 0; k < features; k++) {
            dgamma.at[k] += dout.at[at + k] * z.at[at + k];
            dbeta.at[k] += dout.at[at + k];
            g.at[at + k] = dout.at[at + k] * gamma.at[k];
        }
        down(g.at + at, z.at + at, inverse, dx.at + at, features);
    }

    write_npy(argv[2], "layer_norm1.weight", dgamma);
    write_npy(argv[2], "layer_norm1.bias", dbeta);
    write_npy(argv[2], "input", dx);
    return 0;
}
