package homekv.storage;

import java.util.ArrayList;
import java.util.List;

/** The bytes of a record: its header, and its body, in the only form that FORMAT.md has for it. */
final class RecordFormat {
    static final int HEADER_BYTES = 28;
    static final int BODY_LENGTH_AT = 4;
    static final int SEQUENCE_AT = 8;
    static final int FORCED_SEQUENCE_AT = 16;
    static final int BODY_CRC_AT = 24;

    private static final byte COMMITTED = 1;
    private static final byte COMMITTED_ENDING_LEASE = 2;
    private static final byte GRANTED = 3;
    private static final byte COMPACTED = 4;
    private static final byte CLOSED = 5;

    private static final byte PUT = 1;
    private static final byte PUT_WITH_LEASE = 2;
    private static final byte DELETE = 3;

    private static final int MIN_WRITE_BYTES = 1 + Integer.BYTES + 1;
    static final int LEASE_BYTES = 4 * Long.BYTES + 1;

    private RecordFormat() {}

    /** How long the body of this record is; longer than {@link Format#MAX_BODY_BYTES}, and it cannot be written. */
    static long bodyBytes(LogRecord record) {
        return switch (record) {
            case LogRecord.Committed committed -> {
                long bytes = 1 + Long.BYTES + Integer.BYTES + (endsLease(committed) ? 2 * Long.BYTES : 0);
                for (Write write : committed.writes()) {
                    bytes += writeBytes(write);
                }
                yield bytes;
            }
            case LogRecord.Granted granted -> 1 + 3 * Long.BYTES;
            case LogRecord.Compacted compacted -> 1 + Long.BYTES;
            case LogRecord.Closed closed ->
                1 + Integer.BYTES + (long) LEASE_BYTES * closed.leases().size();
        };
    }

    private static boolean endsLease(LogRecord.Committed committed) {
        return committed.endedLease() != 0;
    }

    private static long writeBytes(Write write) {
        return switch (write) {
            case Write.Put put ->
                1
                        + 2 * Integer.BYTES
                        + (put.lease() != 0 ? Long.BYTES : 0)
                        + (long) put.key().length()
                        + put.value().length();
            case Write.Delete delete -> 1 + Integer.BYTES + (long) delete.key().length();
        };
    }

    /** Writes a body; the array has room for it. The offset after it. */
    static int encode(LogRecord record, byte[] bytes, int offset) {
        int at = offset;
        switch (record) {
            case LogRecord.Committed committed -> {
                bytes[at++] = endsLease(committed) ? COMMITTED_ENDING_LEASE : COMMITTED;
                at = Format.putLong(bytes, at, committed.revision());
                if (endsLease(committed)) {
                    at = Format.putLong(bytes, at, committed.endedLease());
                    at = Format.putLong(bytes, at, committed.endedGrant());
                }
                at = Format.putInt(bytes, at, committed.writes().size());
                for (Write write : committed.writes()) {
                    at = encode(write, bytes, at);
                }
            }
            case LogRecord.Granted granted -> {
                bytes[at++] = GRANTED;
                at = Format.putLong(bytes, at, granted.lease());
                at = Format.putLong(bytes, at, granted.ttlMillis());
                at = Format.putLong(bytes, at, granted.grant());
            }
            case LogRecord.Compacted compacted -> {
                bytes[at++] = COMPACTED;
                at = Format.putLong(bytes, at, compacted.revision());
            }
            case LogRecord.Closed closed -> {
                bytes[at++] = CLOSED;
                at = Format.putInt(bytes, at, closed.leases().size());
                for (LeaseLeft lease : closed.leases()) {
                    at = encode(lease, bytes, at);
                }
            }
        }
        return at;
    }

    private static int encode(Write write, byte[] bytes, int offset) {
        int at = offset;
        byte[] key = write.key().unsafeArray();
        switch (write) {
            case Write.Put put -> {
                byte[] value = put.value().unsafeArray();
                bytes[at++] = put.lease() != 0 ? PUT_WITH_LEASE : PUT;
                at = Format.putInt(bytes, at, key.length);
                at = Format.putInt(bytes, at, value.length);
                if (put.lease() != 0) {
                    at = Format.putLong(bytes, at, put.lease());
                }
                at = Format.putBytes(bytes, at, key);
                at = Format.putBytes(bytes, at, value);
            }
            case Write.Delete delete -> {
                bytes[at++] = DELETE;
                at = Format.putInt(bytes, at, key.length);
                at = Format.putBytes(bytes, at, key);
            }
        }
        return at;
    }

    /** Writes a lease, as a record and a snapshot file have it, in {@code LEASE_BYTES}. The offset after it. */
    static int encode(LeaseLeft lease, byte[] bytes, int offset) {
        int at = offset;
        at = Format.putLong(bytes, at, lease.id());
        at = Format.putLong(bytes, at, lease.ttlMillis());
        at = Format.putLong(bytes, at, lease.leftMillis());
        at = Format.putLong(bytes, at, lease.grant());
        bytes[at++] = (byte) (lease.ended() ? 1 : 0);
        return at;
    }

    /**
     * Reads a body.
     *
     * @throws IllegalArgumentException if it is none; the message is one line
     */
    static LogRecord decode(byte[] bytes, int offset, int length) {
        FieldReader in = new FieldReader(bytes, offset, length);
        byte type = in.readByte();
        LogRecord record = switch (type) {
            case COMMITTED -> new LogRecord.Committed(in.readLong(0), decodeWrites(in), 0, 0);
            case COMMITTED_ENDING_LEASE -> {
                long revision = in.readLong(0);
                long endedLease = in.readLong(1);
                long endedGrant = in.readLong(0);
                yield new LogRecord.Committed(revision, decodeWrites(in), endedLease, endedGrant);
            }
            case GRANTED -> new LogRecord.Granted(in.readLong(1), in.readLong(0), in.readLong(0));
            case COMPACTED -> new LogRecord.Compacted(in.readLong(0));
            case CLOSED -> {
                int count = in.readCount(LEASE_BYTES);
                List<LeaseLeft> leases = new ArrayList<>(count);
                for (int i = 0; i < count; i++) {
                    leases.add(decodeLease(in));
                }
                yield new LogRecord.Closed(leases);
            }
            default -> throw new IllegalArgumentException("there is no record of type " + type);
        };
        if (in.remaining() > 0) {
            throw new IllegalArgumentException(in.remaining() + " bytes follow the record in its body");
        }
        return record;
    }

    private static List<Write> decodeWrites(FieldReader in) {
        int count = in.readCount(MIN_WRITE_BYTES);
        List<Write> writes = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            byte type = in.readByte();
            int keyBytes = in.readInt();
            writes.add(
                    switch (type) {
                        case PUT -> decodePut(in, keyBytes, in.readInt(), 0);
                        case PUT_WITH_LEASE -> decodePut(in, keyBytes, in.readInt(), in.readLong(1));
                        case DELETE -> new Write.Delete(in.readKey(keyBytes));
                        default -> throw new IllegalArgumentException("there is no write of type " + type);
                    });
        }
        return writes;
    }

    private static Write decodePut(FieldReader in, int keyBytes, int valueBytes, long lease) {
        return new Write.Put(in.readKey(keyBytes), Bytes.unsafeWrap(in.readBytes(valueBytes)), lease);
    }

    static LeaseLeft decodeLease(FieldReader in) {
        return new LeaseLeft(in.readLong(1), in.readLong(0), in.readLong(0), in.readLong(0), in.readFlag());
    }
}
