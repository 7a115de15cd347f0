package homekv.rpc;

import java.util.random.RandomGenerator;

/**
 * Chooses numbers below {@code count} of which a few come often: the one of rank r in proportion to 1/(r+1)^theta. Ranks
 * are spread over the numbers, so that what comes often does not lie side by side; rank 0 is number 0.
 *
 * <p>Needs no memory: the method of J. Gray, P. Sundaresan, S. Englert, K. Baclawski and P. Weinberger, "Quickly
 * generating billion-record synthetic databases", SIGMOD 1994, section 3.2, as YCSB uses it. Making one takes a moment
 * for each number, about 20 ns. Immutable.
 */
final class Zipf {
    private static final double GOLDEN_RATIO = 0.6180339887498949;

    private final int count;
    private final double zeta;
    private final double zetaOfTwo;
    private final double alpha;
    private final double eta;

    /** By how much the numbers of two ranks that follow each other differ; has no divisor in common with the count. */
    private final long stride;

    /** The {@code theta} is between 0, all alike, and 1. */
    Zipf(int count, double theta) {
        this.count = count;
        double sum = 0;
        for (int rank = 1; rank <= count; rank++) {
            sum += Math.pow(rank, -theta);
        }
        zeta = sum;
        alpha = 1 / (1 - theta);
        zetaOfTwo = 1 + Math.pow(2, -theta);
        eta = (1 - Math.pow(2.0 / count, 1 - theta)) / (1 - zetaOfTwo / zeta);
        long candidate = Math.max(1, (long) (count * GOLDEN_RATIO));
        while (greatestCommonDivisor(candidate, count) != 1) {
            candidate++;
        }
        stride = candidate;
    }

    private static long greatestCommonDivisor(long a, long b) {
        return b == 0 ? a : greatestCommonDivisor(b, a % b);
    }

    /** The share that rank 0 has of all. */
    double firstShare() {
        return 1 / zeta;
    }

    int next(RandomGenerator random) {
        return (int) (rank(random.nextDouble()) * stride % count);
    }

    private long rank(double uniform) {
        double scaled = uniform * zeta;
        if (scaled < 1) {
            return 0;
        }
        if (scaled < zetaOfTwo) {
            return Math.min(1, count - 1);
        }
        return Math.min(count - 1, (long) (count * Math.pow(eta * uniform - eta + 1, alpha)));
    }
}
