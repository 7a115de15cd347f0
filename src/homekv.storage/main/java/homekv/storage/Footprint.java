package homekv.storage;

/**
 * What things in the store cost in bytes of heap: the account behind {@link Limits#memoryBytes()} (S7).
 *
 * <p>Sizes are those that HotSpot gives objects with compressed references, that is, in heaps below 32 GiB. Larger heaps
 * cost about a quarter more per small key, which the share that {@link Limits#forHeap} leaves to the collector has room
 * for.
 */
final class Footprint {
    private static final int REFERENCE_BYTES = 4;
    private static final int INT_BYTES = 4;
    private static final int LONG_BYTES = 8;

    /** What a version that is attached to a lease takes among the keys of the lease. */
    private static final int ATTACHED_BYTES = 64;

    /** A lease without keys: itself, its set, and its places in a hash map and a queue. */
    static final int LEASE_BYTES = 336;

    /** What a chain costs that waits to be reclaimed: an entry of a linked hash map and its share of the table. */
    static final int PENDING_BYTES = 64;

    /** A place in the hash table, for a reference and a hash, and how many are free beside it on average. */
    private static final int TABLE_BYTES = 16;

    private final int headerBytes;
    private final int arrayHeaderBytes;
    private final int regionBytes;
    private final int keyOverheadBytes;
    private final int tombstoneBytes;
    private final int putOverheadBytes;
    private final int leasedBytes;
    private final int oneChangeCommitBytes;
    private final int commitOverheadBytes;

    /** For a JVM of which {@link Limits} says what these are. */
    Footprint(boolean compactHeaders, int regionBytes) {
        this.headerBytes = compactHeaders ? 8 : 12;
        this.arrayHeaderBytes = headerBytes + 4;
        this.regionBytes = regionBytes;
        int node = object(3 * REFERENCE_BYTES);
        int index = object(3 * REFERENCE_BYTES); // There is one for every other key.
        keyOverheadBytes = object(LONG_BYTES + 3 * REFERENCE_BYTES + INT_BYTES) + node + index / 2 + TABLE_BYTES;
        tombstoneBytes = object(LONG_BYTES + 4 * REFERENCE_BYTES);
        putOverheadBytes = object(3 * LONG_BYTES + 4 * REFERENCE_BYTES);
        leasedBytes = object(4 * LONG_BYTES + 4 * REFERENCE_BYTES) - putOverheadBytes + ATTACHED_BYTES;
        // With their places in the history.
        oneChangeCommitBytes = REFERENCE_BYTES + 2 * LONG_BYTES;
        commitOverheadBytes = object(REFERENCE_BYTES) + oneChangeCommitBytes;
    }

    private int object(int fieldBytes) {
        return (int) rounded(headerBytes + fieldBytes);
    }

    /** A key that is in the map, with its chain and without its versions. */
    long keyBytes(int keyLength) {
        return keyOverheadBytes + arrayBytes(keyLength);
    }

    /** A version. The first one of a key has no object of its own. */
    long versionBytes(Version version) {
        if (version.isTombstone()) {
            return tombstoneBytes;
        }
        return version instanceof VersionChain
                ? arrayBytes(version.value.length)
                : putBytes(version.value.length, version.lease());
    }

    /** The version that a put of a value of this length makes, where it is not the first one. */
    long putBytes(int valueLength, long lease) {
        return putOverheadBytes + (lease == 0 ? 0 : leasedBytes) + arrayBytes(valueLength);
    }

    /** What is to spare for a key that has been put once, so that there is always room to put it again. */
    long spareBytes() {
        return putOverheadBytes;
    }

    /** A tombstone. */
    long tombstoneBytes() {
        return tombstoneBytes;
    }

    /** A commit in the history, without the versions in it. */
    long commitBytes(int changes) {
        return changes == 1
                ? oneChangeCommitBytes
                : commitOverheadBytes + rounded(arrayHeaderBytes + (long) changes * REFERENCE_BYTES);
    }

    private long arrayBytes(int length) {
        long bytes = arrayHeaderBytes + (long) length;
        return regionBytes > 0 && bytes > regionBytes / 2
                ? (bytes + regionBytes - 1) / regionBytes * regionBytes
                : rounded(bytes);
    }

    private static long rounded(long bytes) {
        return (bytes + 7) & ~7L;
    }
}
