package homekv.storage;

/** The types of what a block of a snapshot file holds, and the length of a block's header. */
final class SnapshotItem {
    static final byte LEASE = 1;
    static final byte KEY = 2;
    static final byte VERSION = 3;
    static final byte VERSION_WITH_LEASE = 4;
    static final byte TOMBSTONE = 5;
    static final byte END = 6;

    static final int BLOCK_HEADER_BYTES = 12;
    static final int PAYLOAD_LENGTH_AT = 4;
    static final int PAYLOAD_CRC_AT = 8;

    private SnapshotItem() {}
}
