package homekv.storage;

import java.util.Objects;

/**
 * How a {@link WriteAheadLog} writes: what it promises, and when it begins new files. Immutable.
 *
 * @param durability what commands survive once they have been answered; not {@link Durability#MEMORY}
 * @param forceIntervalMillis with {@link Durability#INTERVAL}: how long a command may wait for its force after it has
 *     been answered
 * @param segmentBytes how long a segment of the log grows before the next one is begun; one group of commands may
 *     exceed it
 * @param snapshotLogBytes how much has to be logged before a snapshot file is written, at the least: it is also as much
 *     as the last snapshot file is long, so that no more is written for snapshot files than for the log
 * @param snapshotIntervalMillis after how long a snapshot file is written if anything has been logged; 0: never
 * @param minFreeBytes how much of the disk has to be free for commands that may need more of it to be taken; 0: nothing
 * @param recoverToLastGood whether to give up what lies behind the first damage, if there is any, rather than not to
 *     open
 */
public record LogOptions(
        Durability durability,
        long forceIntervalMillis,
        long segmentBytes,
        long snapshotLogBytes,
        long snapshotIntervalMillis,
        long minFreeBytes,
        boolean recoverToLastGood) {

    private static final long MIB = 1 << 20;

    public LogOptions {
        Objects.requireNonNull(durability);
        if (durability == Durability.MEMORY) {
            throw new IllegalArgumentException("a log on disk is WRITTEN, INTERVAL or FORCED; MEMORY is no log at all");
        }
        requireInRange("forceIntervalMillis", forceIntervalMillis, 1, Limits.MAX_MILLIS);
        requireInRange("segmentBytes", segmentBytes, 1, Long.MAX_VALUE);
        requireInRange("snapshotLogBytes", snapshotLogBytes, 1, Long.MAX_VALUE);
        requireInRange("snapshotIntervalMillis", snapshotIntervalMillis, 0, Limits.MAX_MILLIS);
        requireInRange("minFreeBytes", minFreeBytes, 0, Long.MAX_VALUE);
    }

    private static void requireInRange(String name, long value, long least, long most) {
        if (value < least || value > most) {
            throw new IllegalArgumentException(
                    name + " is " + value + "; it has to be " + least + " at the least and " + most + " at the most");
        }
    }

    /** Every command forced; segments of 64 MiB, snapshot files every 256 MiB or hour, 256 MiB of the disk free. */
    public static LogOptions defaults() {
        return new LogOptions(Durability.FORCED, 100, 64 * MIB, 256 * MIB, 3_600_000, 256 * MIB, false);
    }

    /** These options with another promise. */
    public LogOptions withDurability(Durability durability) {
        return new LogOptions(
                durability,
                forceIntervalMillis,
                segmentBytes,
                snapshotLogBytes,
                snapshotIntervalMillis,
                minFreeBytes,
                recoverToLastGood);
    }

    /** These options with another time between forces. */
    public LogOptions withForceIntervalMillis(long forceIntervalMillis) {
        return new LogOptions(
                durability,
                forceIntervalMillis,
                segmentBytes,
                snapshotLogBytes,
                snapshotIntervalMillis,
                minFreeBytes,
                recoverToLastGood);
    }

    /** These options with segments of another length. */
    public LogOptions withSegmentBytes(long segmentBytes) {
        return new LogOptions(
                durability,
                forceIntervalMillis,
                segmentBytes,
                snapshotLogBytes,
                snapshotIntervalMillis,
                minFreeBytes,
                recoverToLastGood);
    }

    /** These options with more or less of the log between snapshot files. */
    public LogOptions withSnapshotLogBytes(long snapshotLogBytes) {
        return new LogOptions(
                durability,
                forceIntervalMillis,
                segmentBytes,
                snapshotLogBytes,
                snapshotIntervalMillis,
                minFreeBytes,
                recoverToLastGood);
    }

    /** These options with more or less time between snapshot files; 0: no snapshot file for the sake of time. */
    public LogOptions withSnapshotIntervalMillis(long snapshotIntervalMillis) {
        return new LogOptions(
                durability,
                forceIntervalMillis,
                segmentBytes,
                snapshotLogBytes,
                snapshotIntervalMillis,
                minFreeBytes,
                recoverToLastGood);
    }

    /** These options with more or less of the disk left alone. */
    public LogOptions withMinFreeBytes(long minFreeBytes) {
        return new LogOptions(
                durability,
                forceIntervalMillis,
                segmentBytes,
                snapshotLogBytes,
                snapshotIntervalMillis,
                minFreeBytes,
                recoverToLastGood);
    }

    /** These options with or without giving up what lies behind the first damage. */
    public LogOptions withRecoverToLastGood(boolean recoverToLastGood) {
        return new LogOptions(
                durability,
                forceIntervalMillis,
                segmentBytes,
                snapshotLogBytes,
                snapshotIntervalMillis,
                minFreeBytes,
                recoverToLastGood);
    }
}
