/* Reverse sweeps as a careful C programmer writes them: states on a tape, the rest computed again.

   Every function returns the value; those named gradient write derivatives too. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Lorenz, classical Runge-Kutta ---------------------------------------------------------------------------- */

static inline void slope(const double *y, const double *p, double *k) {
    k[0] = p[0] * (y[1] - y[0]);
    k[1] = y[0] * (p[1] - y[2]) - y[1];
    k[2] = y[0] * y[1] - p[2] * y[2];
}

static inline void slope_back(const double *y, const double *p, const double *kb, double *yb, double *pb) {
    yb[0] += -p[0] * kb[0] + (p[1] - y[2]) * kb[1] + y[1] * kb[2];
    yb[1] += p[0] * kb[0] - kb[1] + y[0] * kb[2];
    yb[2] += -y[0] * kb[1] - p[2] * kb[2];
    pb[0] += (y[1] - y[0]) * kb[0];
    pb[1] += y[0] * kb[1];
    pb[2] -= y[2] * kb[2];
}

static inline void stages(const double *y, const double *p, double h, double (*at)[3], double (*k)[3]) {
    memcpy(at[0], y, 24);
    slope(at[0], p, k[0]);
    for (int i = 0; i < 3; i++) at[1][i] = y[i] + 0.5 * h * k[0][i];
    slope(at[1], p, k[1]);
    for (int i = 0; i < 3; i++) at[2][i] = y[i] + 0.5 * h * k[1][i];
    slope(at[2], p, k[2]);
    for (int i = 0; i < 3; i++) at[3][i] = y[i] + h * k[2][i];
    slope(at[3], p, k[3]);
}

static inline void step(double *y, const double *p, double h) {
    double at[4][3], k[4][3];
    stages(y, p, h, at, k);
    for (int i = 0; i < 3; i++) y[i] += h / 6 * (k[0][i] + 2 * k[1][i] + 2 * k[2][i] + k[3][i]);
}

double lorenz(const double *start, const double *p, double h, long n) {
    double y[3] = {start[0], start[1], start[2]};
    for (long t = 0; t < n; t++) step(y, p, h);
    return y[0] + y[1] + y[2];
}

double lorenz_gradient(const double *start, const double *p, double h, long n, double *yb, double *pb) {
    double *tape = malloc(n * 24), y[3] = {start[0], start[1], start[2]};
    double s0 = 1, s1 = 1, s2 = 1, q[3] = {0, 0, 0};
    for (long t = 0; t < n; t++) {
        memcpy(tape + 3 * t, y, 24);
        step(y, p, h);
    }
    for (long t = n - 1; t >= 0; t--) {
        double at[4][3], k[4][3], b[3] = {s0, s1, s2}, one[3], two[3] = {0}, three[3] = {0}, four[3] = {0}, first[3] = {0};
        stages(tape + 3 * t, p, h, at, k);
        for (int i = 0; i < 3; i++) one[i] = h / 6 * b[i];
        slope_back(at[3], p, one, four, q);
        double c[3];
        for (int i = 0; i < 3; i++) c[i] = 2 * one[i] + h * four[i];
        slope_back(at[2], p, c, three, q);
        for (int i = 0; i < 3; i++) c[i] = 2 * one[i] + 0.5 * h * three[i];
        slope_back(at[1], p, c, two, q);
        for (int i = 0; i < 3; i++) c[i] = one[i] + 0.5 * h * two[i];
        slope_back(at[0], p, c, first, q);
        s0 = b[0] + first[0] + two[0] + three[0] + four[0];
        s1 = b[1] + first[1] + two[1] + three[1] + four[1];
        s2 = b[2] + first[2] + two[2] + three[2] + four[2];
    }
    yb[0] = s0, yb[1] = s1, yb[2] = s2;
    memcpy(pb, q, 24);
    free(tape);
    return y[0] + y[1] + y[2];
}

/* ---- roots of x + sin(x) / 2 = a by Newton's method ----------------------------------------------------------- */

