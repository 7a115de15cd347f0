package homekv.storage;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.zip.CRC32C;

/** What all files of a data directory have in common; FORMAT.md is the whole of it. */
final class Format {
    /** Raised whenever a file can hold what an older HomeKV would not understand. */
    static final int VERSION = 1;

    /** The longest body of a record and the longest payload of a block: what an array can have, with room for others. */
    static final int MAX_BODY_BYTES = Integer.MAX_VALUE - (16 << 20);

    /** A buffer that has come to be larger than this is given back once it is empty. */
    static final int KEPT_BUFFER_BYTES = 8 << 20;

    private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.BIG_ENDIAN);
    private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

    private Format() {}

    static int getInt(byte[] bytes, int offset) {
        return (int) INT.get(bytes, offset);
    }

    static long getLong(byte[] bytes, int offset) {
        return (long) LONG.get(bytes, offset);
    }

    /** The offset after what was put. */
    static int putInt(byte[] bytes, int offset, int value) {
        INT.set(bytes, offset, value);
        return offset + Integer.BYTES;
    }

    /** The offset after what was put. */
    static int putLong(byte[] bytes, int offset, long value) {
        LONG.set(bytes, offset, value);
        return offset + Long.BYTES;
    }

    /** The offset after what was put. */
    static int putBytes(byte[] bytes, int offset, byte[] value) {
        System.arraycopy(value, 0, bytes, offset, value.length);
        return offset + value.length;
    }

    static int crc(byte[] bytes, int offset, int length) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, offset, length);
        return (int) crc.getValue();
    }

    /**
     * The checksum of a header that begins with it: of the rest of the header, the file's salt and the place in the file,
     * so that the same bytes are worth nothing in another file or at another place.
     */
    static int placedCrc(byte[] bytes, int headerOffset, int headerBytes, byte[] saltAndPlace) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, headerOffset + Integer.BYTES, headerBytes - Integer.BYTES);
        crc.update(saltAndPlace, 0, 2 * Long.BYTES);
        return (int) crc.getValue();
    }

    /** Fills in the checksum that a file's header ends with. */
    static byte[] seal(byte[] header) {
        int checked = header.length - Integer.BYTES;
        putInt(header, checked, crc(header, 0, checked));
        return header;
    }

    /**
     * Checks magic number, checksum and version of a file's header.
     *
     * @param header as long as the header has to be
     * @param bytes how many bytes of it there are
     * @throws DataDirectoryException if anything is not as it has to be
     */
    static void requireHeader(byte[] header, int bytes, long magic, String path) throws DataDirectoryException {
        if (bytes < header.length) {
            throw DataDirectoryException.damaged(
                    path, bytes, "the file ends within its header of " + header.length + " bytes");
        }
        if (getLong(header, 0) != magic) {
            throw DataDirectoryException.damaged(path, 0, "the file does not begin as a file of this name does");
        }
        int version = getInt(header, Long.BYTES);
        int checked = header.length - Integer.BYTES;
        if (getInt(header, checked) != crc(header, 0, checked)) {
            throw DataDirectoryException.damaged(
                    path,
                    0,
                    "the header's checksum does not match"
                            + (version == VERSION ? "" : ", and it names format version " + version));
        }
        if (version != VERSION) {
            throw new DataDirectoryException(
                    path + " has format version " + version + ", and this HomeKV reads version " + VERSION
                            + "; open it with a HomeKV that writes version " + version);
        }
    }
}
