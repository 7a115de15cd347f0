package homekv.rpc;

import homekv.storage.Range;
import java.util.Objects;
import java.util.OptionalLong;

/**
 * What a scan reads, and how. Immutable.
 *
 * @param range the keys
 * @param descending whether to begin with the last key
 * @param limit the most entries to read; 0: all that there are
 * @param keysOnly whether to leave the values out: entries then have empty ones
 * @param revision the revision to read; empty: the newest
 */
public record ScanOptions(Range range, boolean descending, long limit, boolean keysOnly, OptionalLong revision) {
    public ScanOptions {
        Objects.requireNonNull(range);
        Objects.requireNonNull(revision);
        if (limit < 0) {
            throw new IllegalArgumentException("a scan's limit is 0 or more, not " + limit);
        }
    }

    /** A range from its first key to its last one, whole, with values, at the newest revision. */
    public static ScanOptions of(Range range) {
        return new ScanOptions(range, false, 0, false, OptionalLong.empty());
    }

    /** The same from the last key to the first one. */
    public ScanOptions backwards() {
        return new ScanOptions(range, true, limit, keysOnly, revision);
    }

    /** The same, but no more than so many entries; 0: all that there are. */
    public ScanOptions atMost(long entries) {
        return new ScanOptions(range, descending, entries, keysOnly, revision);
    }

    /** The same without values. */
    public ScanOptions withoutValues() {
        return new ScanOptions(range, descending, limit, true, revision);
    }

    /** The same at an older revision. */
    public ScanOptions at(long older) {
        return new ScanOptions(range, descending, limit, keysOnly, OptionalLong.of(older));
    }
}
