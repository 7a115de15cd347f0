package homekv.rpc;

import homekv.storage.Range;
import java.util.Objects;
import java.util.OptionalLong;

/**
 * What a watch reports. Immutable.
 *
 * @param range the keys
 * @param fromRevision the first revision whose changes are reported, 1 or more; empty: what is changed from now on
 * @param puts whether puts are reported
 * @param deletes whether deletions are reported
 * @param previous whether each change comes with what the key had before
 */
public record WatchOptions(Range range, OptionalLong fromRevision, boolean puts, boolean deletes, boolean previous) {
    public WatchOptions {
        Objects.requireNonNull(range);
        if (fromRevision.isPresent() && fromRevision.getAsLong() < 1) {
            throw new IllegalArgumentException("the first change has revision 1, not " + fromRevision.getAsLong());
        }
    }

    /** Every change of a range from now on, without what was there before. */
    public static WatchOptions of(Range range) {
        return new WatchOptions(range, OptionalLong.empty(), true, true, false);
    }

    /** The same from a revision on, its own changes included. */
    public WatchOptions from(long revision) {
        return new WatchOptions(range, OptionalLong.of(revision), puts, deletes, previous);
    }

    /** The same without deletions. */
    public WatchOptions withoutDeletes() {
        return new WatchOptions(range, fromRevision, puts, false, previous);
    }

    /** The same without puts. */
    public WatchOptions withoutPuts() {
        return new WatchOptions(range, fromRevision, false, deletes, previous);
    }

    /** The same with what each key had before. */
    public WatchOptions withPrevious() {
        return new WatchOptions(range, fromRevision, puts, deletes, true);
    }
}
