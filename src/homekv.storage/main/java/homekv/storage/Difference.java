package homekv.storage;

/**
 * A key that two snapshots see differently. Immutable.
 *
 * @param before its entry in the earlier one, or null where it is absent there
 * @param after its entry in the later one, or null where it is absent there; never both are null
 */
public record Difference(Entry before, Entry after) {
    /** The key. */
    public Bytes key() {
        return (after == null ? before : after).key();
    }
}
