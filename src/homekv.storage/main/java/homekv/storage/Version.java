package homekv.storage;

/**
 * One version of one key: what a command at one revision made of it.
 *
 * <p>All but {@code older} is immutable. {@code older} only ever skips versions that nobody can read any more (S6),
 * and only the writer does that: cutting in place, so that reclaiming memory takes no memory. A reader that walks the
 * chain meanwhile sees the old link or the new one, and both lead to what it is looking for.
 */
sealed class Version {
    /** The revision of the command that wrote this. */
    final long revision;

    /** The revision that created the key; 0 in a tombstone. */
    final long createRevision;

    /** How many times the key has been written since it was created; 0 in a tombstone. */
    final long version;

    /** The value's bytes, never written to; null in a tombstone, the version that marks a deletion. */
    final byte[] value;

    /** The next older version that is still kept, or null. Its revision is smaller (S3). */
    Version older;

    private Version(long revision, long createRevision, long version, byte[] value, Version older) {
        this.revision = revision;
        this.createRevision = createRevision;
        this.version = version;
        this.value = value;
        this.older = older;
    }

    /** A version that is attached to a lease, which costs only those that are. */
    private static final class Leased extends Version {
        private final long lease;

        Leased(long revision, long createRevision, long version, byte[] value, Version older, long lease) {
            super(revision, createRevision, version, value, older);
            this.lease = lease;
        }

        @Override
        long lease() {
            return lease;
        }
    }

    /** The lease that this version is attached to; 0: none. */
    long lease() {
        return 0;
    }

    /**
     * What a put at {@code revision} makes of a key whose newest version is {@code newest} (null: none). Where that
     * has the same revision, the put takes its place: a command gives a key one version (S5, S12).
     */
    static Version put(long revision, byte[] value, long lease, Version newest) {
        boolean live = isLive(newest);
        boolean again = newest != null && newest.revision == revision;
        long createRevision = live ? newest.createRevision : revision;
        long version = live ? newest.version + (again ? 0 : 1) : 1;
        Version older = again ? newest.older : newest;
        return lease == 0
                ? new Version(revision, createRevision, version, value, older)
                : new Leased(revision, createRevision, version, value, older, lease);
    }

    /** What a deletion at {@code revision} makes of a key whose newest version is {@code newest}. */
    static Version tombstone(long revision, Version newest) {
        return new Version(revision, 0, 0, null, newest.revision == revision ? newest.older : newest);
    }

    /** A version as it was kept, in front of the next older one. */
    static Version saved(SavedVersion saved, Version older) {
        return saved.lease() == 0
                ? new Version(saved.revision(), saved.createRevision(), saved.version(), saved.value(), older)
                : new Leased(
                        saved.revision(), saved.createRevision(), saved.version(), saved.value(), older, saved.lease());
    }

    boolean isTombstone() {
        return value == null;
    }

    /** Whether a key whose newest version is {@code newest} is there at all. */
    static boolean isLive(Version newest) {
        return newest != null && !newest.isTombstone();
    }

    /** The lease of a live key whose newest version is {@code newest}; 0 where it is absent or has none. */
    static long lease(Version newest) {
        return isLive(newest) ? newest.lease() : 0;
    }
}
