/* The floor of scoring: a C loop over LightGBM's single-row fast call. Warm, or with bytes evicted between calls. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef void *Handle;
int LGBM_BoosterLoadModelFromString(const char *, int *, Handle *);
int LGBM_BoosterPredictForMatSingleRowFastInit(Handle, int, int, int, int, int32_t, const char *, Handle *);
int LGBM_BoosterPredictForMatSingleRowFast(Handle, const void *, int64_t *, double *);

static void *whole(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) exit(2);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    if (fread(data, 1, *size, file) != *size) exit(2);
    data[*size] = 0;
    fclose(file);
    return data;
}

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

/* model, rows (float64), width, bytes to evict with. A line on standard input is a round; answers ns per call. */
int main(int argc, char **argv) {
    if (argc != 5) return 2;
    size_t size, width = (size_t)atoi(argv[3]), evicted = (size_t)atol(argv[4]);
    char *model = whole(argv[1], &size), line[16];
    double *rows = whole(argv[2], &size), out = 0.0;
    size_t count = size / sizeof(double) / width;
    char *other = evicted ? malloc(evicted) : NULL;
    Handle booster, fast;
    int iterations;
    int64_t length;
    if (LGBM_BoosterLoadModelFromString(model, &iterations, &booster)) return 3;
    const char *settings = "num_threads=1 verbosity=-1";
    if (LGBM_BoosterPredictForMatSingleRowFastInit(booster, 1, 0, -1, 1, (int32_t)width, settings, &fast)) return 3;
    while (fgets(line, sizeof line, stdin)) {
        int64_t spent = 0;
        for (size_t row = 0; row < count; row++) {
            if (other) {
                memset(other, (int)row, evicted);
                __asm__ volatile("" : : "r"(other) : "memory"); /* or the compiler leaves out what nobody reads */
            }
            int64_t before = other || row == 0 ? now() : 0;
            LGBM_BoosterPredictForMatSingleRowFast(fast, rows + row * width, &length, &out);
            if (other) spent += now() - before;
            else if (row == 0) spent = -before;
        }
        if (!other) spent += now();
        printf("%f\n", (double)spent / (double)count);
        fflush(stdout);
    }
    return 0;
}
