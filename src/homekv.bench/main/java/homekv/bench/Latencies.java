package homekv.bench;

import java.util.Arrays;
import java.util.concurrent.atomic.AtomicInteger;

/** Durations, added by any number of threads at once. Those beyond its capacity are counted and not kept. */
final class Latencies {
    private final long[] nanos;
    private final AtomicInteger count = new AtomicInteger();

    Latencies(int capacity) {
        nanos = new long[capacity];
    }

    void add(long latencyNanos) {
        int index = count.getAndIncrement();
        if (index < nanos.length) {
            nanos[index] = latencyNanos;
        }
    }

    int count() {
        return count.get();
    }

    /** The least duration that so many percent of all do not exceed. For when nobody adds any more. */
    long percentile(double percent) {
        int kept = Math.min(count(), nanos.length);
        if (kept == 0) {
            return 0;
        }
        long[] sorted = Arrays.copyOf(nanos, kept);
        Arrays.sort(sorted);
        return sorted[Math.max(0, (int) Math.ceil(percent / 100 * kept) - 1)];
    }

    static String text(long nanos) {
        return nanos < 2_000
                ? nanos + " ns"
                : nanos < 10_000
                        ? "%.1f µs".formatted(nanos / 1e3)
                        : nanos < 1_000_000 ? "%.0f µs".formatted(nanos / 1e3) : "%.2f ms".formatted(nanos / 1e6);
    }

    /** A percentile for a report. */
    Report.Value value(double percent) {
        return Report.Value.of(percentile(percent), "ns");
    }

    /** For a report: p50, p99, p99.9 and the highest. */
    Report.Value[] values() {
        return new Report.Value[] {value(50), value(99), value(99.9), value(100)};
    }
}
