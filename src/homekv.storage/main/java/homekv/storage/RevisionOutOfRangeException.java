package homekv.storage;

/**
 * A revision was to be read or watched that is older than the history window, or newer than the store.
 *
 * <p>The caller may ask again for a revision from {@link #first} to {@link #last}.
 */
public final class RevisionOutOfRangeException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final long first;
    private final long last;

    /** That {@code revision} is not one from {@code first} to {@code last}. */
    public RevisionOutOfRangeException(long revision, long first, long last) {
        super("revision " + revision + " is out of range; from " + first + " to " + last + " would do");
        this.first = first;
        this.last = last;
    }

    /** The first revision that would have done. */
    public long first() {
        return first;
    }

    /** The last revision that would have done. */
    public long last() {
        return last;
    }
}
