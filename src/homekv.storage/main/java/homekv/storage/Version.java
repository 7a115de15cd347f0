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
abstract sealed class Version extends Commit permits VersionChain, Version.Later {
    /** In place of the value of a first version that nobody can read any more. Told by its identity. */
    static final byte[] DROPPED = {};

    /** The bytes of the key that it is a version of, never written to: the same array as the map's. */
    final byte[] key;

    /** The revision of the command that wrote this. */
    final long revision;

    /** The value's bytes, never written to; null in a tombstone, the version that marks a deletion. */
    byte[] value;

    Version(byte[] key, long revision, byte[] value) {
        this.key = key;
        this.revision = revision;
        this.value = value;
    }

    /** A version that may have older ones behind it. */
    abstract static sealed class Later extends Version {
        /** Of the key that it is a version of. */
        final VersionChain chain;

        /** The next older version that is still kept, or null. Its revision is smaller (S3). */
        Version older;

        /** {@code of}: another version of the same key, or its chain. */
        private Later(Version of, long revision, byte[] value, Version older) {
            super(of.key, revision, value);
            this.chain = of.chain();
            this.older = older;
        }
    }

    /** A deletion. */
    static final class Tombstone extends Later {
        private Tombstone(Version of, long revision, Version older) {
            super(of, revision, null, older);
        }
    }

    /** A value that is not the first of its key, or is attached to a lease. */
    static sealed class Put extends Later {
        private final long createRevision;
        private final long version;

        private Put(Version of, long revision, long createRevision, long version, byte[] value, Version older) {
            super(of, revision, value, older);
            this.createRevision = createRevision;
            this.version = version;
        }
    }

    /** A value that is attached to a lease. */
    static final class Leased extends Put {
        private final long lease;

        private Leased(
                Version of, long revision, long createRevision, long version, byte[] value, Version older, long lease) {
            super(of, revision, createRevision, version, value, older);
            this.lease = lease;
        }
    }

    /**
     * What a put at {@code revision} makes of a key whose newest version is {@code newest} (its chain: perhaps none).
     * Where that has the same revision, the put takes its place: a command gives a key one version (S5, S12).
     */
    static Version put(long revision, byte[] value, long lease, Version newest) {
        boolean live = isLive(newest);
        boolean again = newest.revision == revision;
        long createRevision = live ? newest.createRevision() : revision;
        long version = live ? newest.version() + (again ? 0 : 1) : 1;
        Version older = again || newest.value == DROPPED ? newest.older() : newest;
        return put(newest, revision, createRevision, version, value, older, lease);
    }

    private static Version put(
            Version of, long revision, long createRevision, long version, byte[] value, Version older, long lease) {
        return lease == 0
                ? new Put(of, revision, createRevision, version, value, older)
                : new Leased(of, revision, createRevision, version, value, older, lease);
    }

    /** What a deletion at {@code revision} makes of a key whose newest version is {@code newest}. */
    static Version tombstone(long revision, Version newest) {
        return new Tombstone(newest, revision, newest.revision == revision ? newest.older() : newest);
    }

    /** A version as it was kept, in front of the next older one. */
    static Version saved(VersionChain chain, SavedVersion saved, Version older) {
        return saved.value() == null
                ? new Tombstone(chain, saved.revision(), older)
                : put(
                        chain,
                        saved.revision(),
                        saved.createRevision(),
                        saved.version(),
                        saved.value(),
                        older,
                        saved.lease());
    }

    // Neither of these is overridden: where many classes do that, each call is one through a table.

    /** The key, in an object that does not keep this one. */
    final Bytes key() {
        return Bytes.unsafeWrap(key);
    }

    /** The chain of the key that this is a version of. */
    final VersionChain chain() {
        return this instanceof Later later ? later.chain : (VersionChain) this;
    }

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
        return newest != null && !newest.isTombstone() && newest.value != DROPPED;
    }

    /** The lease of a live key whose newest version is {@code newest}; 0 where it is absent or has none. */
    static long lease(Version newest) {
        return isLive(newest) ? newest.lease() : 0;
    }

    /**
     * Of the newest version of a key and those behind it, the newest at or below {@code revision}, a tombstone perhaps, or
     * null: a chain without versions has none. Costs a step for every version that is newer.
     */
    static Version at(Version newest, long revision) {
        Version candidate = newest;
        while (candidate != null && candidate.revision > revision) {
            candidate = candidate.older();
        }
        return candidate == null || candidate.value == DROPPED ? null : candidate;
    }

    /** The entry that a version is, or null for a tombstone or none. */
    static Entry entry(Version version) {
        return version == null ? null : version.entry(version.key());
    }

    /** The same, where the key is at hand in an object that is the reader's. */
    final Entry entry(Bytes ownKey) {
        byte[] taken = value; // Once: it may be dropped meanwhile.
        return taken == null
                ? null
                : new Entry(ownKey, Bytes.unsafeWrap(taken), createRevision(), revision, version(), lease());
    }

    /** The event that made this version. */
    final Event event(Entry previous) {
        return isTombstone() ? new Event.Delete(key(), revision, previous) : new Event.Put(entry(key()), previous);
    }
}
