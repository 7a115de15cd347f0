package homekv.storage;

import java.util.List;
import java.util.Objects;

/**
 * A change of the store that happens whole or not at all, given to {@link CommandLog#submit}.
 *
 * <p>Immutable as long as its list is; whoever builds one does not change the list afterwards. It is not copied,
 * since a command may carry a hundred thousand keys. Its size is bounded by {@link Limits}.
 */
public sealed interface Command {
    /**
     * Applies puts and deletions, mixed, in one revision.
     *
     * @param writes in any order; where a key stands more than once, its last write wins
     */
    record Set(List<Write> writes) implements Command {
        public Set {
            Objects.requireNonNull(writes);
        }
    }

    /**
     * Deletes keys in one revision and counts those that were there.
     *
     * @param keys in any order; a key that stands more than once counts once
     */
    record Del(List<Bytes> keys) implements Command {
        public Del {
            Objects.requireNonNull(keys);
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
