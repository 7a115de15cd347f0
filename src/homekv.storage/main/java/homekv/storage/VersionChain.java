package homekv.storage;

/**
 * One key's versions, newest first, in strictly falling revisions (S3).
 *
 * <p>Any thread may read; only the writer, in its turn, changes. A chain without versions is one that an unfinished
 * command has put into the map: to a reader, an absent key.
 */
final class VersionChain {
    /** Written by the writer as it commits; versions above the published revision are not visible yet (S2). */
    volatile Version newest;

    /** The newest version at or below {@code revision}, a tombstone perhaps, or null. Costs a step per newer version. */
    Version at(long revision) {
        Version candidate = newest;
        while (candidate != null && candidate.revision > revision) {
            candidate = candidate.older;
        }
        return candidate;
    }
}
