package homekv.storage;

import java.util.List;

/**
 * What is told what a snapshot file holds: all leases, then all keys, then the end. Called by the one thread that reads.
 * An IllegalArgumentException of one line says that what it was told does not fit, and is damage of the file.
 */
interface SnapshotVisitor {
    void lease(LeaseLeft lease);

    /**
     * The next key, in the order of the keys.
     *
     * @param newestFirst its versions, at least one, in strictly falling revisions; the list is the visitor's to keep
     */
    void key(Bytes key, List<SavedVersion> newestFirst);

    /**
     * The whole file has been read and is sound.
     *
     * @param revision the newest revision that the file holds
     * @param compactRevision the first revision that can be read
     * @param grants how many leases have been granted
     */
    void finish(long revision, long compactRevision, long grants);
}
