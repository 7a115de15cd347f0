package homekv.rpc;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.WireFormat;
import homekv.rpc.proto.CompactRequest;
import homekv.rpc.proto.DiffRequest;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.HistoryRequest;
import homekv.rpc.proto.LeaseGrantRequest;
import homekv.rpc.proto.LeaseRequest;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.ScanRequest;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.TxnRequest;
import homekv.rpc.proto.WatchRequest;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.Compare;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.Op;
import homekv.storage.Range;
import homekv.storage.Result;
import homekv.storage.Txn;
import homekv.storage.Write;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;

/**
 * Reads requests from the wire straight into what the store takes, and holds them against the limits as it goes.
 *
 * <p>A generated parser would build an object for everything that a message claims to contain before anyone can look
 * at it: 64 MiB of empty records are 30 million objects. This one stops at the first key too many, and reads no key or
 * value that is too long. Fields that it does not know are skipped, as protobuf demands; of a field that stands twice
 * the last one counts, and of a oneof the last member; a message that stands twice is merged.
 *
 * <p>What is missing from a message is found out at its end, since any field may still come.
 */
final class RequestDecoder {
    /** The keys of a GetRequest, and which revision to read; a DelRequest is one without a revision. */
    record Get(List<Bytes> keys, OptionalLong revision) {}

    /** A ScanRequest; a limit of 0 is none, and a page token of null is none. */
    record Scan(
            Range range,
            boolean descending,
            long limit,
            boolean keysOnly,
            boolean countOnly,
            OptionalLong revision,
            Bytes pageToken) {}

    /** A HistoryRequest. */
    record History(Bytes key, OptionalLong fromRevision) {}

    /** A DiffRequest. */
    record Diff(Range range, long fromRevision, OptionalLong toRevision) {}

    /** A WatchRequest, and how long to wait for changes before it is said that there are none. */
    record Watch(
            Range range,
            OptionalLong fromRevision,
            boolean previous,
            boolean puts,
            boolean deletes,
            long progressNanos) {}

    /** A LeaseGrantRequest; lease 0 is any. */
    record LeaseGrant(long ttlMillis, long lease) {}

    private static final int VARINT = WireFormat.WIRETYPE_VARINT;
    private static final int LENGTH_DELIMITED = WireFormat.WIRETYPE_LENGTH_DELIMITED;

    private static final long MIN_PROGRESS_MILLIS = 100;
    private static final long DEFAULT_PROGRESS_MILLIS = TimeUnit.MINUTES.toMillis(10);

    private static final Bytes EMPTY = Bytes.unsafeWrap(new byte[0]);

    private final CodedInputStream in;
    private final Limits limits;

    /** The steps and comparisons of a transaction that have been met, those within others included. */
    private int steps;

    RequestDecoder(InputStream body, Limits limits) {
        // One that is in an array already is read there, without a buffer.
        this.in = body instanceof RequestCall.ShortBody inArray
                ? CodedInputStream.newInstance(inArray.array())
                : CodedInputStream.newInstance(body);
        this.limits = limits;
    }

    // ---- Keys and records ----

