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

    /** A Bytes (16), a VersionChain (16), a skip list node (24) and its share of index nodes (half of 24). */
    private static final int KEY_OVERHEAD_BYTES = 68;

    /** A Version. */
    static final int VERSION_OVERHEAD_BYTES = 48;

    /** What a chain costs that waits to be reclaimed: an entry of a linked hash map and its share of the table. */
    static final int PENDING_BYTES = 64;

    private final int regionBytes;

    /** For a collector that rounds arrays above half of {@code regionBytes} up to multiples of it; 0: none. */
    Footprint(int regionBytes) {
        this.regionBytes = regionBytes;
    }

    /** A key that is in the map, without its versions. */
    long keyBytes(int keyLength) {
        return KEY_OVERHEAD_BYTES + arrayBytes(keyLength);
    }

    /** A version with this value; null for a tombstone. */
    long versionBytes(byte[] value) {
        return VERSION_OVERHEAD_BYTES + (value == null ? 0 : arrayBytes(value.length));
    }

    private long arrayBytes(int length) {
        long bytes = ARRAY_HEADER_BYTES + (long) length;
        return regionBytes > 0 && bytes > regionBytes / 2
                ? (bytes + regionBytes - 1) / regionBytes * regionBytes
                : (bytes + 7) & ~7L;
    }
}
