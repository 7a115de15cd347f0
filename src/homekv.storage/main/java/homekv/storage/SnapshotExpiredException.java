package homekv.storage;

/**
 * A {@link Snapshot} was read after it had expired: it had been open for longer than {@link Limits#snapshotMillis()},
 * or what it alone kept had grown over {@link Limits#snapshotBytes()}, or its memory was needed for new writes.
 *
 * <p>Nothing that it answered before was wrong. The caller may open a new snapshot and start again.
 */
public final class SnapshotExpiredException extends RuntimeException {
    private static final long serialVersionUID = 1;

    SnapshotExpiredException(long revision) {
        super("the snapshot at revision " + revision
                + " has expired, because it kept too many old versions for too long; open a new one");
    }
}
