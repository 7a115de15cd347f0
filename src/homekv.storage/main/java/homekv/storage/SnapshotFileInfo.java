package homekv.storage;

/**
 * A snapshot file that has been written whole.
 *
 * @param name its name in the data directory; empty where it was written to a stream
 * @param revision the revision that it ends with
 * @param keys live keys at that revision
 * @param bytes its length
 */
public record SnapshotFileInfo(String name, long revision, long keys, long bytes) {}