static inline double root(double a) {
    double x = 1, change = 1;
    while (fabs(change) > 1e-10) {
        change = (x + 0.5 * sin(x) - a) / (1 + 0.5 * cos(x));
        x -= change;
    }
    return x;
}

double roots(const double *a, long n) {
    double total = 0;
    for (long i = 0; i < n; i++) total += root(a[i]);
    return total;
}

double roots_gradient(const double *a, long n, double *ab) {
    double total = 0;
    for (long i = 0; i < n; i++) {
        double x = root(a[i]);
        ab[i] = 1 / (1 + 0.5 * cos(x));
        total += x;
    }
    return total;
}

/* ---- heat with a conductivity 1 + u^2 / 2 --------------------------------------------------------------------- */

static inline double flow(double a, double b) {
    return 0.5 * ((1 + 0.5 * a * a) + (1 + 0.5 * b * b)) * (b - a);
}

static void heat_step(const double *restrict u, double *restrict v, double r, long n) {
    v[0] = u[0], v[n - 1] = u[n - 1];
    for (long i = 1; i < n - 1; i++) v[i] = u[i] + r * (flow(u[i], u[i + 1]) - flow(u[i - 1], u[i]));
}

double heat(const double *start, double r, long n, long steps) {
    double *u = malloc(n * 8), *v = malloc(n * 8), total = 0;
    memcpy(u, start, n * 8);
    for (long t = 0; t < steps; t++) {
        heat_step(u, v, r, n);
        double *w = u;
        u = v, v = w;
    }
    for (long i = 0; i < n; i++) total += u[i] * u[i];
    free(u), free(v);
    return total;
}

/* The adjoint of a step, by cells: flow f(i) between i and i + 1 has the weight w(i) = r (vb[i] - vb[i + 1]), where the
   ends of the rod take no flow. */
static void heat_back(const double *restrict u, const double *restrict vb, double *restrict w, double *restrict ub,
                      double r, long n) {
    w[0] = -r * vb[1], w[n - 2] = r * vb[n - 2];
    for (long i = 1; i < n - 2; i++) w[i] = r * (vb[i] - vb[i + 1]);
    ub[0] = vb[0] + w[0] * (0.5 * u[0] * (u[1] - u[0]) - (1 + 0.25 * (u[0] * u[0] + u[1] * u[1])));
    for (long i = 1; i < n - 1; i++) {
        double a = u[i - 1], b = u[i], c = u[i + 1];
        double left = 0.5 * b * (b - a) + (1 + 0.25 * (a * a + b * b));
        double right = 0.5 * b * (c - b) - (1 + 0.25 * (b * b + c * c));
        ub[i] = vb[i] + w[i - 1] * left + w[i] * right;
    }
    long e = n - 1;
    ub[e] = vb[e] + w[e - 1] * (0.5 * u[e] * (u[e] - u[e - 1]) + (1 + 0.25 * (u[e - 1] * u[e - 1] + u[e] * u[e])));
}

/* With every state kept, or every `block`-th and the steps between run again. */
double heat_gradient(const double *start, double r, long n, long steps, long block, double *ub) {
    long blocks = (steps + block - 1) / block;
    double *kept = malloc((blocks + 1) * n * 8), *inner = malloc((block + 1) * n * 8), total = 0;
    double *w = malloc(n * 8), *b = malloc(n * 8), *c = malloc(n * 8);
    memcpy(kept, start, n * 8);
    for (long k = 0; k < blocks; k++) {
        long m = k == blocks - 1 ? steps - k * block : block;
        double *u = inner, *v = inner + n;
        memcpy(u, kept + k * n, n * 8);
        for (long t = 0; t < m; t++) {
            heat_step(u, v, r, n);
            double *s = u;
            u = v, v = s;
        }
        memcpy(kept + (k + 1) * n, u, n * 8);
    }
    for (long i = 0; i < n; i++) {
        double u = kept[blocks * n + i];
        total += u * u, b[i] = 2 * u;
    }
    for (long k = blocks - 1; k >= 0; k--) {
        long m = k == blocks - 1 ? steps - k * block : block;
        memcpy(inner, kept + k * n, n * 8);
        for (long t = 0; t < m - 1; t++) heat_step(inner + t * n, inner + (t + 1) * n, r, n);
        for (long t = m - 1; t >= 0; t--) {
            heat_back(inner + t * n, b, w, c, r, n);
            double *s = b;
            b = c, c = s;
        }
    }
    memcpy(ub, b, n * 8);
    free(kept), free(inner), free(w), free(b), free(c);
    return total;
}

