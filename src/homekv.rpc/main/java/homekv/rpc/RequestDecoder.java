package homekv.rpc;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.WireFormat;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.storage.Bytes;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.Result;
import homekv.storage.Write;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;

/**
 * Reads requests from the wire straight into what the store takes, and holds them against the limits as it goes.
 *
 * <p>A generated parser would build an object for everything that a message claims to contain before anyone can look
 * at it: 64 MiB of empty records are 30 million objects. This one stops at the first key too many, and reads no key or
 * value that is too long. Fields that it does not know are skipped, as protobuf demands.
 */
final class RequestDecoder {
    /** The tag in front of a length-delimited field. */
    private static int tag(int fieldNumber) {
        return fieldNumber << 3 | WireFormat.WIRETYPE_LENGTH_DELIMITED;
    }

    // GetRequest and DelRequest have the same shape.
    private static final int KEYS = tag(GetRequest.KEYS_FIELD_NUMBER);
    private static final int RECORDS = tag(SetRequest.RECORDS_FIELD_NUMBER);
    private static final int RECORD_KEY = tag(Record.KEY_FIELD_NUMBER);
    private static final int RECORD_VALUE = tag(Record.VALUE_FIELD_NUMBER);

    private final CodedInputStream in;
    private final Limits limits;

    RequestDecoder(InputStream body, Limits limits) {
        this.in = CodedInputStream.newInstance(body);
        this.limits = limits;
    }

    /** The keys of a GetRequest or a DelRequest. */
    List<Bytes> keys() throws IOException, RefusedException {
        List<Bytes> keys = new ArrayList<>();
        for (int tag; (tag = in.readTag()) != 0; ) {
            if (tag == KEYS) {
                checkCount(keys.size(), KEYS);
                keys.add(requireNotEmpty(key()));
            } else {
                skip(tag);
            }
        }
        return keys;
    }

    /** The records of a SetRequest: with a value a put, without one a deletion. */
    List<Write> writes() throws IOException, RefusedException {
        List<Write> writes = new ArrayList<>();
        for (int tag; (tag = in.readTag()) != 0; ) {
            if (tag == RECORDS) {
                checkCount(writes.size(), RECORDS);
                writes.add(record());
            } else {
                skip(tag);
            }
        }
        return writes;
    }

    private Write record() throws IOException, RefusedException {
        int outerLimit = in.pushLimit(in.readRawVarint32());
        Bytes key = null;
        Bytes value = null;
        for (int tag; (tag = in.readTag()) != 0; ) {
            if (tag == RECORD_KEY) {
                key = key();
            } else if (tag == RECORD_VALUE) {
                value = bytes(Limit.VALUE_BYTES, limits.valueBytes());
            } else {
                skip(tag);
            }
        }
        if (in.getBytesUntilLimit() != 0) {
            throw new InvalidProtocolBufferException("the message ends within a record");
        }
        in.popLimit(outerLimit);
        requireNotEmpty(key);
        return value == null ? new Write.Delete(key) : new Write.Put(key, value);
    }

    private Bytes key() throws IOException, RefusedException {
        return bytes(Limit.KEY_BYTES, limits.keyBytes());
    }

    private Bytes requireNotEmpty(Bytes key) throws RefusedException {
        if (key == null || key.length() == 0) {
            throw new RefusedException(new Result.Refused(Limit.KEY_BYTES, 0, limits.keyBytes()));
        }
        return key;
    }

    private Bytes bytes(Limit limit, int maxLength) throws IOException, RefusedException {
        int length = in.readRawVarint32();
        if (length > maxLength) {
            throw new RefusedException(new Result.Refused(limit, length, maxLength));
        }
        return Bytes.unsafeWrap(in.readRawBytes(length));
    }

    private void skip(int tag) throws IOException {
        if (!in.skipField(tag)) {
            throw new InvalidProtocolBufferException("a group ends that did not begin");
        }
    }

    /** Before another key is read: refuses it if it is one too many, and says how many there are in all. */
    private void checkCount(int keysSoFar, int keyTag) throws IOException, RefusedException {
        if (keysSoFar < limits.requestKeys()) {
            return;
        }
        int keys = keysSoFar;
        for (int tag = keyTag; tag != 0; tag = in.readTag()) {
            keys += tag == keyTag ? 1 : 0;
            skip(tag);
        }
        throw new RefusedException(new Result.Refused(Limit.REQUEST_KEYS, keys, limits.requestKeys()));
    }
}
