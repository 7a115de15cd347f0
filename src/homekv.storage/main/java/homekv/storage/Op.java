package homekv.storage;

import java.util.Objects;

/**
 * A step of a {@link Txn}: a read, a write, or a transaction within. Immutable.
 *
 * <p>Steps are carried out in order, and each sees what the steps before it have done. What they leave of a key is one
 * version (S5).
 */
public sealed interface Op permits Op.Get, Op.Scan, Op.Put, Op.Delete, Op.Increment, Txn {
    /** Reads one key. Answered with {@link OpResult.Got}. */
    record Get(Bytes key) implements Op {
        public Get {
            Objects.requireNonNull(key);
        }
    }

    /**
     * Reads the keys of a range in their order. Answered with {@link OpResult.Scanned}.
     *
     * @param range the keys
     * @param descending whether to begin with the last key
     * @param limit the most entries to answer; 0: all that there are
     * @param keysOnly whether the values are not wanted: they do not count towards what may be answered
     * @param countOnly whether to answer how many keys there are and no entries; {@code limit} means nothing then
     */
    record Scan(Range range, boolean descending, int limit, boolean keysOnly, boolean countOnly) implements Op {
        public Scan {
            Objects.requireNonNull(range);
            if (limit < 0) {
                throw new IllegalArgumentException("a scan's limit is 0 or more, not " + limit);
            }
        }

        /** A scan that answers whole entries, or how many there are. */
        public Scan(Range range, boolean descending, int limit, boolean countOnly) {
            this(range, descending, limit, false, countOnly);
        }
    }

    /**
     * Gives a key a value. Answered with {@link OpResult.Put}.
     *
     * @param lease the lease that the key ends with; 0: none, and an earlier one lets go of it
     * @param previous whether to answer with what the key had before
     */
    record Put(Bytes key, Bytes value, long lease, boolean previous) implements Op {
        public Put {
            Objects.requireNonNull(key);
            Objects.requireNonNull(value);
        }

        /** A put that does not answer with what the key had before. */
        public Put(Bytes key, Bytes value, long lease) {
            this(key, value, lease, false);
        }
    }

    /**
     * Deletes the keys of a range. Answered with {@link OpResult.Deleted}.
     *
     * @param range the keys
     * @param previous whether to answer with what is deleted
     */
    record Delete(Range range, boolean previous) implements Op {
        public Delete {
            Objects.requireNonNull(range);
        }
    }

    /**
     * Adds to the decimal integer that a key's value is; an absent key counts as 0. Answered with
     * {@link OpResult.Incremented}. The key stays attached to its lease. Where the value is no integer from -2^63 to
     * 2^63-1, or the sum is none, the whole command is refused with {@link Result.NotAnInteger}.
     */
    record Increment(Bytes key, long by) implements Op {
        public Increment {
            Objects.requireNonNull(key);
        }
    }
}