    Get get() throws IOException, RefusedException {
        List<Bytes> keys = new ArrayList<>();
        OptionalLong revision = OptionalLong.empty();
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case GetRequest.KEYS_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> {
                    checkCount(keys.size(), tag);
                    keys.add(requireNotEmpty(key()));
                }
                case GetRequest.REVISION_FIELD_NUMBER << 3 | VARINT -> revision = OptionalLong.of(unsigned());
                default -> skip(tag);
            }
        }
        return new Get(keys, revision);
    }

    /** The records of a SetRequest: with a value a put, without one a deletion. */
    List<Write> writes() throws IOException, RefusedException {
        List<Write> writes = new ArrayList<>();
        long lease = 0;
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case SetRequest.RECORDS_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> {
                    checkCount(writes.size(), tag);
                    writes.add(record());
                }
                case SetRequest.LEASE_FIELD_NUMBER << 3 | VARINT -> lease = in.readUInt64();
                default -> skip(tag);
            }
        }
        return lease == 0 ? writes : attach(writes, lease);
    }

    private static List<Write> attach(List<Write> writes, long lease) {
        writes.replaceAll(write -> switch (write) {
            case Write.Put put -> new Write.Put(put.key(), put.value(), lease);
            case Write.Delete delete -> delete;
        });
        return writes;
    }

    private Write record() throws IOException, RefusedException {
        int outer = begin();
        Bytes key = null;
        Bytes value = null;
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case Record.KEY_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> key = key();
                case Record.VALUE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> value = value();
                default -> skip(tag);
            }
        }
        end(outer);
        requireNotEmpty(key);
        return value == null ? new Write.Delete(key) : new Write.Put(key, value);
    }

    // ---- Ranges ----

    /** A Range message, as far as it has been read; shared by all that has a range, or a key in its place. */
    private static final class Target {
        private Bytes key;
        private Bytes from;
        private Bytes to;
        private Bytes prefix;
        private boolean isRange;
    }

    /** Reads a range into {@code target}; what is there of an earlier one is kept as far as it is not replaced. */
    private void range(Target target) throws IOException, RefusedException {
        if (target.key != null) {
            target.key = null;
            target.from = null;
            target.to = null;
            target.prefix = null;
        }
        target.isRange = true;
        int outer = begin();
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case homekv.rpc.proto.Range.FROM_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> target.from = rangeEnd();
                case homekv.rpc.proto.Range.TO_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> target.to = rangeEnd();
                case homekv.rpc.proto.Range.PREFIX_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> target.prefix = rangeEnd();
                default -> skip(tag);
            }
        }
        end(outer);
    }

    /** Reads the key that stands in the place of a range. */
    private void key(Target target) throws IOException, RefusedException {
        target.key = key();
        target.isRange = false;
    }

    /** The range that has been read, whole; every key where there was none. */
    private static Range whole(Target target) throws IOException {
        if (target.prefix == null) {
            return new Range(target.from == null ? EMPTY : target.from, target.to);
        }
        if (target.from != null && target.from.length() > 0 || target.to != null) {
            throw new IncompleteException("a range has a prefix and ends beside it; leave one out");
        }
        return Range.prefix(target.prefix);
    }

    private Range keyOrRange(Target target, String whose) throws IOException, RefusedException {
        if (target.isRange) {
            return whole(target);
        }
        if (target.key == null) {
            throw new IncompleteException(whose + " has neither a key nor a range");
        }
        return Range.key(requireNotEmpty(target.key));
    }

    // ---- Transactions ----

    /** How many steps and comparisons have been read. */
    int steps() {
        return steps;
    }

    /** A TxnRequest. */
    Txn txn() throws IOException, RefusedException {
        TxnFields fields = new TxnFields();
        txn(fields, 1);
        return fields.whole();
    }

    /** A message that can be read, but from which something is missing. Thrown when all of it has been read. */
    private static final class IncompleteException extends InvalidProtocolBufferException {
        private static final long serialVersionUID = 1;

        IncompleteException(String message) {
            super(message);
        }
    }

    private static final class TxnFields {
        private final List<Compare> compares = new ArrayList<>();
        private final List<Op> then = new ArrayList<>();
        private final List<Op> otherwise = new ArrayList<>();

        /** What is wrong with the first part that is; it matters only if no other step takes this one's place. */
        private IncompleteException incomplete;

        Txn whole() throws IncompleteException {
            if (incomplete != null) {
                throw incomplete;
            }
            return new Txn(compares, then, otherwise);
        }
    }

    private void txn(TxnFields fields, int depth) throws IOException, RefusedException {
        if (depth > limits.txnDepth()) {
            throw new RefusedException(new Result.Refused(Limit.TXN_DEPTH, depth, limits.txnDepth()));
        }
        for (int tag; (tag = in.readTag()) != 0; ) {
            try {
                switch (tag) {
                    case TxnRequest.COMPARES_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> {
                        countStep();
                        fields.compares.add(compare());
                    }
                    case TxnRequest.THEN_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> {
                        countStep();
                        fields.then.add(op(depth));
                    }
                    case TxnRequest.OTHERWISE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> {
                        countStep();
                        fields.otherwise.add(op(depth));
                    }
                    default -> skip(tag);
                }
            } catch (IncompleteException e) {
                fields.incomplete = fields.incomplete == null ? e : fields.incomplete;
            }
        }
    }

    private void countStep() throws RefusedException {
        if (++steps > limits.requestKeys()) {
            throw new RefusedException(new Result.Refused(Limit.REQUEST_KEYS, steps, limits.requestKeys()));
        }
    }

    private Compare compare() throws IOException, RefusedException {
        int outer = begin();
        Target target = new Target();
        int operator = 0;
        int operand = 0;
        Bytes value = null;
        long number = 0;
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case homekv.rpc.proto.Compare.KEY_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> key(target);
                case homekv.rpc.proto.Compare.RANGE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> range(target);
                case homekv.rpc.proto.Compare.OPERATOR_FIELD_NUMBER << 3 | VARINT -> operator = in.readEnum();
                case homekv.rpc.proto.Compare.VALUE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> {
                    operand = homekv.rpc.proto.Compare.VALUE_FIELD_NUMBER;
                    value = value();
                }
                case homekv.rpc.proto.Compare.VERSION_FIELD_NUMBER << 3 | VARINT,
                        homekv.rpc.proto.Compare.CREATE_REVISION_FIELD_NUMBER << 3 | VARINT,
                        homekv.rpc.proto.Compare.MODIFICATION_REVISION_FIELD_NUMBER << 3 | VARINT,
                        homekv.rpc.proto.Compare.LEASE_FIELD_NUMBER << 3 | VARINT,
                        homekv.rpc.proto.Compare.COUNT_FIELD_NUMBER << 3 | VARINT -> {
                    operand = WireFormat.getTagFieldNumber(tag);
                    number = unsigned();
                }
                default -> skip(tag);
            }
        }
        end(outer);
        Range range = keyOrRange(target, "a comparison");
        return switch (operand) {
            case homekv.rpc.proto.Compare.VALUE_FIELD_NUMBER -> new Compare.Value(range, operator(operator), value);
            case homekv.rpc.proto.Compare.VERSION_FIELD_NUMBER ->
                new Compare.Number(range, Compare.Field.VERSION, operator(operator), number);
            case homekv.rpc.proto.Compare.CREATE_REVISION_FIELD_NUMBER ->
                new Compare.Number(range, Compare.Field.CREATE_REVISION, operator(operator), number);
            case homekv.rpc.proto.Compare.MODIFICATION_REVISION_FIELD_NUMBER ->
                new Compare.Number(range, Compare.Field.MODIFICATION_REVISION, operator(operator), number);
            case homekv.rpc.proto.Compare.LEASE_FIELD_NUMBER ->
                new Compare.Number(range, Compare.Field.LEASE, operator(operator), number);
            case homekv.rpc.proto.Compare.COUNT_FIELD_NUMBER -> new Compare.Count(range, operator(operator), number);
            default ->
                throw new IncompleteException("a comparison has nothing to compare with: no value, version,"
                        + " create_revision, modification_revision, lease or count");
        };
    }

    private static Compare.Operator operator(int number) throws IOException {
        return switch (number) {
            case homekv.rpc.proto.Compare.Operator.EQUAL_VALUE -> Compare.Operator.EQUAL;
            case homekv.rpc.proto.Compare.Operator.NOT_EQUAL_VALUE -> Compare.Operator.NOT_EQUAL;
            case homekv.rpc.proto.Compare.Operator.LESS_VALUE -> Compare.Operator.LESS;
            case homekv.rpc.proto.Compare.Operator.GREATER_VALUE -> Compare.Operator.GREATER;
            default ->
                throw new IncompleteException("a comparison has the unknown operator " + number
                        + "; there are EQUAL, NOT_EQUAL, LESS and GREATER");
        };
    }

    /** What the members of Op's oneof have, whichever it is. */
    private static final class OpFields {
        private final Target target = new Target();
        private boolean descending;
        private int limit;
        private boolean keysOnly;
        private boolean countOnly;
        private Bytes value = EMPTY;
        private long lease;
        private boolean previous;
        private long by;
        private TxnFields txn;
    }

    /** A step of a transaction that lies so deep. */
    private Op op(int depth) throws IOException, RefusedException {
        int outer = begin();
        int member = 0;
        OpFields fields = null;
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case homekv.rpc.proto.Op.GET_FIELD_NUMBER << 3 | LENGTH_DELIMITED,
                        homekv.rpc.proto.Op.SCAN_FIELD_NUMBER << 3 | LENGTH_DELIMITED,
                        homekv.rpc.proto.Op.PUT_FIELD_NUMBER << 3 | LENGTH_DELIMITED,
                        homekv.rpc.proto.Op.DELETE_FIELD_NUMBER << 3 | LENGTH_DELIMITED,
                        homekv.rpc.proto.Op.INCREMENT_FIELD_NUMBER << 3 | LENGTH_DELIMITED,
                        homekv.rpc.proto.Op.TXN_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> {
                    if (member != WireFormat.getTagFieldNumber(tag)) {
                        member = WireFormat.getTagFieldNumber(tag);
                        fields = new OpFields();
                    }
                    int outerOfMember = begin();
                    member(member, fields, depth);
                    end(outerOfMember);
                }
                default -> skip(tag);
            }
        }
        end(outer);
        return switch (member) {
            case homekv.rpc.proto.Op.GET_FIELD_NUMBER -> new Op.Get(requireNotEmpty(fields.target.key));
            case homekv.rpc.proto.Op.SCAN_FIELD_NUMBER ->
                new Op.Scan(whole(fields.target), fields.descending, fields.limit, fields.keysOnly, fields.countOnly);
            case homekv.rpc.proto.Op.PUT_FIELD_NUMBER ->
                new Op.Put(requireNotEmpty(fields.target.key), fields.value, fields.lease, fields.previous);
            case homekv.rpc.proto.Op.DELETE_FIELD_NUMBER ->
                new Op.Delete(keyOrRange(fields.target, "a deletion"), fields.previous);
            case homekv.rpc.proto.Op.INCREMENT_FIELD_NUMBER ->
                new Op.Increment(requireNotEmpty(fields.target.key), fields.by);
            case homekv.rpc.proto.Op.TXN_FIELD_NUMBER -> fields.txn.whole();
            default ->
                throw new IncompleteException("a step has nothing to do: no get, scan, put, delete, increment or txn");
        };
    }

    private void member(int member, OpFields fields, int depth) throws IOException, RefusedException {
        switch (member) {
            case homekv.rpc.proto.Op.GET_FIELD_NUMBER -> get(fields);
            case homekv.rpc.proto.Op.SCAN_FIELD_NUMBER -> scan(fields);
            case homekv.rpc.proto.Op.PUT_FIELD_NUMBER -> put(fields);
            case homekv.rpc.proto.Op.DELETE_FIELD_NUMBER -> delete(fields);
            case homekv.rpc.proto.Op.INCREMENT_FIELD_NUMBER -> increment(fields);
            default -> {
                fields.txn = fields.txn == null ? new TxnFields() : fields.txn;
                txn(fields.txn, depth + 1);
            }
        }
    }

    private void get(OpFields fields) throws IOException, RefusedException {
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case homekv.rpc.proto.Op.Get.KEY_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> key(fields.target);
                default -> skip(tag);
            }
        }
    }

    private void scan(OpFields fields) throws IOException, RefusedException {
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case homekv.rpc.proto.Op.Scan.RANGE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> range(fields.target);
                case homekv.rpc.proto.Op.Scan.DESCENDING_FIELD_NUMBER << 3 | VARINT ->
                    fields.descending = in.readBool();
                case homekv.rpc.proto.Op.Scan.LIMIT_FIELD_NUMBER << 3 | VARINT -> {
                    int limit = in.readUInt32();
                    fields.limit = limit < 0 ? Integer.MAX_VALUE : limit; // It is unsigned.
                }
                case homekv.rpc.proto.Op.Scan.KEYS_ONLY_FIELD_NUMBER << 3 | VARINT -> fields.keysOnly = in.readBool();
                case homekv.rpc.proto.Op.Scan.COUNT_ONLY_FIELD_NUMBER << 3 | VARINT -> fields.countOnly = in.readBool();
                default -> skip(tag);
            }
        }
    }

    private void put(OpFields fields) throws IOException, RefusedException {
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case homekv.rpc.proto.Op.Put.KEY_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> key(fields.target);
                case homekv.rpc.proto.Op.Put.VALUE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> fields.value = value();
                case homekv.rpc.proto.Op.Put.LEASE_FIELD_NUMBER << 3 | VARINT -> fields.lease = in.readUInt64();
                case homekv.rpc.proto.Op.Put.PREVIOUS_FIELD_NUMBER << 3 | VARINT -> fields.previous = in.readBool();
                default -> skip(tag);
            }
        }
    }

    private void delete(OpFields fields) throws IOException, RefusedException {
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case homekv.rpc.proto.Op.Delete.KEY_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> key(fields.target);
                case homekv.rpc.proto.Op.Delete.RANGE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> range(fields.target);
                case homekv.rpc.proto.Op.Delete.PREVIOUS_FIELD_NUMBER << 3 | VARINT -> fields.previous = in.readBool();
                default -> skip(tag);
            }
        }
    }

    private void increment(OpFields fields) throws IOException, RefusedException {
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case homekv.rpc.proto.Op.Increment.KEY_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> key(fields.target);
                case homekv.rpc.proto.Op.Increment.BY_FIELD_NUMBER << 3 | VARINT -> fields.by = in.readSInt64();
                default -> skip(tag);
            }
        }
    }

    // ---- Ranges read as streams ----

    Scan scan() throws IOException, RefusedException {
        Target range = new Target();
        boolean descending = false;
        long limit = 0;
        boolean keysOnly = false;
        boolean countOnly = false;
        OptionalLong revision = OptionalLong.empty();
        Bytes pageToken = null;
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case ScanRequest.RANGE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> range(range);
                case ScanRequest.DESCENDING_FIELD_NUMBER << 3 | VARINT -> descending = in.readBool();
                case ScanRequest.LIMIT_FIELD_NUMBER << 3 | VARINT -> limit = unsigned();
                case ScanRequest.KEYS_ONLY_FIELD_NUMBER << 3 | VARINT -> keysOnly = in.readBool();
                case ScanRequest.COUNT_ONLY_FIELD_NUMBER << 3 | VARINT -> countOnly = in.readBool();
                case ScanRequest.REVISION_FIELD_NUMBER << 3 | VARINT -> revision = OptionalLong.of(unsigned());
                case ScanRequest.PAGE_TOKEN_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> {
                    int length = in.readRawVarint32();
                    if (length > PageToken.HEADER_BYTES + limits.keyBytes()) {
                        throw PageToken.malformed();
                    }
                    pageToken = Bytes.unsafeWrap(in.readRawBytes(length));
                }
                default -> skip(tag);
            }
        }
        return new Scan(
                whole(range),
                descending,
                limit,
                keysOnly,
                countOnly,
                revision,
                pageToken == null || pageToken.length() == 0 ? null : pageToken);
    }

    History history() throws IOException, RefusedException {
        Bytes key = null;
        OptionalLong fromRevision = OptionalLong.empty();
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case HistoryRequest.KEY_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> key = key();
                case HistoryRequest.FROM_REVISION_FIELD_NUMBER << 3 | VARINT ->
                    fromRevision = OptionalLong.of(unsigned());
                default -> skip(tag);
            }
        }
        return new History(requireNotEmpty(key), fromRevision);
    }

    Diff diff() throws IOException, RefusedException {
        Target range = new Target();
        long fromRevision = 0;
        OptionalLong toRevision = OptionalLong.empty();
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case DiffRequest.RANGE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> range(range);
                case DiffRequest.FROM_REVISION_FIELD_NUMBER << 3 | VARINT -> fromRevision = unsigned();
                case DiffRequest.TO_REVISION_FIELD_NUMBER << 3 | VARINT -> toRevision = OptionalLong.of(unsigned());
                default -> skip(tag);
            }
        }
        if (toRevision.isPresent() && toRevision.getAsLong() < fromRevision) {
            throw new InvalidProtocolBufferException(
                    "from_revision is " + fromRevision + ", above to_revision, which is " + toRevision.getAsLong());
        }
        return new Diff(whole(range), fromRevision, toRevision);
    }

    Watch watch() throws IOException, RefusedException {
        Target range = new Target();
        OptionalLong fromRevision = OptionalLong.empty();
        boolean previous = false;
        boolean puts = true;
        boolean deletes = true;
        long progressMillis = DEFAULT_PROGRESS_MILLIS;
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case WatchRequest.RANGE_FIELD_NUMBER << 3 | LENGTH_DELIMITED -> range(range);
                case WatchRequest.FROM_REVISION_FIELD_NUMBER << 3 | VARINT ->
                    fromRevision = OptionalLong.of(unsigned());
                case WatchRequest.PREVIOUS_FIELD_NUMBER << 3 | VARINT -> previous = in.readBool();
                case WatchRequest.NO_PUTS_FIELD_NUMBER << 3 | VARINT -> puts = !in.readBool();
                case WatchRequest.NO_DELETES_FIELD_NUMBER << 3 | VARINT -> deletes = !in.readBool();
                case WatchRequest.PROGRESS_MILLIS_FIELD_NUMBER << 3 | VARINT -> {
                    long millis = Integer.toUnsignedLong(in.readUInt32());
                    progressMillis = millis == 0 ? DEFAULT_PROGRESS_MILLIS : millis;
                }
                default -> skip(tag);
            }
        }
        if (fromRevision.isPresent() && fromRevision.getAsLong() == 0) {
            throw new InvalidProtocolBufferException(
                    "from_revision is 0, and no change has that; leave it out to begin with the next one");
        }
        if (!puts && !deletes) {
            throw new InvalidProtocolBufferException("no_puts and no_deletes together leave nothing to watch");
        }
        if (progressMillis < MIN_PROGRESS_MILLIS) {
            throw new InvalidProtocolBufferException(
                    "progress_millis is " + progressMillis + ", and has to be " + MIN_PROGRESS_MILLIS + " at least");
        }
        return new Watch(
                whole(range), fromRevision, previous, puts, deletes, TimeUnit.MILLISECONDS.toNanos(progressMillis));
    }

    // ---- Numbers alone ----

    Command.Compact compact() throws IOException {
        return new Command.Compact(number(CompactRequest.REVISION_FIELD_NUMBER, true));
    }

    /** The lease of a LeaseRequest. */
    long lease() throws IOException {
        return number(LeaseRequest.LEASE_FIELD_NUMBER, false);
    }

    private long number(int fieldNumber, boolean saturated) throws IOException {
        long number = 0;
        for (int tag; (tag = in.readTag()) != 0; ) {
            if (tag == (fieldNumber << 3 | VARINT)) {
                number = saturated ? unsigned() : in.readUInt64();
            } else {
                skip(tag);
            }
        }
        return number;
    }

    LeaseGrant leaseGrant() throws IOException {
        long ttlMillis = 0;
        long lease = 0;
        for (int tag; (tag = in.readTag()) != 0; ) {
            switch (tag) {
                case LeaseGrantRequest.TTL_MILLIS_FIELD_NUMBER << 3 | VARINT -> ttlMillis = unsigned();
                case LeaseGrantRequest.LEASE_FIELD_NUMBER << 3 | VARINT -> lease = in.readUInt64();
                default -> skip(tag);
            }
        }
        if (lease < 0) {
            throw new InvalidProtocolBufferException("a lease has the number " + Long.toUnsignedString(lease) + ", and "
                    + Long.MAX_VALUE + " is the highest");
        }
        return new LeaseGrant(ttlMillis, lease);
    }

    // ---- Parts ----

    /** Begins a message within; what it returns goes to {@link #end}. */
    private int begin() throws IOException {
        return in.pushLimit(in.readRawVarint32());
    }

    private void end(int outerLimit) throws IOException {
        if (in.getBytesUntilLimit() != 0) {
            throw new InvalidProtocolBufferException("the message ends within another one in it");
        }
        in.popLimit(outerLimit);
    }

    /** A number of 64 bits without a sign; one over the largest long means no more than that does. */
    private long unsigned() throws IOException {
        long number = in.readUInt64();
        return number < 0 ? Long.MAX_VALUE : number;
    }

    private Bytes key() throws IOException, RefusedException {
        return bytes(Limit.KEY_BYTES, limits.keyBytes());
    }

    private Bytes value() throws IOException, RefusedException {
        return bytes(Limit.VALUE_BYTES, limits.valueBytes());
    }

    /** A key, or the first one behind it, which is longer by a byte. */
    private Bytes rangeEnd() throws IOException, RefusedException {
        int length = in.readRawVarint32();
        if (length > limits.keyBytes() + 1) {
            throw new RefusedException(new Result.Refused(Limit.KEY_BYTES, length, limits.keyBytes()));
        }
        return Bytes.unsafeWrap(in.readRawBytes(length));
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
