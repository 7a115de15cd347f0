package homekv.storage;

/**
 * What things in the store cost in bytes of heap: the account behind {@link Limits#memoryBytes()} (S7).
 *
 * <p>The constants are HotSpot's object sizes with compressed references and ordinary headers, that is, heaps below
 * 32 GiB. Larger heaps cost about a quarter more per small key, which the share that {@link Limits#forHeap} leaves to
 * the collector has room for; compact object headers cost less.
 */
final class Footprint {
    private static final int ARRAY_HEADER_BYTES = 16;

    /** A Bytes (16), a VersionChain (24), a skip list node (24) and its share of index nodes (half of 24). */
    private static final int KEY_OVERHEAD_BYTES = 76;

    /** A Version. */
    static final int VERSION_OVERHEAD_BYTES = 48;

    /** What a version that is attached to a lease costs more, and its place among the keys of the lease. */
    private static final int LEASED_BYTES = 72;

    /** A lease without keys: itself, its set, and its places in a hash map and a queue. */
    static final int LEASE_BYTES = 336;

    /** What a chain costs that waits to be reclaimed: an entry of a linked hash map and its share of the table. */
    static final int PENDING_BYTES = 64;

    /** A Commit (56), its two arrays (16 each) and its place in the history. */
    private static final int COMMIT_OVERHEAD_BYTES = 92;

    /** A change in a commit: its places in both arrays. */
    private static final int CHANGE_BYTES = 8;

    private final int regionBytes;

    /** For a collector that rounds arrays above half of {@code regionBytes} up to multiples of it; 0: none. */
    Footprint(int regionBytes) {
        this.regionBytes = regionBytes;
    }

    /** A key that is in the map, without its versions. */
    long keyBytes(int keyLength) {
        return KEY_OVERHEAD_BYTES + arrayBytes(keyLength);
    }

    /** A version. */
    long versionBytes(Version version) {
        return version.isTombstone() ? VERSION_OVERHEAD_BYTES : putBytes(version.value.length, version.lease());
    }

    /** The version that a put of a value of this length makes. */
    long putBytes(int valueLength, long lease) {
        return VERSION_OVERHEAD_BYTES + (lease == 0 ? 0 : LEASED_BYTES) + arrayBytes(valueLength);
    }

    /** A commit in the history, without the versions in it. */
    static long commitBytes(int changes) {
        return COMMIT_OVERHEAD_BYTES + (((long) changes * CHANGE_BYTES + 7) & ~7L);
    }

    private long arrayBytes(int length) {
        long bytes = ARRAY_HEADER_BYTES + (long) length;
        return regionBytes > 0 && bytes > regionBytes / 2
                ? (bytes + regionBytes - 1) / regionBytes * regionBytes
                : (bytes + 7) & ~7L;
    }
}