/* ---- LSTM; weights [inputs][4][h], gates in the order forget, input, candidate, output ------------------------- */

static inline double sigmoid(double z) { return 1 / (1 + exp(-z)); }

static void gates(const double *w, const double *u, const double *b, const double *x, const double *out, long d, long h,
                  double *restrict z) {
    long g = 4 * h;
    memcpy(z, b, g * 8);
    for (long j = 0; j < d; j++)
        for (long i = 0; i < g; i++) z[i] += x[j] * w[j * g + i];
    for (long j = 0; j < h; j++)
        for (long i = 0; i < g; i++) z[i] += out[j] * u[j * g + i];
    for (long i = 0; i < 2 * h; i++) z[i] = sigmoid(z[i]);
    for (long i = 2 * h; i < 3 * h; i++) z[i] = tanh(z[i]);
    for (long i = 3 * h; i < 4 * h; i++) z[i] = sigmoid(z[i]);
}

/* Tapes: gates [t][4 h], memory [t + 1][h], tanh of it [t][h], out [t + 1][h]. Without wb the value alone. */
double lstm_gradient(const double *w, const double *u, const double *b, const double *x, long n, long d, long h,
                     double *wb, double *ub, double *bb) {
    long g = 4 * h, keep = wb != NULL;
    double *z = malloc((keep ? n : 1) * g * 8), *memory = calloc((keep ? n + 1 : 2) * h, 8);
    double *flat = malloc((keep ? n : 1) * h * 8), *out = calloc((keep ? n + 1 : 2) * h, 8), total = 0;
    for (long t = 0; t < n; t++) {
        long a = keep ? t : 0, from = keep ? t : t % 2, to = keep ? t + 1 : (t + 1) % 2;
        double *q = z + a * g, *c = memory + from * h, *e = memory + to * h, *f = flat + a * h, *o = out + to * h;
        gates(w, u, b, x + t * d, out + from * h, d, h, q);
        for (long i = 0; i < h; i++) e[i] = q[i] * c[i] + q[h + i] * q[2 * h + i];
        for (long i = 0; i < h; i++) f[i] = tanh(e[i]), o[i] = q[3 * h + i] * f[i];
    }
    double *last = out + (keep ? n : n % 2) * h;
    for (long i = 0; i < h; i++) total += last[i] * last[i];
    if (keep) {
        double *ob = malloc(h * 8), *cb = calloc(h, 8), *zb = malloc(g * 8);
        memset(wb, 0, d * g * 8), memset(ub, 0, h * g * 8), memset(bb, 0, g * 8);
        for (long i = 0; i < h; i++) ob[i] = 2 * last[i];
        for (long t = n - 1; t >= 0; t--) {
            double *q = z + t * g, *c = memory + t * h, *f = flat + t * h, *o = out + t * h;
            for (long i = 0; i < h; i++) {
                double s = cb[i] + ob[i] * q[3 * h + i] * (1 - f[i] * f[i]);
                zb[i] = s * c[i] * q[i] * (1 - q[i]);
                zb[h + i] = s * q[2 * h + i] * q[h + i] * (1 - q[h + i]);
                zb[2 * h + i] = s * q[h + i] * (1 - q[2 * h + i] * q[2 * h + i]);
                zb[3 * h + i] = ob[i] * f[i] * q[3 * h + i] * (1 - q[3 * h + i]);
                cb[i] = s * q[i];
            }
            for (long i = 0; i < g; i++) bb[i] += zb[i];
            for (long j = 0; j < d; j++)
                for (long i = 0; i < g; i++) wb[j * g + i] += x[t * d + j] * zb[i];
            for (long j = 0; j < h; j++) {
                double s = 0, *row = ub + j * g;
                for (long i = 0; i < g; i++) s += u[j * g + i] * zb[i], row[i] += o[j] * zb[i];
                ob[j] = s;
            }
        }
        free(ob), free(cb), free(zb);
    }
    free(z), free(memory), free(flat), free(out);
    return total;
}

