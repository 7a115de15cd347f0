package homekv.storage;

import java.util.Objects;

/**
 * A live key as one revision of the store has it. Immutable.
 *
 * @param key 1 byte to {@link Limits#keyBytes()}
 * @param value 0 bytes to {@link Limits#valueBytes()}
 * @param createRevision the revision that created the key: the first put, or the first put after its last deletion
 * @param modificationRevision the revision that wrote this value
 * @param version how many times the key has been written since it was created; 1 for the first
 * @param lease the lease that the key is attached to, which ends with it; 0: none
 */
public record Entry(Bytes key, Bytes value, long createRevision, long modificationRevision, long version, long lease) {
    public Entry {
        Objects.requireNonNull(key);
        Objects.requireNonNull(value);
    }
}
