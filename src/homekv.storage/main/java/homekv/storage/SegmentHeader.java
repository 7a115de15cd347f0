package homekv.storage;

import java.util.Objects;

/**
 * What a segment of the log begins with.
 *
 * @param storeIdentity the store that the segment belongs to
 * @param historyId the history that its records are part of, see {@link MvccStore#id}
 * @param number its own number; the next segment has the next one
 * @param firstSequence the sequence number of its first record
 * @param salt a random number, which every record's checksum includes
 * @param durability what was promised for all of its records
 */
record SegmentHeader(
        long storeIdentity, long historyId, long number, long firstSequence, long salt, Durability durability) {
    static final int BYTES = 64;

    private static final long MAGIC = 0x486f6d654b56776cL; // HomeKVwl

    SegmentHeader {
        Objects.requireNonNull(durability);
    }

    byte[] encode() {
        byte[] header = new byte[BYTES];
        Format.putLong(header, 0, MAGIC);
        Format.putInt(header, 8, Format.VERSION);
        header[12] = switch (durability) {
            case MEMORY -> throw new IllegalArgumentException("a segment promises more than memory does");
            case WRITTEN -> 1;
            case INTERVAL -> 2;
            case FORCED -> 3;
        };
        Format.putLong(header, 16, storeIdentity);
        Format.putLong(header, 24, historyId);
        Format.putLong(header, 32, number);
        Format.putLong(header, 40, firstSequence);
        Format.putLong(header, 48, salt);
        return Format.seal(header);
    }

    /** The header in an array of its length, of which so many bytes were there to be read. */
    static SegmentHeader decode(byte[] header, int bytes, String path) throws DataDirectoryException {
        Format.requireHeader(header, bytes, MAGIC, path);
        Durability durability = switch (header[12]) {
            case 1 -> Durability.WRITTEN;
            case 2 -> Durability.INTERVAL;
            case 3 -> Durability.FORCED;
            default -> throw DataDirectoryException.damaged(path, 12, "there is no durability " + header[12]);
        };
        long firstSequence = Format.getLong(header, 40);
        if (firstSequence < 1) {
            throw DataDirectoryException.damaged(path, 40, "records are numbered from 1, not from " + firstSequence);
        }
        return new SegmentHeader(
                Format.getLong(header, 16),
                Format.getLong(header, 24),
                Format.getLong(header, 32),
                firstSequence,
                Format.getLong(header, 48),
                durability);
    }
}