/* ---- soft edit distance ---------------------------------------------------------------------------------------- */

static inline double soft(double a, double b, double c) {
    double low = fmin(fmin(a, b), c);
    return low - log(exp(low - a) + exp(low - b) + exp(low - c));
}

double edit(const double *x, const double *y, double gap, long n, long m) {
    double *row = malloc((m + 1) * 8);
    for (long j = 0; j <= m; j++) row[j] = gap * j;
    for (long i = 0; i < n; i++) {
        double corner = row[0];
        row[0] = gap * (i + 1);
        for (long j = 0; j < m; j++) {
            double above = row[j + 1], d = x[i] - y[j];
            row[j + 1] = soft(corner + d * d, above + gap, row[j] + gap);
            corner = above;
        }
    }
    double value = row[m];
    free(row);
    return value;
}

/* The table is kept; the weights of the three ways into a cell are exp(cell - way). */
double edit_gradient(const double *x, const double *y, double gap, long n, long m, double *xb, double *yb) {
    long width = m + 1;
    double *table = malloc((n + 1) * width * 8), *below = calloc(width, 8), *here = calloc(width, 8);
    for (long j = 0; j <= m; j++) table[j] = gap * j;
    for (long i = 0; i < n; i++) {
        double *up = table + i * width, *row = up + width;
        row[0] = gap * (i + 1);
        for (long j = 0; j < m; j++) {
            double d = x[i] - y[j];
            row[j + 1] = soft(up[j] + d * d, up[j + 1] + gap, row[j] + gap);
        }
    }
    for (long j = 0; j < m; j++) yb[j] = 0;
    below[m] = 1;
    for (long i = n - 1; i >= 0; i--) {
        double *up = table + i * width, *row = up + width, sum = 0;
        memset(here, 0, width * 8);
        for (long j = m - 1; j >= 0; j--) {
            double d = x[i] - y[j], cell = row[j + 1], weight = below[j + 1];
            double a = weight * exp(cell - up[j] - d * d), b = weight * exp(cell - up[j + 1] - gap);
            double c = weight * exp(cell - row[j] - gap);
            here[j] += a, here[j + 1] += b, below[j] += c;
            sum += 2 * d * a, yb[j] -= 2 * d * a;
        }
        xb[i] = sum;
        double *s = below;
        below = here, here = s;
    }
    double value = table[n * width + m];
    free(table), free(below), free(here);
    return value;
}

/* ---- y = sin(y) + c -------------------------------------------------------------------------------------------- */

double sines(double y, double c, long n) {
    for (long t = 0; t < n; t++) y = sin(y) + c;
    return y;
}

double sines_gradient(double y, double c, long n, double *b) {
    double *tape = malloc(n * 8), yb = 1, cb = 0;
    for (long t = 0; t < n; t++) tape[t] = y, y = sin(y) + c;
    for (long t = n - 1; t >= 0; t--) cb += yb, yb *= cos(tape[t]);
    b[0] = yb, b[1] = cb;
    free(tape);
    return y;
}

double logistic(double y, double c, long n) {
    for (long t = 0; t < n; t++) y = c * y * (1 - y);
    return y;
}

double logistic_gradient(double y, double c, long n, double *b) {
    double *tape = malloc(n * 8), yb = 1, cb = 0;
    for (long t = 0; t < n; t++) tape[t] = y, y = c * y * (1 - y);
    for (long t = n - 1; t >= 0; t--) cb += yb * tape[t] * (1 - tape[t]), yb *= c * (1 - 2 * tape[t]);
    b[0] = yb, b[1] = cb;
    free(tape);
    return y;
}
