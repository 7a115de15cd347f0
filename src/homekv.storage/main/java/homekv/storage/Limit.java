package homekv.storage;

/** The names of the {@link Limits} that have a name in refusals and settings, and the range of each. */
public enum Limit {
    KEY_BYTES(1, Limits.MAX_MESSAGE_BYTES),
    VALUE_BYTES(0, Limits.MAX_MESSAGE_BYTES),
    REQUEST_KEYS(1, Integer.MAX_VALUE),
    REQUEST_BYTES(1, Limits.MAX_MESSAGE_BYTES),
    RESPONSE_BYTES(1, Limits.MAX_MESSAGE_BYTES),
    IN_FLIGHT_BYTES(1, Limits.MAX_HEAP_BYTES),
    MEMORY_BYTES(0, Limits.MAX_HEAP_BYTES),
    HISTORY_BYTES(0, Limits.MAX_HEAP_BYTES),
    HISTORY_MILLIS(0, Limits.MAX_MILLIS),
    SNAPSHOT_BYTES(0, Limits.MAX_HEAP_BYTES),
    SNAPSHOT_MILLIS(1, Limits.MAX_MILLIS),
    OPEN_SNAPSHOTS(1, 1 << 20),
    OPEN_WATCHES(0, 1 << 20),
    TXN_DEPTH(1, 64),
    LEASE_MILLIS(1, Limits.MAX_MILLIS);

    private final long min;
    private final long max;

    Limit(long min, long max) {
        this.min = min;
        this.max = max;
    }

    /** The least that this limit can be. */
    public long min() {
        return min;
    }

    /** The most that this limit can be. */
    public long max() {
        return max;
    }

    long requireInRange(long value) {
        if (value < min || value > max) {
            throw new IllegalArgumentException(this + " is from " + min + " to " + max + ", not " + value);
        }
        return value;
    }
}
