package homekv.storage;

/**
 * One key's versions, newest first, in strictly falling revisions (S3).
 *
 * <p>Any thread may read; only the writer, in its turn, changes. A chain without versions is one that an unfinished
 * command has put into the map: to a reader, an absent key.
 */
final class VersionChain {
    /** The key, the same object as the map's. */
    final Bytes key;

    /** Written by the writer as it stages; versions above the published revision are not visible yet (S2). */
    volatile Version newest;

    /**
     * The chain of the next lower key in the map, or null. A reader may see an old link, to a chain that has left the
     * map or past one that has just joined it: from both it goes on to every chain that its snapshot can see.
     */
    VersionChain before;

    VersionChain(Bytes key, VersionChain before) {
        this.key = key;
        this.before = before;
    }

    /** The newest version at or below {@code revision}, a tombstone perhaps, or null. Costs a step per newer version. */
    Version at(long revision) {
        Version candidate = newest;
        while (candidate != null && candidate.revision > revision) {
            candidate = candidate.older;
        }
        return candidate;
    }

    /** The key's entry at {@code revision}, or null where it is absent. */
    Entry entryAt(long revision) {
        return entry(at(revision));
    }

    /** The entry that one of the versions is, or null for a tombstone or none. */
    Entry entry(Version version) {
        return Version.isLive(version)
                ? new Entry(
                        key,
                        Bytes.unsafeWrap(version.value),
                        version.createRevision,
                        version.revision,
                        version.version,
                        version.lease())
                : null;
    }

    /** The event that made one of the versions. */
    Event event(Version version, Entry previous) {
        return version.isTombstone()
                ? new Event.Delete(key, version.revision, previous)
                : new Event.Put(entry(version), previous);
    }
}
