package homekv.storage;

/**
 * Reads fields one after the other out of a part of an array whose checksum was right. What does not make sense all the
 * same is an IllegalArgumentException of one line. Never allocates more than there are bytes to read.
 */
final class FieldReader {
    private final byte[] bytes;
    private final int end;
    private int offset;

    FieldReader(byte[] bytes, int offset, int length) {
        this.bytes = bytes;
        this.offset = offset;
        this.end = offset + length;
    }

    int remaining() {
        return end - offset;
    }

    private int take(int length) {
        if (length < 0 || length > end - offset) {
            throw new IllegalArgumentException(
                    "a field of " + Integer.toUnsignedLong(length) + " bytes where " + (end - offset) + " are left");
        }
        int taken = offset;
        offset += length;
        return taken;
    }

    byte readByte() {
        return bytes[take(1)];
    }

    boolean readFlag() {
        byte flag = readByte();
        if (flag != 0 && flag != 1) {
            throw new IllegalArgumentException("a flag that is " + flag);
        }
        return flag == 1;
    }

    int readInt() {
        return Format.getInt(bytes, take(Integer.BYTES));
    }

    long readLong() {
        return Format.getLong(bytes, take(Long.BYTES));
    }

    /** A number that is at least {@code min}. */
    long readLong(long min) {
        long number = readLong();
        if (number < min) {
            throw new IllegalArgumentException("a number that is " + number + " and at least " + min + " elsewhere");
        }
        return number;
    }

    /** How many of something follow, of which each takes at least so many bytes. */
    int readCount(int minBytes) {
        int count = readInt();
        if (count < 0 || count > remaining() / minBytes) {
            throw new IllegalArgumentException(
                    "a count of " + Integer.toUnsignedLong(count) + " where " + remaining() + " bytes are left");
        }
        return count;
    }

    byte[] readBytes(int length) {
        int from = take(length);
        byte[] read = new byte[length];
        System.arraycopy(bytes, from, read, 0, length);
        return read;
    }

    /** A key, which is never empty. */
    Bytes readKey(int length) {
        if (length == 0) {
            throw new IllegalArgumentException("an empty key");
        }
        return Bytes.unsafeWrap(readBytes(length));
    }
}
