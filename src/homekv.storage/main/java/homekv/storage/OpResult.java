package homekv.storage;

import java.util.List;

/** What a step of a {@link Txn} answers. Immutable. */
public sealed interface OpResult {
    /** What {@link Op.Get} found, or null where the key is absent. */
    record Got(Entry entry) implements OpResult {}

    /**
     * What {@link Op.Scan} found.
     *
     * @param entries in the order asked for
     * @param count how many live keys the range has, for a scan that only counts; else how many entries there are
     * @param more whether the limit left keys out
     */
    record Scanned(List<Entry> entries, long count, boolean more) implements OpResult {}

    /**
     * {@link Op.Put} was done.
     *
     * @param previous what the key had before it in the transaction, or null where it was absent or that was not asked
     */
    record Put(Entry previous) implements OpResult {}

    /** How many keys {@link Op.Delete} deleted, and which entries where that was asked. */
    record Deleted(long deleted, List<Entry> previous) implements OpResult {}

    /** What {@link Op.Increment} made of the value. */
    record Incremented(long value) implements OpResult {}

    /**
     * What a {@link Txn} within a transaction came to.
     *
     * @param succeeded whether its comparisons held
     * @param results one for each step that was carried out
     */
    record Transacted(boolean succeeded, List<OpResult> results) implements OpResult {}
}
