// The problems of the AD benchmark in C++ for Enzyme, with sizes built in: before this stand the name of
// a problem, defined, and its sizes as constants.

extern int enzyme_dup, enzyme_const;
template <typename R, typename... A> R __enzyme_autodiff(A...);
template <typename R, typename... A> R __enzyme_fwddiff(A...);

template <typename T> static const double* in(const T& t) { return (const double*)&t; }
template <typename T> static double* out(T& t) { return (double*)&t; }

static void zero(double* a, long n) {
    for (long i = 0; i < n; i++) a[i] = 0;
}

// log(sum(exp(x)))
static double log_sum_exp(const double* x, long n) {
    double top = x[0], sum = 0;
    for (long i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
    for (long i = 0; i < n; i++) sum += __builtin_exp(x[i] - top);
    return top + __builtin_log(sum);
}

#ifdef GMM
constexpr int T = D * (D - 1) / 2;

// Rows of two are added up without arrays, whose derivatives come out wrong.
static double distance(const double* x, const double* mu, const double* scale, const double* l) {
    if (D == 2) {
        double first = x[0] - mu[0], y = scale[1] * (x[1] - mu[1]) + l[0] * first;
        return scale[0] * first * scale[0] * first + y * y;
    }
    double away[D], y[D], square = 0;
    for (int j = 0; j < D; j++) away[j] = x[j] - mu[j];
    for (int j = 0; j < D; j++) y[j] = scale[j] * away[j];
    for (int j = 0; j < D; j++)
        for (int r = j + 1; r < D; r++) y[r] += l[j * (2 * D - j - 1) / 2 + r - j - 1] * away[j];
    for (int j = 0; j < D; j++) square += y[j] * y[j];
    return square;
}

static double objective(const double* alpha, const double* mu, const double* q, const double* l, const double* x,
                        const double* constant) {
    double scale[K * D], total[K], beta[K], sum = 0, squares = 0;
    for (int c = 0; c < K; c++) {
        total[c] = 0;
        for (int j = 0; j < D; j++) {
            total[c] += q[c * D + j];
            scale[c * D + j] = __builtin_exp(q[c * D + j]);
            squares += scale[c * D + j] * scale[c * D + j];
        }
        for (int j = 0; j < T; j++) squares += l[c * T + j] * l[c * T + j];
    }
    for (int i = 0; i < N; i++) {
        for (int c = 0; c < K; c++)
            beta[c] = alpha[c] + total[c] - 0.5 * distance(x + i * D, mu + c * D, scale + c * D, l + c * T);
        sum += log_sum_exp(beta, K);
    }
    return constant[0] - N * log_sum_exp(alpha, K) + sum - 0.5 * squares;
}

template <typename O, typename... I> void primal(O& o, const I&... given) { *out(o) = objective(in(given)...); }

template <typename A, typename M, typename Q, typename L, typename X, typename C>
void derivative(A& da, M& dm, Q& dq, L& dl, const A& a, const M& m, const Q& q, const L& l, const X& x, const C& c) {
    zero(out(da), K), zero(out(dm), K * D), zero(out(dq), K * D), zero(out(dl), K * T);
    __enzyme_autodiff<double>((void*)objective, enzyme_dup, in(a), out(da), enzyme_dup, in(m), out(dm), enzyme_dup, in(q),
                              out(dq), enzyme_dup, in(l), out(dl), enzyme_const, in(x), enzyme_const, in(c));
}
#endif

#ifdef BA
static void error(const double* cam, const double* point, const double* w, const double* feature, double* e) {
    double r0 = cam[0], r1 = cam[1], r2 = cam[2], square = r0 * r0 + r1 * r1 + r2 * r2;
    double x0 = point[0] - cam[3], x1 = point[1] - cam[4], x2 = point[2] - cam[5], y0, y1, y2;
    if (square != 0) {
        double angle = __builtin_sqrt(square), c = __builtin_cos(angle), s = __builtin_sin(angle);
        double a0 = r0 / angle, a1 = r1 / angle, a2 = r2 / angle, along = (a0 * x0 + a1 * x1 + a2 * x2) * (1 - c);
        y0 = x0 * c + (a1 * x2 - a2 * x1) * s + a0 * along;
        y1 = x1 * c + (a2 * x0 - a0 * x2) * s + a1 * along;
        y2 = x2 * c + (a0 * x1 - a1 * x0) * s + a2 * along;
    } else {
        y0 = x0 + r1 * x2 - r2 * x1;
        y1 = x1 + r2 * x0 - r0 * x2;
        y2 = x2 + r0 * x1 - r1 * x0;
    }
    double p0 = y0 / y2, p1 = y1 / y2, r = p0 * p0 + p1 * p1, stretch = cam[6] * (1 + cam[9] * r + cam[10] * r * r);
    e[0] = *w * (stretch * p0 + cam[7] - feature[0]);
    e[1] = *w * (stretch * p1 + cam[8] - feature[1]);
}

template <typename E, typename V, typename C, typename X, typename W, typename F, typename O>
void primal(E& e, V& v, const C& cams, const X& x, const W& w, const F& features, const O& observed) {
    const int* seen = (const int*)&observed;
    for (long j = 0; j < P; j++) {
        error(in(cams) + 11 * seen[2 * j], in(x) + 3 * seen[2 * j + 1], in(w) + j, in(features) + 2 * j, out(e) + 2 * j);
        out(v)[j] = 1 - in(w)[j] * in(w)[j];
    }
}

template <typename R, typename J, typename V, typename C, typename X, typename W, typename F, typename O>
void derivative(R& r, J& c, V& v, const C& cams, const X& x, const W& w, const F& features, const O& observed) {
    const int* seen = (const int*)&observed;
    int *row = (int*)&r, *column = (int*)&c;
    double* value = out(v);
    for (long j = 0; j < P; j++) {
        int cam = seen[2 * j], point = seen[2 * j + 1];
        for (int part = 0; part < 2; part++) {
            double e[2], seed[2] = {part == 0 ? 1.0 : 0.0, part == 1 ? 1.0 : 0.0};
            long at = 30 * j + 15 * part;
            zero(value + at, 15);
            __enzyme_autodiff<void>((void*)error, enzyme_dup, in(cams) + 11 * cam, value + at, enzyme_dup,
                                    in(x) + 3 * point, value + at + 11, enzyme_dup, in(w) + j, value + at + 14,
                                    enzyme_const, in(features) + 2 * j, enzyme_dup, e, seed);
            for (int i = 0; i < 11; i++) column[at + i] = 11 * cam + i;
            for (int i = 0; i < 3; i++) column[at + 11 + i] = 11 * CAMERAS + 3 * point + i;
            column[at + 14] = 11 * CAMERAS + 3 * POINTS + j;
            row[2 * j + part] = at;
        }
        value[30 * P + j] = -2 * in(w)[j];
        column[30 * P + j] = 11 * CAMERAS + 3 * POINTS + j;
        row[2 * P + j] = 30 * P + j;
    }
    row[3 * P] = 31 * P;
}
#endif

#ifdef LSTM
static double sigmoid(double x) { return 1 / (1 + __builtin_exp(-x)); }

static double objective(const double* main, const double* extra, const double* start, const double* sequence) {
    double state[2 * L * B], x[B], total = 0;
    for (int i = 0; i < 2 * L * B; i++) state[i] = start[i];
    for (int t = 0; t < C - 1; t++) {
        for (int i = 0; i < B; i++) x[i] = sequence[t * B + i] * extra[i];
        for (int k = 0; k < L; k++) {
            const double *w = main + 8 * B * k, *b = w + 4 * B;
            double *hidden = state + 2 * B * k, *cell = hidden + B;
            for (int i = 0; i < B; i++) {
                double forget = sigmoid(x[i] * w[i] + b[i]);
                double enter = sigmoid(hidden[i] * w[B + i] + b[B + i]);
                double leave = sigmoid(x[i] * w[2 * B + i] + b[2 * B + i]);
                double change = __builtin_tanh(hidden[i] * w[3 * B + i] + b[3 * B + i]);
                cell[i] = cell[i] * forget + enter * change;
                hidden[i] = x[i] = leave * __builtin_tanh(cell[i]);
            }
        }
        double sum = 2, ahead = 0, known = 0;
        for (int i = 0; i < B; i++) {
            double y = x[i] * extra[B + i] + extra[2 * B + i], target = sequence[(t + 1) * B + i];
            sum += __builtin_exp(y);
            ahead += target * y;
            known += target;
        }
        total += ahead - known * __builtin_log(sum);
    }
    return -total / (B * (C - 1));
}

template <typename O, typename... I> void primal(O& o, const I&... given) { *out(o) = objective(in(given)...); }

template <typename M, typename E, typename S, typename Q>
void derivative(M& dm, E& de, const M& m, const E& e, const S& s, const Q& q) {
    zero(out(dm), 8 * L * B), zero(out(de), 3 * B);
    __enzyme_autodiff<double>((void*)objective, enzyme_dup, in(m), out(dm), enzyme_dup, in(e), out(de), enzyme_const, in(s),
                              enzyme_const, in(q));
}
#endif

#ifdef KMEANS
static double objective(const double* points, const double* centroids) {
    double cost = 0;
    for (int i = 0; i < N; i++) {
        double least = 0;
        for (int j = 0; j < K; j++) {
            double square = 0;
            for (int c = 0; c < D; c++) {
                double apart = points[i * D + c] - centroids[j * D + c];
                square += apart * apart;
            }
            least = j == 0 || square < least ? square : least;
        }
        cost += least;
    }
    return cost;
}

static void gradient(const double* points, const double* centroids, double* slope) {
    __enzyme_autodiff<double>((void*)objective, enzyme_const, points, enzyme_dup, centroids, slope);
}

template <typename O, typename... I> void primal(O& o, const I&... given) { *out(o) = objective(in(given)...); }

template <typename C, typename P> void derivative(C& direction, const P& points, const C& centroids) {
    static double ones[K * D], slope[K * D], curvature[K * D];
    zero(slope, K * D), zero(curvature, K * D);
    for (int i = 0; i < K * D; i++) ones[i] = 1;
    __enzyme_fwddiff<void>((void*)gradient, enzyme_const, in(points), enzyme_dup, in(centroids), ones, enzyme_dup, slope,
                           curvature);
    for (int i = 0; i < K * D; i++) out(direction)[i] = slope[i] / curvature[i];
}
#endif

#ifdef DET
static double objective(const double* a) {
    double minor[1 << N];
    minor[0] = 1;
    for (int set = 1; set < 1 << N; set++) {
        double total = 0, sign = 1;
        int row = N - __builtin_popcount(set);
        for (int c = 0; c < N; c++)
            if (set >> c & 1) {
                total += sign * a[row * N + c] * minor[set ^ 1 << c];
                sign = -sign;
            }
        minor[set] = total;
    }
    return minor[(1 << N) - 1];
}
#endif

#ifdef LLSQ
static double objective(const double* x) {
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double t = -1 + i * 2.0 / (N - 1), power = 1, rest = (t > 0) - (t < 0);
        for (int j = 0; j < M; j++) {
            rest -= x[j] * power;
            power *= t;
        }
        sum += rest * rest;
    }
    return 0.5 * sum;
}
#endif

