package homekv.storage;

import java.util.List;
import java.util.Objects;

/**
 * A change of the store that happens whole or not at all, given to {@link CommandLog#submit}.
 *
 * <p>Immutable as long as its lists are; whoever builds one does not change a list afterwards. They are not copied,
 * since a command may carry a hundred thousand keys. Its size is bounded by {@link Limits}.
 */
public sealed interface Command permits Command.Set, Command.Del, Txn, Command.Compact, Command.Grant, Command.Revoke {
    /**
     * Applies puts and deletions, mixed, in one revision. Answered with {@link Result.Applied}.
     *
     * @param writes in any order; where a key stands more than once, its last write wins
     */
    record Set(List<Write> writes) implements Command {
        public Set {
            Objects.requireNonNull(writes);
        }
    }

    /**
     * Deletes keys in one revision and counts those that were there. Answered with {@link Result.Applied}.
     *
     * @param keys in any order; a key that stands more than once counts once
     */
    record Del(List<Bytes> keys) implements Command {
        public Del {
            Objects.requireNonNull(keys);
        }
    }

    /**
     * Gives up everything that only revisions below this one need; from then on it is the first that can be read.
     * Takes no revision. Answered with {@link Result.Applied}, or with {@link Result.OutOfRange} for a revision below
     * the first that can be read or above the newest. What is given up is dropped in the background.
     */
    record Compact(long revision) implements Command {}

    /**
     * Begins a lease. Takes no revision. Answered with {@link Result.Applied}, or with {@link Result.LeaseExists}.
     *
     * @param lease its number, more than 0; a random one, since those of servers that are gone may be remembered
     * @param ttlMillis its time to live: it ends when it has not been kept alive for this long, or later
     */
    record Grant(long lease, long ttlMillis) implements Command {
        public Grant {
            if (lease <= 0) {
                throw new IllegalArgumentException("a lease has a number above 0, not " + lease);
            }
        }
    }

    /**
     * Ends a lease and deletes the lowest {@code maxKeys} of the keys attached to it, in one revision. Answered with
     * {@link Result.Applied}, or with {@link Result.NoLease}. The lease takes no more keys; as long as some of its own
     * are left, it can be revoked again, and has to be: {@link MvccStore#revoke} does all of it.
     *
     * @param lease its number
     * @param maxKeys how many keys are deleted at the most
     * @param grant which of the store's grants, counted from 1, the lease has to come from; 0: any
     */
    record Revoke(long lease, int maxKeys, long grant) implements Command {
        /** Whichever lease has this number. */
        public Revoke(long lease, int maxKeys) {
            this(lease, maxKeys, 0);
        }

        public Revoke {
            if (maxKeys < 1) {
                throw new IllegalArgumentException("at least one key is deleted at a time, not " + maxKeys);
            }
        }
    }

    /** The command that puts one pair. */
    static Command put(Bytes key, Bytes value) {
        return new Set(List.of(new Write.Put(key, value)));
    }

    /** The command that deletes one key. */
    static Command delete(Bytes key) {
        return new Del(List.of(key));
    }
}
