package homekv.rpc;

import com.google.protobuf.CodedOutputStream;
import homekv.rpc.proto.DelResponse;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Bytes;
import homekv.storage.Entry;
import homekv.storage.Reading;
import io.grpc.Drainable;
import io.grpc.KnownLength;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.List;

/**
 * A response of one of the methods that are called most, in the bytes that protobuf would make of its message, written
 * straight from what the store has found into the transport's buffer. Keys and values are copied there and nowhere else.
 *
 * <p>For one call, and to be drained once; not for several threads at a time.
 */
final class WireResponse extends InputStream implements KnownLength, Drainable {
    /** The most that stands before a key or a value: the tags and lengths of a record and of a field of it. */
    private static final int PREFIX_BYTES = 2 * (1 + 5);

    /** The tag of a length-delimited field, or of a number, with a field number below 16. */
    private static final int LENGTH_DELIMITED = 2;

    private static final int TAG_TYPE_BITS = 3;

    private final List<Bytes> keys;
    private final List<Entry> entries;

    /** What comes behind the records. */
    private final byte[] numbers;

    private int remainingBytes;

    private WireResponse(List<Bytes> keys, List<Entry> entries, byte[] numbers, int bytes) {
        this.keys = keys;
        this.entries = entries;
        this.numbers = numbers;
        this.remainingBytes = bytes;
    }

    /** A GetResponse; {@code bytes} is what {@link #getBytes} says. */
    static WireResponse get(List<Bytes> keys, Reading reading, int bytes) {
        byte[] numbers = new byte[1 + varintBytes(reading.revision())];
        number(numbers, 0, GetResponse.REVISION_FIELD_NUMBER, reading.revision());
        return new WireResponse(keys, reading.entries(), numbers, bytes);
    }

    /** The size of a GetResponse. */
    static long getBytes(List<Bytes> keys, Reading reading) {
        long bytes = 1 + varintBytes(reading.revision());
        for (int i = 0; i < keys.size(); i++) {
            bytes += ServerMessages.fieldBytes(
                    recordBytes(keys.get(i), reading.entries().get(i)));
        }
        return bytes;
    }

    static WireResponse set(long revision, int durability) {
        byte[] numbers = new byte[2 + 1 + varintBytes(revision) + 1 + varintBytes(durability)];
        int at = number(numbers, 0, SetResponse.SUCC_FIELD_NUMBER, 1);
        at = number(numbers, at, SetResponse.REVISION_FIELD_NUMBER, revision);
        number(numbers, at, SetResponse.DURABILITY_FIELD_NUMBER, durability);
        return new WireResponse(List.of(), List.of(), numbers, numbers.length);
    }

    static WireResponse del(long revision, long deleted, int durability) {
        byte[] numbers =
                new byte[2 + 1 + varintBytes(revision) + 1 + varintBytes(deleted) + 1 + varintBytes(durability)];
        int at = number(numbers, 0, DelResponse.SUCC_FIELD_NUMBER, 1);
        at = number(numbers, at, DelResponse.REVISION_FIELD_NUMBER, revision);
        at = number(numbers, at, DelResponse.DELETED_FIELD_NUMBER, deleted);
        number(numbers, at, DelResponse.DURABILITY_FIELD_NUMBER, durability);
        return new WireResponse(List.of(), List.of(), numbers, numbers.length);
    }

    private static long recordBytes(Bytes key, Entry entry) {
        return ServerMessages.fieldBytes(key.length())
                + (entry == null ? 0 : ServerMessages.fieldBytes(entry.value().length()));
    }

    private static int varintBytes(long number) {
        return CodedOutputStream.computeUInt64SizeNoTag(number);
    }

    private static int number(byte[] to, int at, int fieldNumber, long number) {
        to[at] = (byte) (fieldNumber << TAG_TYPE_BITS);
        return varint(to, at + 1, number);
    }

    private static int length(byte[] to, int at, int fieldNumber, long length) {
        to[at] = (byte) (fieldNumber << TAG_TYPE_BITS | LENGTH_DELIMITED);
        return varint(to, at + 1, length);
    }

    private static int varint(byte[] to, int at, long number) {
        long rest = number;
        int next = at;
        for (; (rest & ~0x7fL) != 0; rest >>>= 7) {
            to[next++] = (byte) (rest | 0x80);
        }
        to[next++] = (byte) rest;
        return next;
    }

    /** How many bytes the message has, until it is drained. */
    @Override
    public int available() {
        return remainingBytes;
    }

    @Override
    public int drainTo(OutputStream target) throws IOException {
        int bytes = remainingBytes;
        if (bytes > 0) {
            remainingBytes = 0;
            byte[] prefix = keys.isEmpty() ? null : new byte[PREFIX_BYTES];
            for (int i = 0; i < keys.size(); i++) {
                Bytes key = keys.get(i);
                Entry entry = entries.get(i);
                int at = length(prefix, 0, GetResponse.RECORDS_FIELD_NUMBER, recordBytes(key, entry));
                at = length(prefix, at, Record.KEY_FIELD_NUMBER, key.length());
                target.write(prefix, 0, at);
                target.write(key.unsafeArray());
                if (entry != null) {
                    target.write(
                            prefix,
                            0,
                            length(
                                    prefix,
                                    0,
                                    Record.VALUE_FIELD_NUMBER,
                                    entry.value().length()));
                    target.write(entry.value().unsafeArray());
                }
            }
            target.write(numbers);
        }
        return bytes;
    }

    /** There to complete the contract of a stream: gRPC drains. */
    @Override
    public int read() {
        throw new UnsupportedOperationException("a response is drained, not read");
    }
}