#ifdef LSE
static double objective(const double* x) { return log_sum_exp(x, N); }
#endif

#ifdef ODE
static void slope(const double* x, const double* y, double* k) {
    k[0] = x[0];
    for (int i = 1; i < N; i++) k[i] = x[i] * y[i - 1];
}

static void solved(const double* x, double* end) {
    double y[N], z[N], k1[N], k2[N], k3[N], k4[N], h = 2.0 / S;
    for (int i = 0; i < N; i++) y[i] = 0;
    for (int s = 0; s < S; s++) {
        slope(x, y, k1);
        for (int i = 0; i < N; i++) z[i] = y[i] + h / 2 * k1[i];
        slope(x, z, k2);
        for (int i = 0; i < N; i++) z[i] = y[i] + h / 2 * k2[i];
        slope(x, z, k3);
        for (int i = 0; i < N; i++) z[i] = y[i] + h * k3[i];
        slope(x, z, k4);
        for (int i = 0; i < N; i++) y[i] += h / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
    }
    for (int i = 0; i < N; i++) end[i] = y[i];
}

template <typename X> void primal(X& y, const X& x) { solved(in(x), out(y)); }

template <typename X> void derivative(X& dx, const X& x) {
    static double end[N], seed[N];
    zero(out(dx), N), zero(seed, N);
    seed[N - 1] = 1;
    __enzyme_autodiff<void>((void*)solved, enzyme_dup, in(x), out(dx), enzyme_dup, end, seed);
}
#endif

#if defined(DET) || defined(LLSQ) || defined(LSE)
template <typename O, typename X> void primal(O& o, const X& x) { *out(o) = objective(in(x)); }

template <typename X> void derivative(X& dx, const X& x) {
    zero(out(dx), sizeof(X) / sizeof(double));
    __enzyme_autodiff<double>((void*)objective, enzyme_dup, in(x), out(dx));
}
#endif
