package homekv.rpc;

import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;

/**
 * How long things took: a histogram that tells each duration to within 1%, in 38 KiB whatever is added.
 *
 * <p>Any number of threads may add at once, without waiting for each other. Who reads meanwhile sees what has been added
 * so far, and perhaps a part of what is just being added.
 *
 * <p>Durations below 128 ns have a bucket each; above, every power of two has 128 buckets of one width. What takes longer
 * than 73 minutes counts as 73 minutes, but for the maximum, which is exact.
 */
public final class Latencies {
    private static final int BUCKET_BITS = 7;
    private static final int BUCKETS_PER_POWER = 1 << BUCKET_BITS;
    private static final long LONGEST_NANOS = (1L << 42) - 1;

    private final AtomicLongArray counts = new AtomicLongArray(bucket(LONGEST_NANOS) + 1);
    private final AtomicLong maxNanos = new AtomicLong();

    /** Without any duration yet. */
    public Latencies() {}

    /** Adds a duration; a negative one, as a clock that steps back would make it, as none. */
    public void add(long latencyNanos) {
        long nanos = Math.max(0, latencyNanos);
        counts.getAndIncrement(bucket(Math.min(nanos, LONGEST_NANOS)));
        if (nanos > maxNanos.get()) {
            maxNanos.accumulateAndGet(nanos, Math::max);
        }
    }

    private static int bucket(long nanos) {
        if (nanos < BUCKETS_PER_POWER) {
            return (int) nanos;
        }
        int power = Long.SIZE - 1 - Long.numberOfLeadingZeros(nanos) - BUCKET_BITS;
        return (power + 1) * BUCKETS_PER_POWER + (int) (nanos >>> power) - BUCKETS_PER_POWER;
    }

    /** The longest duration that falls into a bucket. */
    private static long longestNanos(int bucket) {
        if (bucket < BUCKETS_PER_POWER) {
            return bucket;
        }
        int power = bucket / BUCKETS_PER_POWER - 1;
        return ((long) (bucket % BUCKETS_PER_POWER + BUCKETS_PER_POWER + 1) << power) - 1;
    }

    /** How many have been added. */
    public long count() {
        long count = 0;
        for (int bucket = 0; bucket < counts.length(); bucket++) {
            count += counts.get(bucket);
        }
        return count;
    }

    /**
     * The least duration that so many percent of all do not exceed, or up to 1% more, in nanoseconds; 0 where none has been
     * added.
     */
    public long percentileNanos(double percent) {
        long within = Math.max(1, (long) Math.ceil(percent / 100 * count()));
        for (int bucket = 0; bucket < counts.length(); bucket++) {
            within -= counts.get(bucket);
            if (within <= 0) {
                return Math.min(longestNanos(bucket), maxNanos());
            }
        }
        return maxNanos();
    }

    /** The longest one, in nanoseconds; 0 where none has been added. */
    public long maxNanos() {
        return maxNanos.get();
    }
}
