package homekv.storage;

import java.util.List;
import java.util.Objects;

/**
 * What one record of the write-ahead log says: the effect that a command had, not the command, so that replaying it
 * depends on nothing but the records before it. Immutable as long as its lists are; FORMAT.md has the bytes of each.
 */
sealed interface LogRecord {
    /**
     * What a command changed in one revision, and the lease that it ended.
     *
     * @param revision the revision that the command took; the newest one where it only ended a lease
     * @param writes each key once, but a key that was deleted and put again, which is created anew by that, twice in that
     *     order, one right after the other; empty where the command only ended a lease
     * @param endedLease the lease that takes no more keys from here on; 0: none
     * @param endedGrant which grant of the store's that lease came from; 0 where there is none
     */
    record Committed(long revision, List<Write> writes, long endedLease, long endedGrant) implements LogRecord {
        public Committed {
            Objects.requireNonNull(writes);
        }
    }

    /**
     * A lease began.
     *
     * @param grant how many the store has granted with this one
     */
    record Granted(long lease, long ttlMillis, long grant) implements LogRecord {}

    /** The compact revision was raised to this one by a command. */
    record Compacted(long revision) implements LogRecord {}

    /** The log was closed in order, with nothing after this; and how long each lease had left then. */
    record Closed(List<LeaseLeft> leases) implements LogRecord {
        public Closed {
            Objects.requireNonNull(leases);
        }
    }
}
