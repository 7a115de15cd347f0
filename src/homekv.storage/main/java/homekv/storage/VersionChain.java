package homekv.storage;

/**
 * One key, its first version, and the way to all its versions, newest first, in strictly falling revisions (S3).
 *
 * <p>As a version, this is the put that brought the key into the map, if that named no lease: most keys are never written
 * again, and cost no other object. It is the last of the chain as long as it is kept, and its value is dropped when it is
 * no more; or it was never a part of it.
 *
 * <p>Any thread may read; only the writer, in its turn, changes. A chain without versions is one that an unfinished
 * command has put into the map: to a reader, an absent key. Nobody outside of the store gets hold of a chain, or one key
 * that is kept somewhere would keep versions.
 */
final class VersionChain extends Version {
    /** The key's bytes, the same array as the map's, never written to. */
    final byte[] key;

    /**
     * The newest version, this itself perhaps, or null. Written by the writer as it stages; versions above the published
     * revision are not visible yet (S2).
     */
    volatile Version newest;

    /**
     * The chain of the next lower key in the map, or null. A reader may see an old link, to a chain that has left the
     * map or past one that has just joined it: from both it goes on to every chain that its snapshot can see.
     */
    VersionChain before;

    /** Without versions; {@code firstRevision} is that of its first version, if this comes to be it. */
    VersionChain(byte[] key, long firstRevision) {
        super(firstRevision, DROPPED);
        this.key = key;
    }

    /** The key, in an object that does not keep this one. */
    Bytes key() {
        return Bytes.unsafeWrap(key);
    }

    /** The oldest of the versions that were kept of this key: this itself where it is such a version. */
    Version saved(SavedVersion oldest) {
        if (oldest.value() == null
                || oldest.lease() != 0
                || oldest.version() != 1
                || oldest.createRevision() != revision) {
            return Version.saved(oldest, null);
        }
        value = oldest.value();
        return this;
    }

    /** Lets go of the first version's value: it is not, or no longer, one of the key's versions. */
    void dropFirst() {
        value = DROPPED;
    }

    /** The newest version at or below {@code revision}, a tombstone perhaps, or null. Costs a step per newer version. */
    Version at(long revision) {
        Version candidate = newest;
        while (candidate != null && candidate.revision > revision) {
            candidate = candidate.older();
        }
        return candidate;
    }

    /** The key's entry at {@code revision}, or null where it is absent. */
    Entry entryAt(long revision) {
        return entry(at(revision));
    }

    /** The entry that one of the versions is, or null for a tombstone or none. */
    Entry entry(Version version) {
        return entry(key(), version);
    }

    /** The same, where the key is at hand in an object that is the reader's. */
    Entry entry(Bytes ownKey, Version version) {
        byte[] value = version == null ? null : version.value; // Once: it may be dropped meanwhile.
        return value == null
                ? null
                : new Entry(
                        ownKey,
                        Bytes.unsafeWrap(value),
                        version.createRevision(),
                        version.revision,
                        version.version(),
                        version.lease());
    }

    /** The event that made one of the versions. */
    Event event(Version version, Entry previous) {
        return version.isTombstone()
                ? new Event.Delete(key(), version.revision, previous)
                : new Event.Put(entry(version), previous);
    }
}
