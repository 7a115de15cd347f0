package homekv.rpc;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import homekv.storage.Bytes;
import homekv.storage.Range;
import java.nio.ByteBuffer;

/**
 * Where a scan goes on: behind a key, in the snapshot of a revision of a store. To a client it is bytes without a meaning.
 *
 * <p>On the wire: a byte for the version of this form, a byte that is 1 for a scan from the last key on, the number
 * of the store in 8 bytes, the revision in 8 bytes, the last key that was sent.
 */
record PageToken(boolean descending, long store, long revision, Bytes lastKey) {
    private static final byte FORM = 1;

    static final int HEADER_BYTES = 2 + 2 * Long.BYTES;

    static InvalidProtocolBufferException malformed() {
        return new InvalidProtocolBufferException("page_token is none that this server has sent");
    }

    static PageToken of(Bytes token) throws InvalidProtocolBufferException {
        if (token.length() <= HEADER_BYTES) {
            throw malformed();
        }
        ByteBuffer in = ByteBuffer.wrap(token.unsafeArray());
        byte form = in.get();
        byte descending = in.get();
        long store = in.getLong();
        long revision = in.getLong();
        if (form != FORM || descending < 0 || descending > 1 || revision < 0) {
            throw malformed();
        }
        byte[] lastKey = new byte[in.remaining()];
        in.get(lastKey);
        return new PageToken(descending == 1, store, revision, Bytes.unsafeWrap(lastKey));
    }

    ByteString bytes() {
        ByteBuffer out = ByteBuffer.allocate(HEADER_BYTES + lastKey.length())
                .put(FORM)
                .put((byte) (descending ? 1 : 0))
                .putLong(store)
                .putLong(revision)
                .put(lastKey.unsafeArray());
        return ByteString.copyFrom(out.flip());
    }

    /** What is left of the range that the scan began with. */
    Range rest(Range range) {
        return descending
                ? new Range(range.from(), lastKey)
                : new Range(Range.key(lastKey).to(), range.to());
    }
}
