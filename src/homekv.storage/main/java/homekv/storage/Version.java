package homekv.storage;

/**
 * One version of one key: what a command at one revision made of it.
 *
 * <p>All but {@code older} is immutable. {@code older} only ever skips versions that no open snapshot can read (S6),
 * and only the writer does that: cutting in place, so that reclaiming memory takes no memory. A reader that walks the
 * chain meanwhile sees the old link or the new one, and both lead to what it is looking for.
 */
final class Version {
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

    Version(long revision, long createRevision, long version, byte[] value, Version older) {
        this.revision = revision;
        this.createRevision = createRevision;
        this.version = version;
        this.value = value;
        this.older = older;
    }

    /** What a put at {@code revision} makes of a key whose newest version is {@code newest} (null: none). */
    static Version put(long revision, byte[] value, Version newest) {
        return isLive(newest)
                ? new Version(revision, newest.createRevision, newest.version + 1, value, newest)
                : new Version(revision, revision, 1, value, newest);
    }

    /** What a deletion at {@code revision} makes of a key whose newest version is {@code newest}. */
    static Version tombstone(long revision, Version newest) {
        return new Version(revision, 0, 0, null, newest);
    }

    boolean isTombstone() {
        return value == null;
    }

    /** Whether a key whose newest version is {@code newest} is there at all. */
    static boolean isLive(Version newest) {
        return newest != null && !newest.isTombstone();
    }
}
