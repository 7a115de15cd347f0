package homekv.storage;

/**
 * One version of one key: what a command at one revision made of it.
 *
 * <p>A key that is written once has one, which is its {@link VersionChain} itself: all that it needs is a revision and a
 * value. What other versions need besides, they have in classes of their own.
 *
 * <p>All of it is immutable but {@link Later#older}, which only ever skips versions that nobody can read any more (S6),
 * and the value of a key's first version, which is {@link #DROPPED} in place, since its memory is the chain's. Only the
 * writer does either: in place, so that reclaiming memory takes no memory. A reader that walks the chain meanwhile sees
 * the old link or the new one, and both lead to what it is looking for. A reader that nothing is pinned for, or nothing
 * any more, may find a value dropped: it takes the value first, and then looks whether what it has read counts (S4, S13).
 */
abstract sealed class Version permits VersionChain, Version.Later {
    /** In place of the value of a first version that nobody can read any more. Told by its identity. */
    static final byte[] DROPPED = {};

    /** The revision of the command that wrote this. */
    final long revision;

    /** The value's bytes, never written to; null in a tombstone, the version that marks a deletion. */
    byte[] value;

    Version(long revision, byte[] value) {
        this.revision = revision;
        this.value = value;
    }

    /** A version that may have older ones behind it. */
    abstract static sealed class Later extends Version {
        /** The next older version that is still kept, or null. Its revision is smaller (S3). */
        Version older;

        private Later(long revision, byte[] value, Version older) {
            super(revision, value);
            this.older = older;
        }
    }

    /** A deletion. */
    static final class Tombstone extends Later {
        private Tombstone(long revision, Version older) {
            super(revision, null, older);
        }
    }

    /** A value that is not the first of its key, or is attached to a lease. */
    static sealed class Put extends Later {
        private final long createRevision;
        private final long version;

        private Put(long revision, long createRevision, long version, byte[] value, Version older) {
            super(revision, value, older);
            this.createRevision = createRevision;
            this.version = version;
        }
    }

    /** A value that is attached to a lease. */
    static final class Leased extends Put {
        private final long lease;

        private Leased(long revision, long createRevision, long version, byte[] value, Version older, long lease) {
            super(revision, createRevision, version, value, older);
            this.lease = lease;
        }
    }

    /**
     * What a put at {@code revision} makes of a key whose newest version is {@code newest} (null: none). Where that
     * has the same revision, the put takes its place: a command gives a key one version (S5, S12).
     */
    static Version put(long revision, byte[] value, long lease, Version newest) {
        boolean live = isLive(newest);
        boolean again = newest != null && newest.revision == revision;
        long createRevision = live ? newest.createRevision() : revision;
        long version = live ? newest.version() + (again ? 0 : 1) : 1;
        return put(revision, createRevision, version, value, again ? newest.older() : newest, lease);
    }

    private static Version put(
            long revision, long createRevision, long version, byte[] value, Version older, long lease) {
        return lease == 0
                ? new Put(revision, createRevision, version, value, older)
                : new Leased(revision, createRevision, version, value, older, lease);
    }

    /** What a deletion at {@code revision} makes of a key whose newest version is {@code newest}. */
    static Version tombstone(long revision, Version newest) {
        return new Tombstone(revision, newest.revision == revision ? newest.older() : newest);
    }

    /** A version as it was kept, in front of the next older one. */
    static Version saved(SavedVersion saved, Version older) {
        return saved.value() == null
                ? new Tombstone(saved.revision(), older)
                : put(saved.revision(), saved.createRevision(), saved.version(), saved.value(), older, saved.lease());
    }

    // Neither of these is overridden: where many classes do that, each call is one through a table.

    /** The next older version that is still kept, or null. Its revision is smaller (S3). */
    final Version older() {
        return this instanceof Later later ? later.older : null;
    }

    /** The revision that created the key; 0 in a tombstone. */
    final long createRevision() {
        return this instanceof Put put ? put.createRevision : isTombstone() ? 0 : revision;
    }

    /** How many times the key has been written since it was created; 0 in a tombstone. */
    final long version() {
        return this instanceof Put put ? put.version : isTombstone() ? 0 : 1;
    }

    /** The lease that this version is attached to; 0: none. */
    final long lease() {
        return this instanceof Leased leased ? leased.lease : 0;
    }

    final boolean isTombstone() {
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
