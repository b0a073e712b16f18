/* Reads and writes float64 arrays in .npy files. A file holds a magic string, the length of the header, the header
 * (a Python dict) and the numbers. The programs in this folder use it; see README.md.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { AXES = 3 };

/* An array with its numbers in C order, for example with 2 axes [rows, columns]. Sizes of missing axes are 1. */
typedef struct {
    int axes;
    size_t size[AXES];
    double *at;
} Array;

static void fail(const char *what, const char *which) {
    fprintf(stderr, "error: %s %s\n", what, which);
    exit(2);
}

static size_t length(Array a) { return a.size[0] * a.size[1] * a.size[2]; }

static Array zeros(int axes, size_t first, size_t second, size_t third) {
    Array a = {axes, {first, second, third}, NULL};
    a.at = calloc(length(a), sizeof(double));
    if (!a.at) fail("no memory for", "an array");
    return a;
}

static Array zeros_like(Array a) { return zeros(a.axes, a.size[0], a.size[1], a.size[2]); }

static Array read_npy(const char *folder, const char *name) {
    char path[4096], header[4096] = "";
    unsigned char start[10];
    unsigned long long size[AXES] = {1, 1, 1};
    snprintf(path, sizeof path, "%s/%s.npy", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fread(start, 1, 10, file) != 10) fail("cannot read", path);
    if (memcmp(start, "\x93NUMPY\x01", 7)) fail("not an .npy of version 1:", path);
    size_t bytes = start[8] + 256u * start[9];
    if (bytes >= sizeof header || fread(header, 1, bytes, file) != bytes) fail("cannot read", path);
    const char *shape = strstr(header, "'shape': (");
    if (!shape || !strstr(header, "'<f8'") || !strstr(header, "'fortran_order': False"))
        fail("no rows of float64 in", path);
    int axes = sscanf(shape, "'shape': (%llu, %llu, %llu", &size[0], &size[1], &size[2]);
    if (axes < 1) fail("no array of 1 to 3 axes in", path);
    Array a = zeros(axes, size[0], size[1], size[2]);
    if (fread(a.at, sizeof(double), length(a), file) != length(a)) fail("too few numbers in", path);
    fclose(file);
    return a;
}

static void write_npy(const char *folder, const char *name, Array a) {
    char path[4096], shape[96] = "", header[118]; /* after 10 bytes, so that the numbers begin at byte 128 */
    snprintf(path, sizeof path, "%s/%s.npy", folder, name);
    for (int axis = 0; axis < a.axes; axis++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%zu, ", a.size[axis]);
    int written = snprintf(header, sizeof header, "{'descr': '<f8', 'fortran_order': False, 'shape': (%s)}", shape);
    memset(header + written, ' ', sizeof header - written);
    header[sizeof header - 1] = '\n';
    mkdir(folder, 0777);
    FILE *file = fopen(path, "wb");
    if (!file) fail("cannot write", path);
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file); /* 0x76 = 118 */
    fwrite(header, 1, sizeof header, file);
    fwrite(a.at, sizeof(double), length(a), file);
    if (ferror(file) | fclose(file)) fail("cannot write", path);
}
